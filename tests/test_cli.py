"""pyclush, in process and as a program of its own, on real servers."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pyclustershell
from pyclustershell.cli.clush import main
from pyclustershell.cli.copying import CopyHandler, human
from pyclustershell.cli.display import Display
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.task import task_self

DEADLINE = 30.0


class Outcome(NamedTuple):
    """What a run gave."""

    code: int
    out: bytes
    err: bytes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-8]") as running:
        yield running


@pytest.fixture
def pyclush(cluster: LoopbackCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Runs main() in this process, on the cluster."""

    def call(*arguments: str) -> Outcome:
        try:
            code = main(["-o", f"-F {cluster.ssh_config}", *arguments])
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        return Outcome(code, *capfdbinary.readouterr())

    return call


def program(*arguments: str, **kwargs: Any) -> Any:
    """Runs pyclush as a program."""
    command = [sys.executable, "-m", "pyclustershell.cli.clush", *arguments]
    source = str(Path(pyclustershell.__file__).parent.parent)
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def finish(process: Any) -> Outcome:
    with process:
        out, err = process.communicate(timeout=DEADLINE)
    return Outcome(process.returncode, out, err)


def lines(data: bytes) -> list[bytes]:
    """The lines in an order that does not depend on which node was the first."""
    return sorted(data.splitlines())


# -- the first example --


def test_demo() -> None:
    done = finish(
        program(
            "--demo", "-b", "-w", "node[1-8]", "uname -sr; echo $PYCLUSTERSHELL_NODE | tr -d 0-9"
        )
    )
    uname = os.uname()
    assert done.out.decode() == (
        f"---------------\nnode[1-8] (8)\n---------------\n{uname.sysname} {uname.release}\nnode\n"
    )
    assert (done.err, done.code) == (b"", 0)


def test_demo_takes_further_ssh_options() -> None:
    done = finish(program("--demo", "-w", "a,b", "-o", "-l nobody", "true"))
    assert done.code == 1
    assert re.fullmatch(rb"pyclush: a,b \(2\): .*[Pp]ermission denied.*\n", done.err)


# -- output --


def test_live_output(pyclush: Any) -> None:
    done = pyclush("-w", "node[1-2]", "echo $PYCLUSTERSHELL_NODE out; echo err >&2")
    assert lines(done.out) == [b"node1: node1 out", b"node2: node2 out"]
    assert lines(done.err) == [b"node1: err", b"node2: err"]
    assert done.code == 0


def test_words_are_joined(pyclush: Any) -> None:
    """Options after the command's first word are the command's."""
    assert (
        pyclush("-w", "node1", "printf", "%s-", "a", "-b", "-w", "x").out == b"node1: a--b--w-x-\n"
    )


def test_bytes_arrive_as_they_are(pyclush: Any) -> None:
    data = bytes(set(range(256)) - {10})
    octal = "".join(f"\\{byte:03o}" for byte in data)
    done = pyclush("-w", "node1", f"printf '{octal}\\n'; printf '\\377\\n' >&2")
    assert done.out == b"node1: " + data + b"\n"
    assert done.err == b"node1: \xff\n"


def test_gathered_output(pyclush: Any) -> None:
    """By exit status, then by the number of nodes."""
    command = "case $PYCLUSTERSHELL_NODE in node5) echo 5; exit 1;; node3) echo 3;; *) echo x; esac"
    done = pyclush("-b", "-w", "node[1-6]", command)
    rule = "-" * 15
    assert done.out.decode().splitlines() == [
        *(rule, "node[1-2,4,6] (4)", rule, "x"),
        *(rule, "node3", rule, "3"),
        *(rule, "node5", rule, "5"),
    ]
    assert done.err == b"pyclush: node5: exited with exit code 1\n"


def test_gathering_keeps_errors_live(pyclush: Any) -> None:
    done = pyclush("-b", "-w", "node[1-2]", "echo same; echo err >&2")
    assert done.out.count(b"same") == 1
    assert lines(done.err) == [b"node1: err", b"node2: err"]


def test_gathered_output_of_nodes_that_time_out(pyclush: Any) -> None:
    done = pyclush("-b", "-u", "2", "-w", "node[1-2]", "echo so far; exec sleep 600")
    assert done.out.splitlines()[1::2] == [b"node[1-2] (2)", b"so far"]
    assert done.err == b"pyclush: node[1-2] (2): command timeout\n"


def test_verbose_gathering_prints_lines_as_well(pyclush: Any) -> None:
    done = pyclush("-bv", "-w", "node1", "echo line")
    assert done.out.splitlines() == [b"node1: line", b"-" * 15, b"node1", b"-" * 15, b"line"]


def test_quiet(pyclush: Any) -> None:
    done = pyclush("-bq", "-w", "node[1-2]", "echo x; exit 3")
    assert done.out.splitlines() == [b"-" * 15, b"node[1-2]", b"-" * 15, b"x"]
    assert done.err == b""
    assert done.code == 1


def test_commands_get_no_input(pyclush: Any) -> None:
    assert pyclush("-w", "node1", "wc -c").out.split() == [b"node1:", b"0"]


# -- nodes --


