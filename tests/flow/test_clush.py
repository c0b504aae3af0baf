"""clush and pyclush: the terminal, standard input, passwords, JSON, and what else is theirs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from pyclustershell.cli.forwarding import forward_input
from pyclustershell.exceptions import WorkerError
from pyclustershell.loopback import LoopbackCluster
from tests.helpers.sh import SHELL
from tests.helpers.terminal import DEADLINE, Terminal, program
from tests.servers.passwords import PASSWORD, PasswordServer

ROOT = Path(__file__).parents[2]

posix = pytest.mark.posix_only("needs pseudo-terminals and sh")
pytestmark = [posix]

LOCAL = ("-R", "exec", "--color=never")


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
    }


def run(
    env: dict[str, str], name: str, *arguments: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        program(name, *arguments),
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=env,
    )


# -- the interactive mode --


def terminal(env: dict[str, str], name: str, *arguments: str) -> Terminal:
    return Terminal(program(name, *arguments), env)


def test_unknown_groups_change_nothing_at_the_prompt(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "groups.conf").write_text(f"[Main]\ndefault: own\nautodir: {tmp_path}\n")
    (tmp_path / "own.yaml").write_text("own:\n  half: N1\n")
    with terminal(env, "pyclush", *LOCAL, "-w", "N[1-3]") as it:
        it.expect("pyclush> ")
        for operation in ("@", "+", "-"):
            it.type(f"{operation}@hlaf\r")
            it.expect("pyclush: there is no group '@hlaf': did you mean '@half'")
            it.expect(r"Working with nodes: N\[1-3\]\s")
            it.expect("pyclush> ")
        it.type("-@half\r")
        it.expect(r"Working with nodes: N\[2-3\]\s")


@pytest.mark.parametrize("name", ["clush", "pyclush"])
def test_prompt(env: dict[str, str], name: str) -> None:
    prompt = f"{name}> "
    with terminal(env, name, *LOCAL, "-w", "N[1-3]") as it:
        it.expect(r"Enter 'quit' to leave this interactive mode\s+Working with nodes: N\[1-3\]\s")
        it.expect(prompt)
        for line, shown in (
            ("=", "Switching to gathered output format"),
            ("echo same", r"-{15}\s+N\[1-3\] \(3\)\s+-{15}\s+same"),
            ("-N2", r"Working with nodes: N\[1,3\]\s"),
            ("+M[7-8]", r"Working with nodes: M\[7-8\],N\[1,3\]\s"),
            ("?", r"Working with nodes: M\[7-8\],N\[1,3\]\s"),
            ("@N5", r"Working with nodes: N5\s"),
            ("!echo here", "LOCAL: here"),
            ("=", "Switching to standard output format"),
            ("echo now %h", "N5: now N5"),
            ("exit 3", "N5: exited with exit code 3"),
        ):
            it.type(f"{line}\r")
            it.expect(shown)
            it.expect(prompt)
        it.type("@x[\r")
        it.expect("parse error" if name == "clush" else "unbalanced bracket")
        it.expect(r"Working with nodes: N5\s")
        it.expect(prompt)
        it.type("\r")
        it.expect(prompt)
        it.type("QUIT\r")
        assert it.finish() == (0 if name == "clush" else 1)


def test_end_of_input_leaves_the_prompt(env: dict[str, str]) -> None:
    with terminal(env, "clush", *LOCAL, "-S", "-w", "n1") as it:
        it.expect("clush> ")
        it.type("exit 4\r")
        it.expect("clush> ")
        it.type("\x04")
        assert it.finish() == 4


def test_enter_tells_who_runs_and_control_c_who_did_not_finish(
    env: dict[str, str], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with terminal(env, "pyclush", *LOCAL, "-f", "3", "-w", "n[1-5]") as it:
        it.expect("pyclush> ")
        it.type(f"exec cat {fifo}\r")
        with open(fifo, "wb"):  # one of the commands has opened it to read
            it.type("\r")
            it.expect(r"pyclush: interrupt \(\^C to abort task\)")
            it.expect(r"in progress\(3\): n\[1-3\]\s+pyclush: pending\(2\): n\[4-5\]")
            it.type("\x03")
            it.expect(r"0 of 5 ok\s+pyclush: interrupted: n\[1-5\] \(5\) did not complete")
        it.expect("pyclush> ")
        it.expect("pyclush> ", typing="\x03")
        it.type("echo alive\r")
        it.expect("n5: alive")


def test_control_c_ends_clush(env: dict[str, str]) -> None:
    with terminal(env, "clush", *LOCAL, "-bv", "-w", "n[1-2]", "echo up; exec sleep 600") as it:
        it.expect("n[12]: up")
        it.expect("n[12]: up")
        it.type("\x03")
        it.expect("Warning: Caught keyboard interrupt!")
        it.expect(r"n\[1-2\] \(2\)\s+-{15}\s+up")
        it.expect(r"Keyboard interrupt \(n\[1-2\] did not complete\)\.")
        assert it.finish() == 130


def test_control_c_without_a_terminal_prints_the_output_so_far(env: dict[str, str]) -> None:
    import signal

    process = subprocess.Popen(
        program("clush", *LOCAL, "-bvn", "-w", "n[1-2]", "echo up; exec sleep 600"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    with process:
        assert process.stdout
        lines = {process.stdout.readline(), process.stdout.readline()}
        assert lines == {"n1: up\n", "n2: up\n"}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    rule = "-" * 15
    assert out == f"{rule}\nn[1-2] (2)\n{rule}\nup\n"
    assert err == "Warning: Caught keyboard interrupt!\nKeyboard interrupt.\n"
    assert process.returncode == 130


def test_history_is_kept(env: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("readline", reason="needs Python's readline")
    (tmp_path / "clush.conf").write_text("[Main]\nhistory_size: 2\n")
    with terminal(env, "clush", *LOCAL, "-w", "n1") as it:
        it.expect("clush> ")
        for number in range(4):
            it.type(f"echo {number}\r")
            it.expect(f"n1: {number}")
            it.expect("clush> ")
    kept = (tmp_path / ".clush_history").read_text().splitlines()
    assert [line for line in kept if line.startswith("echo")] == ["echo 2", "echo 3"]


def test_names_are_completed(env: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("readline", reason="needs Python's readline")
    (tmp_path / "groups.conf").write_text(
        "[Main]\ndefault: own\n[own]\nmap: echo node[1-2]\nlist: echo racks web\nall: echo gamma\n"
    )
    with terminal(env, "pyclush", *LOCAL, "-w", "alpha,beta") as it:
        it.expect("pyclush> ")
        it.type("-al\t\r")
        it.expect("Working with nodes: beta")
        it.expect("pyclush> ")
        it.type("+@ra\t\r")
        it.expect(r"Working with nodes: beta,node\[1-2\]")
        it.expect("pyclush> ")
        it.type("+delta,ga\t\r")
        it.expect(r"Working with nodes: beta,delta,gamma,node\[1-2\]")


def test_the_prompt_tells_of_a_group_without_nodes(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "groups.conf").write_text("[Main]\ndefault: own\n[own]\nmap: :\nlist: echo web\n")
    with terminal(env, "pyclush", *LOCAL, "-w", "alpha") as it:
        it.expect("pyclush> ")
        it.type("@@wbe\r")
        it.expect("there is no group '@wbe': did you mean '@web'")
        it.expect("Working with nodes: alpha")


def test_the_prompt_needs_a_terminal(env: dict[str, str]) -> None:
    with terminal(env, "clush", *LOCAL, "-n", "-w", "n1") as it:
        it.expect("clush: error: illegal option `--nostdin' in that case")
        assert it.finish() == 2


# -- terminals --


def test_colours_without_clush_conf(env: dict[str, str]) -> None:
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"CLICOLOR": "0"}, False)):
        command = ("--conf", os.devnull, "-R", "exec", "-w", "n1", "echo ok")
        with terminal({**env, **more}, "clush", *command) as it:
            it.finish()
            assert it.output == ("\x1b[94mn1: \x1b[0mok\r\n" if coloured else "n1: ok\r\n")


def test_the_counter_is_for_terminals(env: dict[str, str]) -> None:
    command = (*LOCAL, "-b", "-w", "n1", "sleep 2")
    assert run(env, "clush", *command).stderr == ""
    # Text mode makes newlines of carriage returns.
    assert run(env, "clush", "-P", *command).stderr.startswith("clush: 0/1\n")
    with terminal(env, "clush", *command) as it:
        it.expect("clush: 0/1\r")
        assert it.finish() == 0


def test_pyclush_shows_the_progress_on_terminals_only(env: dict[str, str]) -> None:
    command = (*LOCAL, "-w", "n[1-2]", "test %h = n1 || sleep 2")
    assert run(env, "pyclush", "-P", *command).stderr == ""
    with terminal(env, "pyclush", *command) as it:
        it.expect(r"\rpyclush: 1 of 2 done, 1 running \(n2\)\x1b\[K")
        it.expect(r"\r\x1b\[K")
        assert it.finish() == 0


# -- standard input --


def test_all_of_standard_input_reaches_all_nodes(env: dict[str, str]) -> None:
    import zlib

    text = "".join(f"{number}\n" for number in range(300_000))
    with LoopbackCluster("node[1-3]", shell=SHELL) as cluster:
        counts = f"-F {cluster.ssh_config}"
        command = (
            f"{sys.executable} -c 'import sys, zlib; print(zlib.crc32(sys.stdin.buffer.read()))'"
        )
        done = run(env, "clush", "-o", counts, "-bL", "-w", "node[1-3]", command, text=text)
    assert (done.stdout, done.stderr) == (f"node[1-3]: {zlib.crc32(text.encode())}\n", "")


class _SlowWorker:
    """Takes one block at a time, when it is allowed to."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)
        self.blocks: list[Optional[bytes]] = []

    def write(self, data: bytes) -> None:
        self.blocks.append(data)
        self.taken.release()
        assert self.allowed.acquire(timeout=DEADLINE)

    def set_write_eof(self) -> None:
        self.blocks.append(None)


