"""pyclush --processes: what is printed and returned is that of one process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyclustershell.cli.sshpass import Answer
from pyclustershell.loopback import LoopbackCluster
from tests.helpers.sh import SHELL
from tests.helpers.terminal import DEADLINE, Terminal, program
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[2]
NODES = "node[1-12]"
SICK = (
    'case "$PYCLUSTERSHELL_NODE" in *3) echo bad >&2; exit 3;; *5) exec sleep 60;; '
    "*7) echo other;; *) echo one; echo two;; esac"
)

pytestmark = pytest.mark.posix_only("needs pseudo-terminals and sh")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment without configuration of the user's."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "CLUSTERSHELL_CFGDIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": os.environ["PYTHONWARNINGS"],
        "TERM": "xterm",
    }


def words(cluster: LoopbackCluster, *arguments: str) -> list[str]:
    """The command line of pyclush for nodes of the cluster."""
    return program("pyclush", "-o", f"-F {cluster.ssh_config}", "--color=never", *arguments)


def run(
    cluster: LoopbackCluster, env: dict[str, str], *arguments: str, text: str = ""
) -> tuple[int, list[str], list[str]]:
    """Run pyclush to its end; returns its status, and its lines in any order."""
    done = subprocess.run(
        words(cluster, *arguments),
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=env,
    )
    return done.returncode, sorted(done.stdout.splitlines()), sorted(done.stderr.splitlines())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-b"],
        ["-L"],
        ["-bL"],
        ["-B", "-S"],
        ["-S", "-q"],
        ["-r", "-N"],
    ],
)
def test_the_same_is_printed(
    cluster: LoopbackCluster, env: dict[str, str], options: list[str]
) -> None:
    arguments = [*options, "-n", "-u", "1", "-w", f"{NODES},nobody", SICK]
    expected = run(cluster, env, *arguments)
    assert run(cluster, env, "--processes", "2", *arguments) == expected
    assert any("timeout" in line or "-q" in options for line in expected[2])
    assert any("two" in line for line in expected[1] + expected[2])


def test_json(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    def found(*options: str) -> list[dict[str, object]]:
        lines = run(cluster, env, *options, "--json", "-n", "-u", "1", "-w", NODES, SICK)[1]
        times = ("started", "waiting", "resolving", "connecting", "key_exchange", "authenticating")
        dicts = [json.loads(line) for line in lines]
        assert all(it["authenticating"] > 0 for it in dicts)
        hidden = {*times, "opening", "running"}
        return sorted(
            ({key: it[key] for key in it if key not in hidden} for it in dicts),
            key=lambda it: str(it["node"]),
        )

    assert found("--processes", "auto") == found()


def test_standard_input_goes_to_all_nodes(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    text = "line\n" * 300_000
    status, out, err = run(cluster, env, "--processes", "2", "-w", NODES, "wc -l", text=text)
    assert status == 0, err
    assert {line.partition(": ")[2].strip() for line in out} == {"300000"}
    assert len(out) == 12


def test_copies(cluster: LoopbackCluster, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    there = ["--processes", "2", "-n", "-v", "-w", NODES, "--dest", ".", "-c"]
    status, _, err = run(cluster, env, *there, str(tmp_path / "one"), str(tmp_path / "two"))
    assert status == 0, err
    assert f"pyclush: {tmp_path}/one -> {NODES}:." in err
    back = tmp_path / "back"
    back.mkdir()
    here = ["--processes", "2", "-n", "-w", NODES, "--dest", str(back), "--rcopy", "one", "no"]
    status, _, err = run(cluster, env, *here)
    assert status == 1
    assert any("No such file" in line for line in err)
    assert len(list(back.iterdir())) == 12


def test_lines_come_as_they_are_printed(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    arguments = ["--processes", "2", "-w", "node[1-2]", "echo ready; read x; echo end"]
    with subprocess.Popen(
        words(cluster, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as pyclush:
        assert pyclush.stdout is not None
        assert pyclush.stdin is not None
        first = {pyclush.stdout.readline() for _ in range(2)}
        assert first == {"node1: ready\n", "node2: ready\n"}
        pyclush.stdin.write("go\n")
        pyclush.stdin.close()
        assert sorted(pyclush.stdout) == ["node1: end\n", "node2: end\n"]
        assert pyclush.wait(DEADLINE) == 0


def test_control_c_and_the_progress(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    marks = [Path(cluster.home(f"node{number}"), "mark") for number in (1, 2)]
    command = "echo $$ > ~/mark; echo up; exec sleep 600"
    arguments = ["--processes", "2", "-b", "-w", "node[1-2]", command]
    with Terminal(words(cluster, *arguments), env) as it:
        it.expect(r"pyclush: 0 of 2 done, 2 running \(node\[1-2\]\)")
        wait_until(lambda: all(mark.exists() and mark.read_text() for mark in marks))
        it.type("\x03")
        it.expect(r"up")
        it.expect(r"interrupted: node\[1-2\] \(2\) did not complete")
        assert it.finish() == 130
        assert "Traceback" not in it.text
    for mark in marks:
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


def test_a_killed_process(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    mark = Path(cluster.home("node1"), "mark")
    mark.unlink(missing_ok=True)
    # The shell's parent is this program; so a node cannot tell the number of the worker process.
    with subprocess.Popen(
        words(cluster, "--processes", "1", "-n", "-w", "node1", "echo > ~/mark; exec sleep 60"),
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as pyclush:
        wait_until(mark.exists)
        children = Path(f"/proc/{pyclush.pid}/task/{pyclush.pid}/children")
        if not children.exists():
            pyclush.kill()
            pytest.skip("the system does not tell the children of a process in /proc")
        for pid in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
        _, err = pyclush.communicate(timeout=DEADLINE)
    assert "node1: The worker process was killed by SIGKILL" in err
    assert pyclush.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--processes", "0", "true"], "--processes '0': write a number, or auto"),
        (["--processes", "many", "true"], "--processes 'many': write a number, or auto"),
        (["--processes", "2", "-R", "exec", "true"], "leave out --processes, or -R exec"),
        (["--processes", "2", "--remote", "no", "true"], "leave out --processes, or --remote no"),
    ],
)
def test_wrong_usage(env: dict[str, str], arguments: list[str], text: str) -> None:
    done = subprocess.run(
        program("pyclush", "-w", "node1", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=env,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_it_is_not_for_the_prompt(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    with Terminal(words(cluster, "--processes", "2", "-w", "node1"), env) as it:
        it.expect("--processes 2 is for one command: write it, or leave out --processes")
        assert it.finish() == 2


def test_the_plan_names_the_processes(cluster: LoopbackCluster, env: dict[str, str]) -> None:
    arguments = ["--dry-run", "--processes", "2", "-w", "node1", "true"]
    assert "processes: 2" in run(cluster, env, *arguments)[1]


def test_a_typed_secret_can_be_sent_and_is_not_shown() -> None:
    answer = pickle.loads(pickle.dumps(Answer("correct horse")))  # noqa: S301
    assert answer("node1") == "correct horse"
    assert "correct" not in repr(answer)