def test_nodes_and_exclusions_add_up(pyclush: Any) -> None:
    done = pyclush("-w", "node[1-3]", "-w", "node8", "-x", "node2", "-x", "node[3,5]", "echo")
    assert lines(done.out) == [b"node1: ", b"node8: "]


def test_fanout(pyclush: Any, tmp_path: Path) -> None:
    """With one at a time, a directory can serve as a lock."""
    lock = tmp_path / "lock"
    done = pyclush("-f", "1", "-w", "node[1-4]", f"mkdir {lock} && echo free && rmdir {lock}")
    assert lines(done.out) == [b"node%d: free" % number for number in (1, 2, 3, 4)]


# -- what can go wrong --


def test_exit_codes_are_summed_up(pyclush: Any) -> None:
    done = pyclush("-w", "node[1-4]", "exit $((${PYCLUSTERSHELL_NODE#node} / 2))")
    assert done.err.decode().splitlines() == [
        "pyclush: node[2-3] (2): exited with exit code 1",
        "pyclush: node4: exited with exit code 2",
    ]
    assert done.code == 1


def test_largest_exit_code(pyclush: Any) -> None:
    assert pyclush("-S", "-w", "node[1-4]", "exit ${PYCLUSTERSHELL_NODE#node}").code == 4
    assert pyclush("-S", "-w", "node[1-4]", "true").code == 0
    assert pyclush("-S", "-w", "node1", "kill -9 $$").code == 137


@pytest.mark.parametrize(("largest", "code"), [([], 1), (["-S"], 255)])
def test_timeouts(pyclush: Any, largest: list[str], code: int) -> None:
    command = "test $PYCLUSTERSHELL_NODE = node2 || exec sleep 600; exit 7"
    done = pyclush(*largest, "-u", "0.5", "-w", "node[1-3]", command)
    assert done.err.decode().splitlines() == [
        "pyclush: node[1,3] (2): command timeout",
        "pyclush: node2: exited with exit code 7",
    ]
    assert done.code == code


@pytest.mark.parametrize(("largest", "code"), [([], 1), (["-S"], 255)])
def test_failures_are_summed_up_by_cause(
    pyclush: Any, cluster: LoopbackCluster, tmp_path: Path, largest: list[str], code: int
) -> None:
    """Those that answer are not disturbed, and no failure is called an exit code."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and not listening
        config = tmp_path / "config"
        config.write_text(
            f"Host node3 node4 node5\n  Port {unused.getsockname()[1]}\n"
            "Host node6\n  HostKeyAlias node7\n"
            f"Host *\n  Include {cluster.ssh_config}\n"
        )
        done = pyclush(*largest, "-o", f"-F {config}", "-w", "node[1-6]", "echo ok")
    assert lines(done.out) == [b"node1: ok", b"node2: ok"]
    refused, unknown = done.err.splitlines()
    assert refused == b"pyclush: node[3-5] (3): Connection refused"
    assert re.fullmatch(rb"pyclush: node6: .*[Hh]ost key.*", unknown)
    assert done.code == code


def test_verbose_prints_what_ssh_would_say(pyclush: Any) -> None:
    done = pyclush("-v", "-w", "node[1-2]", "-l", "nobody", "true")
    assert len([line for line in lines(done.err) if line.startswith(b"node1: ")]) == 1
    assert len([line for line in lines(done.err) if line.startswith(b"pyclush: ")]) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["true"], "-w"),
        (["-w", "node1"], "no command"),
        (["-w", "node1", " "], "no command"),
        (["-w", "", "true"], "-w"),
        (["-w", "node[1-", "true"], "'node[1-'"),
        (["-w", "node1", "-x", "node1", "true"], "-x"),
        (["-w", "node1", "-x", "node[", "true"], "'node['"),
        (["-w", "node1", "-f", "many", "true"], "'many'"),
        (["-w", "node1", "-f", "0", "true"], "'0'"),
        (["-w", "node1", "-t", "-3", "true"], "'-3'"),
        (["-w", "node1", "-t", "soon", "true"], "'soon'"),
        (["-w", "node1", "-u", "nan", "true"], "'nan'"),
        (["-w", "node1", "-o", "-Z", "true"], "-Z"),
        (["-w", "node1", "-k", "true"], "-k"),
        (["--demo", "-w", "no/de", "true"], "'no/de'"),
        (["-w", "node1", "-c"], "--copy: nothing to copy"),
        (["-w", "node1", "-c", "/no/such/file", "--dest", "/tmp"], "/no/such/file"),
        (["-w", "node1", "--rcopy", "file", "--dest", "/no/such/dir"], "/no/such/dir"),
        (["-w", "node1", "--rcopy", "/no/such/dir/file"], "/no/such/dir"),
        (["-w", "node1", "-c", "one", "--rcopy", "two"], "--rcopy"),
        (["-w", "node1", "-p", "true"], "-p"),
    ],
)
def test_wrong_usage(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    complaint, advice = captured.err.splitlines()
    assert complaint.startswith("pyclush: ")
    assert named in complaint
    assert advice == "Try 'pyclush --help' for more."


def test_copies_and_back(pyclush: Any, cluster: LoopbackCluster, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.mkdir()
    (two / "inside").write_bytes(b"2")
    os.utime(one, (5, 5))
    done = pyclush("-w", "node[1-2]", "-c", str(one), str(two), "--dest", ".", "-p")
    assert done == Outcome(0, b"", b"")
    for node in ("node1", "node2"):
        home = Path(cluster.home(node))
        assert (home / "two" / "inside").read_bytes() == b"2"
        assert (home / "one").stat().st_mtime == 5
    back = tmp_path / "back"
    back.mkdir()
    done = pyclush("-v", "-w", "node[1-2]", "--rcopy", "one", "two", "--dest", str(back))
    assert done.code == 0
    assert sorted(done.err.decode().splitlines()) == [
        f"pyclush: node[1-2]:{name} -> {back}" for name in ("one", "two")
    ]
    names = sorted(path.name for path in back.iterdir())
    assert names == ["one.node1", "one.node2", "two.node1", "two.node2"]


def test_copies_without_a_destination_go_where_they_come_from(pyclush: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"the nodes are this host")
    assert pyclush("-w", "node1", "--copy", str(source)).code == 0
    assert pyclush("-w", "node1", "--rcopy", str(source)).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "source.node1"]


def test_copies_that_fail_are_summed_up(pyclush: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    done = pyclush("-w", "node[1-2]", "--copy", str(source), "--dest", "/no/such/directory/x")
    expected = "pyclush: node[1-2] (2): /no/such/directory/x: No such file or directory\n"
    assert done == Outcome(1, b"", expected.encode())
    assert pyclush("-S", "-q", "-w", "node1", "--rcopy", "missing", "--dest", str(tmp_path)) == (
        Outcome(1, b"", b"")
    )


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (123_456_789, "123 MB")],
)
def test_sizes_for_people(size: float, shown: str) -> None:
    assert human(size) == shown


class Terminal(io.BytesIO):
    """Takes what is printed on a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal() -> None:
    terminal = Terminal()
    display = Display(io.BytesIO(), terminal, quiet=False, program="pyclush")
    now = 0.0
    handler = CopyHandler(display, 2, verbose=False, clock=lambda: now)
    worker: Any = object()
    handler.ev_written(worker, "node1", "copy", 1000)
    assert terminal.getvalue() == b""
    now = 1.0
    handler.ev_written(worker, "node1", "copy", 2000)
    handler.ev_hup(worker, "node1", 0)
    now = 2.0
    handler.ev_written(worker, "node2", "copy", 4000)
    display.message("a line")
    assert terminal.getvalue() == (
        b"\rpyclush: 0/2 done, 2.0 kB, 2.0 kB/s\x1b[K"
        b"\rpyclush: 1/2 done, 6.0 kB, 3.0 kB/s\x1b[K"
        b"\r\x1b[K"
        b"pyclush: a line\n"
    )
    handler.ev_close(worker, timedout=False)
    assert terminal.getvalue().endswith(b"a line\n")