def _fail(error: Exception) -> None:
    raise AssertionError(error)


def test_standard_input_is_read_at_the_pace_of_the_slowest_node() -> None:
    worker = _SlowWorker()
    ours, theirs = os.pipe()
    with open(ours, "rb") as stream:
        thread = forward_input(stream, worker, _fail, _fail)
        os.set_blocking(theirs, False)
        sent = os.write(theirs, bytes(1000))
        assert worker.taken.acquire(timeout=DEADLINE)
        # The worker is busy: what follows stays in the pipe.
        sent += os.write(theirs, bytes(5000))
        assert worker.blocks == [bytes(1000)]
        os.close(theirs)
        worker.allowed.release(2)
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert worker.blocks == [bytes(1000), bytes(5000), None]
    assert sent == 6000


class _NoInput:
    """A worker whose commands have no standard input."""

    def write(self, data: bytes) -> None:
        raise WorkerError("no input")

    def set_write_eof(self) -> None:
        raise WorkerError("no input")


def test_input_that_cannot_be_forwarded_is_an_error(tmp_path: Path) -> None:
    for text, refused in ((b"", []), (b"x", ["no input"])):
        path = tmp_path / "input"
        path.write_bytes(text)
        found: list[str] = []
        with open(path, "rb") as stream:
            forward_input(stream, _NoInput(), _fail, lambda e: found.append(str(e))).join(DEADLINE)  # noqa: B023
        assert found == refused


