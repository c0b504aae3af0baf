"""What takes time to find out: ``Match exec``, canonical names, files named after the host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import ConfigurationError, NodeConfigurationError
from pyclustershell.task import Task
from pyclustershell.transport.config import lookup as lookups
from pyclustershell.transport.config.answers import Answers, Unanswered
from pyclustershell.transport.config.context import LocalContext
from pyclustershell.transport.config.lookup import Query, lookup
from pyclustershell.transport.config.sshconfig import ConfigCache
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd
from tests.tasks import fresh_task

NAMES = {
    "web.a.org.": "web.a.org",
    "web.b.org.": "web.b.org",
    "db.b.org.": "db.b.org",
    "mail.b.org.": "host7.c.org.",
    "absolute.a.org.": "absolute.a.org",
}


class Network(LocalContext):
    """A context with names of its own, which counts what it is asked."""

    def __init__(self, home: Path) -> None:
        super().__init__("me", str(home), "here.example.org")
        self.asked: list[str] = []

    def look_up(self, name: str, family: int) -> Optional[str]:
        self.asked.append(name)
        return None if family == socket.AF_INET6 else NAMES.get(name)


Ask = Callable[..., Query]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


@pytest.fixture
def ask(tmp_path: Path, network: Network) -> Ask:
    """Return a function that asks a configuration text for what holds for a host."""
    cache = ConfigCache(network)

    def ask(text: str, host: str = "node1", **options: Any) -> Query:
        path = tmp_path / "config"
        path.write_text(text)
        return lookup([cache.load(str(path))], host, (), cache, **options)

    return ask


# -- answers ---------------------------------------------------------------------------------------


def test_an_answer_is_found_out_once_by_whoever_waits() -> None:
    answers, asked = Answers(), []

    def find_out() -> int:
        asked.append(1)
        return 42

    with pytest.raises(Unanswered) as raised:
        answers.get("question", find_out, wait=False)
    assert asked == []
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(raised.value.find_out)
    assert answers.get("question", find_out, wait=False) == 42
    assert answers.get("question", find_out, wait=True) == 42
    assert asked == [1]


def test_an_error_is_an_answer() -> None:
    answers = Answers()

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(Unanswered) as raised:
        answers.get("question", fail, wait=False)
    raised.value.find_out()
    for wait in (False, True):
        with pytest.raises(ValueError, match="no"):
            answers.get("question", fail, wait)


# -- Match exec ------------------------------------------------------------------------------------


def test_exec_is_only_run_where_it_is_allowed(ask: Ask, tmp_path: Path) -> None:
    text = f"Match exec 'touch {tmp_path}/run'\nUser x\n"
    with pytest.raises(ConfigurationError, match=r"config line 1: .*allow_match_exec=True"):
        ask(text)
    assert not (tmp_path / "run").exists()
    assert ask(text, allow_match_exec=True).text("User") == "x"
    assert (tmp_path / "run").exists()


def test_exec_says_yes_by_its_exit_code(ask: Ask) -> None:
    text = (
        "Match exec true\nPort 1\nMatch !exec 'exit 3'\nUser x\nMatch exec false\nCompression yes\n"
    )
    query = ask(text, allow_match_exec=True)
    assert (query.number("Port"), query.text("User"), query.get("Compression")) == (1, "x", None)


def test_exec_knows_tokens(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"Host Node1\nHostName %h.Org\nUser bob\nMatch exec 'echo %h %n %p %r %k %% >> {log}'\n"
    text += "Port 7\n"
    ask(text, "Node1", allow_match_exec=True)
    assert log.read_text() == "Node1.Org Node1 22 bob Node1 %\n"
    with pytest.raises(ConfigurationError, match="config line 1: Match exec: unknown token %z"):
        ask("Match exec 'echo %z'\nPort 7\n", allow_match_exec=True)


def test_the_same_command_is_run_once_for_all_hosts(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"Match exec 'echo x >> {log}'\nUser x\nMatch exec 'echo %h >> {log}'\nPort 7\n"
    for number in (1, 2, 3, 1, 2, 3):
        assert ask(text, f"node{number}", allow_match_exec=True).number("Port") == 7
    assert log.read_text().split() == ["x", "node1", "node2", "node3"]


def test_exec_comes_last_where_something_else_has_decided(ask: Ask, tmp_path: Path) -> None:
    text = f"Match user nobody exec 'touch {tmp_path}/run'\nPort 7\n"
    assert ask(text, allow_match_exec=True).number("Port") is None
    assert not (tmp_path / "run").exists()
    # Not even the permission is asked for.
    assert ask(text).number("Port") is None


def test_a_command_that_takes_too_long_decides_nothing(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MATCH_EXEC_TIMEOUT", 0.05)
    with pytest.raises(ConfigurationError, match="config line 1: Match exec: 'sleep 9': no answer"):
        ask("Match exec 'sleep 9'\nUser x\n", allow_match_exec=True)


def test_who_must_not_wait_is_told_so(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"Match exec 'echo x >> {log}'\nUser x\n"
    with pytest.raises(Unanswered) as raised:
        ask(text, allow_match_exec=True, wait=False)
    assert not log.exists()
    raised.value.find_out()
    assert ask(text, allow_match_exec=True, wait=False).text("User") == "x"
    assert log.read_text() == "x\n"


# -- canonical names -------------------------------------------------------------------------------

CANONICAL = "CanonicalizeHostname yes\nCanonicalDomains a.org b.org\n"


@pytest.mark.parametrize(
    ("host", "lines", "expected", "asked"),
    [
        ("web", "", "web.a.org", ["web.a.org."]),
        ("WEB", "", "web.a.org", ["web.a.org."]),
        ("db", "", "db.b.org", ["db.a.org.", "db.b.org."]),
        ("nowhere", "", "nowhere", ["nowhere.a.org.", "nowhere.b.org."]),
        ("x.y", "", "x.y", ["x.y.a.org.", "x.y.b.org."]),
        ("x.y.z", "", "x.y.z", []),
        ("x.y", "CanonicalizeMaxDots 0", "x.y", []),
        ("x.y.z", "CanonicalizeMaxDots 2", "x.y.z", ["x.y.z.a.org.", "x.y.z.b.org."]),
        ("absolute.a.org.", "", "absolute.a.org", ["absolute.a.org."]),
        ("10.0.0.1", "CanonicalizeMaxDots 5", "10.0.0.1", []),
        ("fe80::1%eth0", "", "fe80::1%eth0", []),
        ("alias", "HostName web", "web.a.org", ["web.a.org."]),
        ("web", "AddressFamily inet6", "web", ["web.a.org.", "web.b.org."]),
        ("web", "ProxyCommand nc %h 22", "web", []),
        ("web", "ProxyJump gate", "web", []),
        ("web", "ProxyJump none", "web.a.org", ["web.a.org."]),
        ("mail", "", "mail.b.org", ["mail.a.org.", "mail.b.org."]),
        ("mail", "CanonicalizePermittedCNAMEs *.b.org:*.c.org", "host7.c.org", None),
        (
            "mail",
            "CanonicalizePermittedCNAMEs *.x.org:* *.a.org,*.b.org:*.d.org,*.c.org",
            "host7.c.org",
            None,
        ),
        ("mail", "CanonicalizePermittedCNAMEs *.b.org:*.d.org", "mail.b.org", None),
        ("mail", "CanonicalizePermittedCNAMEs *:*.c.org,!host7.*", "mail.b.org", None),
        ("mail", "CanonicalizePermittedCNAMEs none", "mail.b.org", None),
    ],
)
def test_canonical_names(
    ask: Ask, network: Network, host: str, lines: str, expected: str, asked: Optional[list[str]]
) -> None:
    query = ask(f"{lines}\n{CANONICAL}", host)
    assert query.target == expected
    assert asked is None or network.asked == asked


def test_a_proxy_may_have_its_names_looked_up(ask: Ask) -> None:
    text = "ProxyJump gate\nCanonicalizeHostname always\nCanonicalDomains a.org\n"
    assert ask(text, "web").target == "web.a.org"


def test_no_names_are_looked_up_unless_it_is_asked_for(ask: Ask, network: Network) -> None:
    text = "CanonicalDomains a.org\nMatch canonical\nUser x\n"
    assert (ask(text, "web").target, network.asked) == ("web", [])
    assert ask(text, "web").text("User") is None
    assert ask(f"CanonicalizeHostname no\n{text}", "web").target == "web"


def test_without_a_fallback_a_name_must_be_found(ask: Ask) -> None:
    text = f"CanonicalizeFallbackLocal no\n{CANONICAL}"
    assert ask(text, "web").target == "web.a.org"
    with pytest.raises(ConfigurationError, match="config line 2: nowhere is in none of the Canon"):
        ask(text, "nowhere")


def test_the_canonical_name_is_matched_in_a_second_pass(ask: Ask) -> None:
    text = (
        "Host *.a.org\nUser a\nMatch canonical host *.a.org\nPort 7\n"
        "Match originalhost web\nCompression yes\n" + "Host *\n" + CANONICAL
    )
    query = ask(text, "web")
    assert (query.text("User"), query.number("Port")) == ("a", 7)
    assert query.flag("Compression", False)
    assert ask(text, "db").text("User") is None


@pytest.mark.parametrize("value", ["a", "a:b:c", ":b", "a:", "none a:b"])
def test_wrong_rules_for_aliases(ask: Ask, value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"line 1: CanonicalizePermittedCNAMEs: .* not of"):
        ask(f"CanonicalizePermittedCNAMEs {value}\n")


def test_this_machines_names() -> None:
    context = LocalContext()
    assert context.look_up("127.0.0.1", socket.AF_UNSPEC) == "127.0.0.1"
    assert context.look_up("127.0.0.1", socket.AF_INET6) is None
    assert context.look_up("no-such-name.invalid.", socket.AF_UNSPEC) is None
    assert context.look_up("x" * 80 + ".invalid.", socket.AF_UNSPEC) is None


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh program to compare with")
@pytest.mark.parametrize(
    ("lines", "host"),
    [
        ("", "localhost"),
        ("CanonicalizeMaxDots 5", "127.0.0.1"),
        ("HostName nowhere", "x"),
        ("CanonicalizeMaxDots 0", "a.b"),
        ("ProxyCommand nc", "localhost"),
    ],
)
def test_openssh_finds_the_same(tmp_path: Path, lines: str, host: str) -> None:
    path = tmp_path / "config"
    path.write_text(
        f"CanonicalizeHostname yes\nCanonicalDomains no-such.invalid\n{lines}\n"
        "Match canonical\nUser second\nMatch canonical host nowhere\nPort 7\n"
    )
    said = subprocess.run(
        ["ssh", "-G", "-F", path, host], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    cache = ConfigCache()
    query = lookup([cache.load(str(path))], host, (), cache)
    assert f"hostname {query.target}" in said
    assert f"user {query.user}" in said
    assert f"port {query.number('Port') or 22}" in said


# -- files named after the host --------------------------------------------------------------------


def test_included_files_may_be_named_after_the_host(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE", "west")
    (tmp_path / "of-node1-bob").write_text("Port 7\nHost other\nPort 8\n")
    (tmp_path / "of-west").write_text("Compression yes\nMatch final\nServerAliveInterval 5\n")
    text = f"User bob\nHost node*\nInclude {tmp_path}/of-%h-%r\n"
    text += f"Host *\nInclude {tmp_path}/of-${{SITE}}\n"
    query = ask(text, "node1")
    assert (query.number("Port"), query.flag("Compression", False)) == (7, True)
    assert query.get("ServerAliveInterval") is not None
    assert ask(text, "node2").number("Port") is None
    assert ask(text, "other").number("Port") is None
    # Files that change are read again, as any other.
    (tmp_path / "of-node1-bob").write_text("Port 77\n")
    assert ask(text, "node1").number("Port") == 77


def test_wrong_names_of_included_files(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="config line 2: Include: unknown token %z"):
        ask("Host node1\nInclude /%z\n")
    assert ask("Host node2\nInclude /%z\n").get("Port") is None
    with pytest.raises(ConfigurationError, match="NO_SUCH_VARIABLE is not set"):
        ask("Include /${NO_SUCH_VARIABLE}\n")
    (tmp_path / "self-node1").write_text(f"Include {tmp_path}/self-%h\n")
    with pytest.raises(ConfigurationError, match="self-node1 line 1: too many levels of Include"):
        ask(f"Include {tmp_path}/self-%h\n")


# -- in a run --------------------------------------------------------------------------------------


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


class Ticks(EventHandler):
    """Counts how often a timer fires, to see whether the engine is awake."""

    def __init__(self) -> None:
        self.count = 0

    def ev_timer(self, timer: Any) -> None:
        self.count += 1


def test_nodes_wait_for_a_command_and_the_engine_does_not(
    sshd: Sshd, task: Task, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    os.mkfifo(gate)
    path = sshd.write_ssh_config(tmp_path / "config")
    # Each command waits for somebody to open the gate.
    path.write_text(
        f"Match exec 'echo %n >> {log}; cat < {gate}'\nSetEnv X=found\n" + path.read_text()
    )
    task.set_info("ssh_options", f"-F {path}")
    task.configure_ssh(allow_match_exec=True)
    ticks = Ticks()

    class Opener(EventHandler):
        def ev_timer(self, timer: Any) -> None:
            # Opening the gate fails until commands wait at it.
            try:
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return

    task.timer(0.01, ticks, interval=0.01, autoclose=True)
    task.timer(0.05, Opener(), interval=0.05, autoclose=True)
    worker = task.shell("echo $X", nodes="node[1-20]")
    task.resume()
    assert [bytes(text) for text, _ in worker.iter_buffers()] == [b"found"]
    assert [rc for rc, _ in worker.iter_retcodes()] == [0]
    assert sorted(log.read_text().split()) == sorted(f"node{n}" for n in range(1, 21))
    assert ticks.count > 3
    task.close()


def test_a_node_whose_command_does_not_answer_fails_alone(
    sshd: Sshd, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MATCH_EXEC_TIMEOUT", 0.1)
    path = sshd.write_ssh_config(tmp_path / "config")
    path.write_text("Match originalhost node1 exec 'sleep 9'\nUser x\nHost *\n" + path.read_text())
    task.set_info("ssh_options", f"-F {path}")
    task.configure_ssh(allow_match_exec=True)
    task.run("echo ok", nodes="node[1-3]", timeout=30)
    ((failure, nodes),) = task.iter_failures()
    assert nodes == ["node1"]
    assert isinstance(failure, NodeConfigurationError)
    assert "no answer within 0.1 s" in str(failure)
    assert (task.node_retcode("node1"), task.node_retcode("node2")) == (255, 0)
    task.close()


def test_a_run_that_ends_while_a_command_is_waited_for(
    sshd: Sshd, task: Task, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = sshd.write_ssh_config(tmp_path / "config")
    path.write_text(
        f"Match originalhost node1 exec 'cat < {gate}'\nCompression no\nHost *\n" + path.read_text()
    )
    task.set_info("ssh_options", f"-F {path}")
    task.configure_ssh(allow_match_exec=True)

    class Aborter(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            if node == "node2":
                task.abort()

    task.shell("echo ok", nodes="node[1-2]", handler=Aborter())
    task.resume()
    # Whoever found it out in the end finds nobody who cares.
    threads = [t for t in threading.enumerate() if t.name == "pyclustershell lookups"]
    os.close(os.open(gate, os.O_WRONLY))
    for thread in threads:
        thread.join(10)
    task.run("echo ok", nodes="node1", timeout=30)
    assert task.node_buffer("node1") == b"ok"
    task.close()


def test_canonical_names_in_a_run(
    sshd: Sshd, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    def look_up(_context: LocalContext, name: str, _family: int) -> Optional[str]:
        threads.add(threading.current_thread().name)
        return "localhost" if name == "short.dc1.example." else None

    monkeypatch.setattr(LocalContext, "look_up", look_up)
    path = tmp_path / "config"
    path.write_text(
        "CanonicalizeHostname yes\nCanonicalDomains dc1.example\n"
        "CanonicalizePermittedCNAMEs *.dc1.example:localhost\n"
    )
    sshd.write_ssh_config(tmp_path / "rest", AddressFamily="inet")
    path.write_text(path.read_text() + (tmp_path / "rest").read_text())
    task.set_info("ssh_options", f"-F {path}")
    task.run("echo ok", nodes="short", timeout=30)
    assert task.node_buffer("short") == b"ok"
    assert threads == {"pyclustershell lookups"}
    task.close()
