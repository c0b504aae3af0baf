"""pyclush, in process and as a program of its own, on real servers."""

from __future__ import annotations

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

import paramiko
import pytest

import pyclustershell
from pyclustershell.cli.clush import main
from pyclustershell.cli.outputhandlers import file_name
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset import GroupResolver, GroupSource, set_std_group_resolver
from pyclustershell.nodeset.groups import GroupResolverConfig
from pyclustershell.task import task_self
from tests.helpers.sh import BEGUN, SHELL, sh
from tests.servers.processes import node_path

DEADLINE = 30.0

LOOKED_FOR = "which is looked for as"


class Outcome(NamedTuple):
    """The result of a run."""

    code: int
    out: bytes
    err: bytes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node[1-8]", shell=SHELL) as running:
        yield running


@pytest.fixture
def pyclush(cluster: LoopbackCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Runs main() in this process, on the cluster."""

    def call(*arguments: str) -> Outcome:
        with pytest.MonkeyPatch.context() as patch, open(os.devnull) as no_input:
            patch.setattr(sys, "stdin", no_input)
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
        env={**os.environ, "PYTHONPATH": source},
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
    # The nodes have the system's shell: two commands that all of them know.
    done = finish(program("--demo", "-b", "-w", "node[1-8]", "echo one&& echo two"))
    rule = "-" * 15
    assert done.out.decode().split() == [rule, "node[1-8]", "(8)", rule, "one", "two"]
    assert (done.err, done.code) == (b"", 0)


def test_demo_takes_further_ssh_options() -> None:
    done = finish(program("--demo", "-w", "a,b", "-o", "-l nobody", "true"))
    assert done.code == 1
    cause, sentence, number = done.err.splitlines()
    assert re.fullmatch(rb"pyclush: a,b \(2\): .*[Pp]ermission denied.*", cause)
    assert re.fullmatch(rb"pyclush:   [ab]: nobody@127.0.0.1: [Pp]ermission denied.*", sentence)
    assert number == b"pyclush: 0 of 2 ok"


# -- output --


def test_live_output(pyclush: Any) -> None:
    done = pyclush("-w", "node[1-2]", "echo $PYCLUSTERSHELL_NODE out; echo err >&2")
    assert lines(done.out) == [b"node1: node1 out", b"node2: node2 out"]
    assert lines(done.err) == [b"node1: err", b"node2: err"]
    assert done.code == 0


def test_words_are_joined(pyclush: Any) -> None:
    """Options after the command's first word are the command's."""
    assert pyclush("-w", "node1", "echo", "a", "-b", "-w", "x").out == b"node1: a -b -w x\n"


def test_bytes_arrive_as_they_are(pyclush: Any) -> None:
    data = bytes(set(range(256)) - {10})
    octal = "".join(f"\\{byte:03o}" for byte in data)
    done = pyclush("-w", "node1", f"printf '{octal}\\n'; printf '\\377\\n' >&2")
    assert done.out == b"node1: " + data + b"\n"
    assert done.err == b"node1: \xff\n"


def test_gathered_output(pyclush: Any) -> None:
    """By exit status, then by the number of nodes."""
    command = (
        "test $PYCLUSTERSHELL_NODE = node5 && echo 5 && exit 1; "
        "test $PYCLUSTERSHELL_NODE = node3 && echo 3 || echo x"
    )
    done = pyclush("-b", "-w", "node[1-6]", command)
    rule = "-" * 15
    assert done.out.decode().splitlines() == [
        *(rule, "node[1-2,4,6] (4)", rule, "x"),
        *(rule, "node3", rule, "3"),
        *(rule, "node5", rule, "5"),
    ]
    assert done.err == b"pyclush: node5: exited with exit code 1\npyclush: 5 of 6 ok\n"


def test_gathering_keeps_errors_live(pyclush: Any) -> None:
    done = pyclush("-b", "-w", "node[1-2]", "echo same; echo err >&2")
    assert done.out.count(b"same") == 1
    assert lines(done.err) == [b"node1: err", b"node2: err"]


def test_gathered_output_of_nodes_that_time_out(pyclush: Any) -> None:
    done = pyclush("-b", "-u", "2", "-w", "node[1-2]", "echo so far; exec sleep 600")
    assert done.out.splitlines()[1::2] == [b"node[1-2] (2)", b"so far"]
    assert done.err == b"pyclush: node[1-2] (2): command timeout\npyclush: 0 of 2 ok\n"


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
    lock = node_path(tmp_path / "lock")
    done = pyclush("-f", "1", "-w", "node[1-4]", f"mkdir {lock} && echo free && rmdir {lock}")
    assert lines(done.out) == [b"node%d: free" % number for number in (1, 2, 3, 4)]


# -- errors --


def test_exit_codes_are_summed_up(pyclush: Any) -> None:
    done = pyclush(
        "-w",
        "node[1-4]",
        """
        test $PYCLUSTERSHELL_NODE = node4 && exit 2
        test $PYCLUSTERSHELL_NODE = node1 || exit 1
        """,
    )
    assert done.err.decode().splitlines() == [
        "pyclush: node[2-3] (2): exited with exit code 1",
        "pyclush: node4: exited with exit code 2",
        "pyclush: 1 of 4 ok",
    ]
    assert done.code == 1


def test_largest_exit_code(pyclush: Any) -> None:
    command = "test $PYCLUSTERSHELL_NODE = node3 && exit 4; exit 2"
    assert pyclush("-S", "-w", "node[1-4]", command).code == 4
    assert pyclush("-S", "-w", "node[1-4]", "true").code == 0


def test_an_exit_code_of_more_than_eight_bits_is_not_zero(
    pyclush: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes with Windows have such exit statuses; the system would make 0 of 256."""
    send = paramiko.Channel.send_exit_status
    monkeypatch.setattr(
        paramiko.Channel, "send_exit_status", lambda self, status: send(self, status << 8)
    )
    done = pyclush("-S", "-w", "node1", "exit 1")
    assert b"exited with exit code 256" in done.err
    assert done.code == 255


def test_a_byte_order_mark_of_a_host_file_is_no_part_of_a_name(
    pyclush: Any, tmp_path: Path
) -> None:
    """Editors on Windows write one. The name with it would be looked up as the name without."""
    hosts = tmp_path / "hosts"
    hosts.write_text("node1\nnode2\n", encoding="utf-8-sig")
    done = pyclush("--hostfile", str(hosts), "-x", "node1", "echo ok")
    assert (done.code, done.out) == (0, b"node2: ok\n")


def test_no_node_has_a_file_outside_of_outdir(pyclush: Any, tmp_path: Path) -> None:
    """Names of nodes come from files and groups."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    directory = tmp_path / "outdir"
    names = f"{precious},../precious,..,ssh://node1"
    pyclush("--outdir", str(directory), "-w", names, "echo ok")
    assert precious.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["outdir", "precious"]
    assert len(os.listdir(directory)) == 4
    assert (directory / file_name("ssh://node1")).read_text() == "ok\n"


@pytest.mark.posix_only("Windows has no signals")
def test_the_exit_code_of_a_signal(pyclush: Any) -> None:
    assert pyclush("-S", "-w", "node1", "kill -9 $$").code == 137


@pytest.mark.parametrize(("largest", "code"), [([], 1), (["-S"], 255)])
def test_timeouts(pyclush: Any, largest: list[str], code: int) -> None:
    command = "test $PYCLUSTERSHELL_NODE = node2 || exec sleep 600; exit 7"
    done = pyclush(*largest, "-u", str(BEGUN), "-w", "node[1-3]", command)
    assert done.err.decode().splitlines() == [
        "pyclush: node[1,3] (2): command timeout",
        "pyclush: node2: exited with exit code 7",
        "pyclush: 0 of 3 ok",
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
            f"Host *\n  Include {Path(cluster.ssh_config).as_posix()}\n"
        )
        done = pyclush(*largest, "-o", f"-F {config}", "-w", "node[1-6]", "echo ok")
    assert lines(done.out) == [b"node1: ok", b"node2: ok"]
    refused, example, unknown, *sentence, number = done.err.splitlines()
    assert refused == b"pyclush: node[3-5] (3): Connection refused"
    assert re.fullmatch(rb"pyclush:   node[345]: ssh: connect to host .* refused", example)
    assert re.fullmatch(rb"pyclush: node6: .*[Hh]ost key.*", unknown)
    assert sentence[0].startswith(b"pyclush:   node6: ")
    assert number == b"pyclush: 2 of 6 ok"
    assert done.code == code


def test_verbose_prints_ssh_messages(pyclush: Any) -> None:
    done = pyclush("-v", "-w", "node[1-2]", "-l", "nobody", "true")
    assert len([line for line in lines(done.err) if line.startswith(b"node1: ")]) == 1
    assert len([line for line in lines(done.err) if line.startswith(b"pyclush: node")]) == 1


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Path]:
    """A groups.conf of this test alone; yields its path."""
    path = tmp_path / "groups.conf"
    upcall = sh("test $GROUP != some || echo node[1-2]")
    path.write_text(f"[Main]\ndefault: own\n[own]\nmap: {upcall}\n")
    set_std_group_resolver(GroupResolverConfig(str(path)))
    yield path
    set_std_group_resolver(None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-w", "@web"], "-w '@web' names no node: a group in it is empty or unknown"),
        (["-w", "node1!node1"], "-w 'node1!node1' names no node"),
        (
            ["-w", "@nosource:x"],
            "-w '@nosource:x': unknown group source 'nosource': there are 'own'",
        ),
        (["-w", "@a;b"], "cannot be used as $GROUP in a command"),
        (["-w", "@some", "-x", "@nosource:x"], "-x '@nosource:x': unknown group source"),
    ],
)
def test_wrong_groups_are_named(
    groups: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "true"])
    assert named in capsys.readouterr().err


@pytest.fixture
def halves() -> Iterator[None]:
    """A group source that can list its groups."""
    groups = {"half": "node[1-2]", "rack1": "node[3-4]", "none": ""}
    set_std_group_resolver(GroupResolver(GroupSource("own", groups)))
    yield
    set_std_group_resolver(None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-w", "node[1-4]", "-x", "@hlaf"], "-x '@hlaf': there is no group '@hlaf'"),
        (["-w", "node[1-4]", "-X", "hlaf"], "-X 'hlaf': there is no group '@hlaf'"),
        (["-w", "node[1-4]!@hlaf"], "-w 'node[1-4]!@hlaf': there is no group '@hlaf'"),
        (["-w", "@half,@hlaf"], "-w '@half,@hlaf': there is no group '@hlaf'"),
        (["-w", "@half", "-g", "hlaf"], "-g 'hlaf': there is no group '@hlaf'"),
        (["-w", "@half", "-w", "@own:hlaf"], "did you mean '@own:half'?"),
        (["-w", "node1,@rack[1-2]"], "there is no group '@rack2': did you mean '@rack1'?"),
    ],
)
@pytest.mark.parametrize("before", [(), ("--dry-run",), ("-q",)])
def test_unknown_groups_start_nothing(
    halves: None, pyclush: Any, before: tuple[str, ...], arguments: list[str], named: str
) -> None:
    done = pyclush(*before, *arguments, "echo ran")
    assert (done.code, done.out) == (2, b"")
    assert named in done.err.decode()
    assert "did you mean '@" in done.err.decode()


@pytest.mark.parametrize("option", ["-x", "-X", "!"])
def test_a_group_to_leave_out_must_be_known(groups: Path, pyclush: Any, option: str) -> None:
    """A source that cannot list its groups answers alike for empty and for unknown ones."""
    words = {"-x": ["-x", "@gone"], "-X": ["-X", "gone"], "!": ["-w", "node2!@gone"]}[option]
    done = pyclush("-w", "node1", *words, "echo ran")
    assert (done.code, done.out) == (2, b"")
    assert b"group '@gone' is empty or unknown, and its source cannot list" in done.err


def test_an_unknown_group_in_a_host_file_starts_nothing(
    halves: None, pyclush: Any, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("node1\n@hlaf\n")
    done = pyclush("--hostfile", str(hosts), "echo ran")
    assert (done.code, done.out) == (2, b"")
    assert f"{hosts}:2: '@hlaf': there is no group '@hlaf'" in done.err.decode()


def test_empty_groups_and_idle_exclusions_are_told(halves: None, pyclush: Any) -> None:
    done = pyclush("-w", "@half,@none", "-x", "node9", "-X", "rack1", "-X", "none", "true")
    assert done.code == 0
    assert done.err.decode().splitlines() == [
        "pyclush: -w '@half,@none': group '@none' has no nodes",
        "pyclush: -X 'none': group '@none' has no nodes",
        "pyclush: -x 'node9': none of these nodes would be run on without it",
        "pyclush: -X 'rack1': none of these nodes would be run on without it",
    ]
    assert pyclush("-q", "-w", "@half,@none", "-x", "node9", "true") == Outcome(0, b"", b"")


def test_no_groups_conf_is_named(groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups.unlink()
    with pytest.raises(SystemExit):
        main(["-w", "@web", "true"])
    said = capsys.readouterr().err
    assert f"-w '@web': there is no group source: define one in groups.conf, {LOOKED_FOR}" in said
    assert str(groups) in said


def test_an_empty_group_beside_others_is_told(groups: Path, pyclush: Any) -> None:
    done = pyclush("-w", "@some", "-w", "@web", "-x", "node9", "echo ok")
    assert lines(done.out) == [b"node1: ok", b"node2: ok"]
    assert done.err.splitlines() == [
        b"pyclush: -w '@web': group '@web' is empty or unknown",
        b"pyclush: -x 'node9': none of these nodes would be run on without it",
    ]
    assert pyclush("-q", "-w", "@some", "-w", "@web", "true") == Outcome(0, b"", b"")


@pytest.mark.posix_only("arguments of Windows are Unicode text")
def test_arguments_with_bytes_that_are_not_text(pyclush: Any, cluster: LoopbackCluster) -> None:
    odd = os.fsdecode(b"Ma\xf1ana")
    done = pyclush("-w", "node1", f"printf %s {odd} | od -An -tx1")
    assert done.out.split() == [b"node1:", *b"4d 61 f1 61 6e 61".split()]
    done = pyclush("-w", f"node1,{odd}", "true")
    assert done.code == 1
    assert os.fsencode(odd) in done.err
    path = Path(cluster.home("node1")) / odd
    path.write_bytes(b"x")
    assert pyclush("-w", "node2", "-c", str(path), "--dest", ".").code == 0
    assert (Path(cluster.home("node2")) / odd).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["true"], "-w"),
        (["-w", "node1"], "no command"),
        (["-w", "node1", " "], "no command"),
        (["-w", "", "true"], "-w"),
        (["-w", "node[1-", "true"], "'node[1-'"),
        (["-w", "node1", "-x", "node1", "true"], "-x"),
        (["-w", "node1,$(x)", "true"], "host name '$(x)' contains '$'"),
        (["-w", "-oProxyCommand=x", "true"], "begins like an option"),
        (["-w", "node1", "-l", "a;b", "true"], "user name 'a;b' contains ';'"),
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
        (["-w", "node1", "--rcopy", "/no/such/dir/file"], os.path.abspath("/no/such/dir")),
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
        "pyclush: 2 of 2 ok",
        *(f"pyclush: node[1-2]:{name} -> {back}" for name in ("one", "two")),
    ]
    names = sorted(path.name for path in back.iterdir())
    assert names == ["one.node1", "one.node2", "two.node1", "two.node2"]


@pytest.mark.posix_only("Windows replaces no file that is open")
def test_copies_without_a_destination_go_to_the_same_path(pyclush: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"the nodes are this host")
    assert pyclush("-w", "node1", "--copy", str(source)).code == 0
    assert pyclush("-w", "node1", "--rcopy", str(source)).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "source.node1"]


def test_copies_that_fail_are_summed_up(pyclush: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    done = pyclush("-w", "node[1-2]", "--copy", str(source), "--dest", "/no/such/directory/x")
    expected = (
        "pyclush: node[1-2] (2): /no/such/directory/x: No such file or directory\n"
        "pyclush: 0 of 2 ok\n"
    )
    assert done == Outcome(1, b"", expected.encode())
    assert pyclush("-S", "-q", "-w", "node1", "--rcopy", "missing", "--dest", str(tmp_path)) == (
        Outcome(1, b"", b"")
    )


def test_run_leaves_the_threads_task_alone(pyclush: Any) -> None:
    """Settings of a command line do not last."""
    before = task_self()
    pyclush("-f", "3", "-w", "node1", "true")
    after = task_self()
    assert after is not before
    assert (after.info("fanout"), after.info("ssh_options")) == (64, None)


# -- as a program --


def test_version() -> None:
    done = finish(program("--version"))
    assert (done.code, done.err) == (0, b"")
    assert done.out.splitlines() == [f"pyclush {pyclustershell.__version__}".encode()]


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


@pytest.mark.posix_only("it sends SIGINT, and its commands hold a named pipe open")
def test_control_c_stops_everything(tmp_path: Path) -> None:
    """Status 130, no traceback, and the commands have ended."""
    held = tmp_path / "held"
    os.mkfifo(held)
    process = program(
        *("--demo", "-b", "-w", "node[1-2]"),
        # Two streams have no order: "started" gets a second to arrive before "up".
        f"echo started; sleep 1; echo up >&2; exec sleep 600 > {held}",
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
    assert done.err.splitlines() == [
        b"pyclush: 0 of 2 ok",
        b"pyclush: interrupted: node[1-2] (2) did not complete",
    ]
    assert done.out.splitlines()[1::2] == [b"node[1-2] (2)", b"started"]


def test_reader_that_goes_away() -> None:
    """As with any program in a pipe: quietly."""
    process = program("--demo", "-w", "node[1-4]", sh("seq 300000"))
    assert process.stdout.readline().endswith(b": 1\n")
    process.stdout.close()
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    try:
        assert process.stderr.read() == b""
        assert process.wait() == 141
    finally:
        watchdog.cancel()
        process.stderr.close()