def test_pdsh_takes_no_input(env: dict[str, str], tmp_path: Path) -> None:
    pdsh = tmp_path / "pdsh"
    pdsh.write_text("#!/bin/sh\necho n1: ok\n")
    pdsh.chmod(0o755)
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    for name in ("clush", "pyclush"):
        done = run(env, name, "-R", "pdsh", "-w", "n1", "true")
        assert (done.returncode, done.stdout, done.stderr) == (0, "n1: ok\n", "")
        done = run(env, name, "-n", "-R", "pdsh", "-w", "n1", "true", text="lost\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "n1: ok\n", "")
        done = run(env, name, "-R", "pdsh", "-w", "n1", "true", text="lost\n")
        assert done.returncode == 1
        assert done.stderr.startswith(f"{name}: pdsh takes no standard input")


def test_input_that_cannot_be_read(env: dict[str, str]) -> None:
    with open(os.devnull, "wb") as unreadable:
        done = subprocess.run(
            program("pyclush", *LOCAL, "-w", "n1", "cat"),
            stdin=unreadable,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            env=env,
        )
    assert done.returncode == 1
    assert "pyclush: standard input cannot be read: " in done.stderr


# -- output that cannot be written --


@pytest.mark.parametrize("name", ["clush", "pyclush"])
def test_without_standard_error_all_output_comes(env: dict[str, str], name: str) -> None:
    command = program(name, *LOCAL, "-n", "-b", "-w", "n[1-2]", "'echo ok; echo bad >&2; exit 3'")
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(command)} 2>&-"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=env,
    )
    rule = "-" * 15
    assert done.stdout == f"{rule}\nn[1-2] (2)\n{rule}\nok\n"
    assert done.returncode == (1 if name == "pyclush" else 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_an_error(env: dict[str, str], unbuffered: str) -> None:
    env["PYTHONUNBUFFERED"] = unbuffered
    for name, words in (
        ("clush", "ERROR: [Errno 28]"),
        ("pyclush", "pyclush: output cannot be written:"),
    ):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                program(name, *LOCAL, "-n", "-w", "n1", "echo ok"),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=DEADLINE,
                check=False,
                env=env,
            )
        assert (done.returncode, done.stderr) == (
            1,
            f"{words} No space left on device\n",
        )