def test_run_leaves_the_threads_task_alone(pyclush: Any) -> None:
    """What a command line sets does not last."""
    before = task_self()
    pyclush("-f", "3", "-w", "node1", "true")
    after = task_self()
    assert after is not before
    assert (after.info("fanout"), after.info("ssh_options")) == (64, None)


# -- as a program --


def test_version() -> None:
    done = finish(program("--version"))
    assert done == Outcome(0, f"pyclush {pyclustershell.__version__}\n".encode(), b"")


def test_help_imports_no_paramiko() -> None:
    code = (
        "import sys\n"
        "from pyclustershell.cli.clush import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert 'paramiko' not in sys.modules, 'paramiko was imported'\n"
    )
    source = str(Path(pyclustershell.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.stderr, done.returncode) == (b"", 0)
    for option in ("-w", "-x", "-f", "-t", "-u", "-l", "-o", "-b", "-S", "-q", "-v", "--demo"):
        assert f"  {option}".encode() in done.stdout


def test_control_c_stops_everything(tmp_path: Path) -> None:
    """Status 130, no traceback, and the commands have ended."""
    held = tmp_path / "held"
    os.mkfifo(held)
    process = program(
        "--demo", "-b", "-w", "node[1-2]", f"echo started; echo up >&2; exec sleep 600 > {held}"
    )
    # Both commands have opened the pipe for writing; it ends when they do.
    with open(held, "rb") as pipe:
        assert {process.stderr.readline(), process.stderr.readline()} == {
            b"node1: up\n",
            b"node2: up\n",
        }
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert pipe.read() == b""
    assert done.code == 130
    assert done.err == b"pyclush: interrupted\n"
    assert done.out.splitlines()[1::2] == [b"node[1-2] (2)", b"started"]


def test_reader_that_goes_away() -> None:
    """As with any program in a pipe: quietly."""
    process = program("--demo", "-w", "node[1-4]", "yes")
    assert process.stdout.readline().endswith(b": y\n")
    process.stdout.close()
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    try:
        assert process.stderr.read() == b""
        assert process.wait() == 141
    finally:
        watchdog.cancel()
        process.stderr.close()