def test_fd_max_is_kept_to(env: dict[str, str]) -> None:
    arguments = (*LOCAL, "-n", "-O", "fd_max=100", "-f", "1000", "-w", "n[1-1000]", "echo ok")
    done = run(env, "clush", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"ERROR: .* open files are needed, and this process may open 100: .*\n"
        r"ERROR: maximum number of open file descriptors: soft=100 hard=\d+\n",
        done.stderr,
    )


def test_debugging_lines(env: dict[str, str]) -> None:
    done = run(env, "clush", *LOCAL, "-d", "-w", "n1", "echo ok")
    assert "EXECCLIENT: echo ok\nn1: b'ok'\n" in done.stdout
    assert done.stdout.endswith("n1: ok\n")
    assert done.stderr.startswith("DEBUG:")


# -- passwords --


def _password_config(tmp_path: Path, server: PasswordServer) -> Path:
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n  HostName 127.0.0.1\n  Port {server.port}\n  User somebody\n"
        f"  UserKnownHostsFile {tmp_path}/known_hosts\n  IdentityAgent none\n  IdentityFile none\n"
    )
    return config


def test_sshpass_modes_give_connections_a_password(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\nmore\n")
    with PasswordServer(["password"]) as server:
        config = _password_config(tmp_path, server)
        (tmp_path / "clush.conf").write_text(
            f"[mode:file]\nssh_path: sshpass -f {tmp_path}/secret /usr/bin/ssh\n"
            f"ssh_options: -F {config} -oBatchMode=no\n"
            f"[mode:variable]\nssh_path: /usr/bin/sshpass -e ssh\nssh_options: -F {config}\n"
        )
        done = run(env, "clush", "-m", "file", "-bL", "-w", "node[1-3]", "true")
        assert (done.stdout, done.stderr) == ("node[1-3]: ok\n", "")
        env["SSHPASS"] = "wrong"
        done = run(env, "clush", "-m", "variable", "-S", "-w", "node[1-3]", "true")
        assert done.returncode == 255
        # A wrong password is tried on one node only.
        assert [password for _, password in server.attempts].count("wrong") == 1
        del env["SSHPASS"]
        done = run(env, "pyclush", "-m", "variable", "-w", "node1", "true")
        assert (done.returncode, done.stdout) == (1, "")
        assert "SSHPASS is not set" in done.stderr


def test_ask_pass(env: dict[str, str], tmp_path: Path) -> None:
    with PasswordServer(["password"]) as server:
        options = ("-o", f"-F {_password_config(tmp_path, server)}", "--color=never")
        arguments = ("--ask-pass", *options, "-bL", "-w", "node[1-3]", "true")
        with terminal(env, "pyclush", *arguments) as it:
            it.expect("Password of the connections: ")
            it.type(f"{PASSWORD}\r")
            it.expect(r"node\[1-3\]: ok")
            assert it.finish() == 0
            assert PASSWORD not in it.output


def test_the_password_of_a_mode_is_the_first_input(env: dict[str, str]) -> None:
    options = (*LOCAL, "-O", "password_prompt=yes", "-O", "command_prefix=exec", "-w", "n1", "cat")
    with terminal(env, "clush", *options) as it:
        it.expect("Password: ")
        it.type("secret\r")
        it.expect("n1: secret")
        assert it.finish() == 0


# -- only in pyclush --


def test_json(env: dict[str, str]) -> None:
    command = "echo out %h; echo err >&2; test %h = n1"
    done = run(env, "pyclush", *LOCAL, "--json", "-w", "n[1-2]", command)
    records: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        records[record["node"]] = record
    assert sorted(records) == ["n1", "n2"]
    one, two = records["n1"], records["n2"]
    assert (one["rc"], one["stdout"], one["stderr"], one["ok"]) == (0, "out n1", "err", True)
    assert (two["rc"], two["cause"], two["ok"]) == (1, "exit status 1", False)
    assert {"waiting", "connecting", "authenticating", "running", "phase"} <= {*one}
    assert done.stderr == "pyclush: n2: exited with exit code 1\npyclush: 1 of 2 ok\n"
    assert done.returncode == 1


def test_json_of_copies_names_their_paths(env: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    with LoopbackCluster("node1", shell=SHELL) as cluster:
        options = ("-o", f"-F {cluster.ssh_config}", "--json", "-w", "node1")
        done = run(env, "pyclush", *options, "--copy", str(source), "--dest", "there")
    record = json.loads(done.stdout)
    assert (record["node"], record["rc"]) == ("node1", 0)
    assert (record["source"], record["dest"]) == (str(source), "there")


def test_dry_run(env: dict[str, str], tmp_path: Path) -> None:
    def plan(*arguments: str) -> Sequence[str]:
        done = run(env, "pyclush", "--dry-run", "-w", "n[1-9]", "-x", "n5", "-f", "4", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    nodes = ["nodes (8): n[1-4,6-9]", "at once: 4"]
    assert plan("echo", "a b") == [*nodes, "command: echo a b"]
    assert plan("-O", "command_prefix=nice", "true") == [*nodes, "command: nice true"]
    (tmp_path / "f").write_text("")
    assert plan("--copy", f"{tmp_path}/f", "--dest", "/d") == [
        *nodes,
        f"copy: {tmp_path}/f -> nodes:/d",
    ]
    assert plan("--rcopy", "f", "--dest", str(tmp_path)) == [*nodes, f"copy: {tmp_path} <- nodes:f"]


def test_explain(env: dict[str, str], tmp_path: Path) -> None:
    """Each setting has its file and line, its option, or is a default; nothing is connected."""
    config = tmp_path / "ssh_config"
    config.write_text("Host node*\n  Port 2222\n  User someone\n\nHost *\n  Compression yes\n")
    (tmp_path / "clush.conf").write_text("[Main]\nconnect_timeout: 7\n")
    arguments = ("--explain", "node1", "-l", "me", "-o", f"-F {config} -o ServerAliveInterval=9")
    done = run(env, "pyclush", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:])
    assert rows["hostname"] == "node1  [default]"
    assert rows["port"] == f"2222  [{config} line 2]"
    assert rows["user"] == "me  [-l]"
    assert rows["compression"] == f"yes  [{config} line 6]"
    assert rows["keepalive"] == "9  [-o]"
    assert rows["connect_timeout"] == "7  [clush.conf: connect_timeout]"
    assert rows["password"] == "-  [default]"
    done = run(env, "pyclush", "--explain", "node[", "-o", f"-F {config}")
    assert done.returncode == 2


def test_explain_shows_no_secret(env: dict[str, str], tmp_path: Path) -> None:
    with terminal(env, "pyclush", "--ask-pass", "--explain", "node1", "-o", "-F none") as it:
        it.expect("Password of the connections: ")
        it.type("unspeakable\r")
        it.expect(r"password\s+\(not shown\)  \[--ask-pass\]")
        assert it.finish() == 0
        assert "unspeakable" not in it.output


def test_ssh_config_decides_on_the_timeout_if_nothing_else_does(
    env: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("ConnectTimeout 3\n")
    arguments = ("--conf", os.devnull, "--explain", "node1", "-o", f"-F {config}")
    timeout = re.compile(r"connect_timeout +(.*)")
    for more, shown in (([], f"3  [{config} line 1]"), (["-t", "5"], "5  [-t]")):
        found = timeout.search(run(env, "pyclush", *arguments, *more).stdout)
        assert found is not None
        assert found[1] == shown


def test_did_you_mean(env: dict[str, str], tmp_path: Path) -> None:
    done = run(env, "pyclush", "--jsn", "-w", "n1", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such option: --jsn: did you mean '--json'?" in done.stderr
    (tmp_path / "groups.conf").write_text(
        "[Main]\ndefault: own\n[own]\nmap: [ $GROUP != web ] || echo n1\nlist: echo web\n"
    )
    done = run(env, "pyclush", "-w", "@wbe", "true")
    assert done.returncode == 2
    assert "did you mean '@web'?" in done.stderr


def test_verbose_names_the_slowest_nodes(env: dict[str, str]) -> None:
    done = run(env, "pyclush", *LOCAL, "-v", "-w", "n[1-2]", "true")
    last = done.stderr.splitlines()[-2:]
    assert last[0] == "pyclush: 2 of 2 ok"
    assert last[1].startswith("pyclush: slowest: n")
