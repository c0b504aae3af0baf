"""Slow lookups: ``Match exec``, canonical names, included files with the host in their name."""

from __future__ import annotations

import builtins
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import ConfigurationError, NodeConfigurationError
from pyclustershell.ssh.config import query as queries
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.filestamp import file_stamp, forget_stamps
from pyclustershell.ssh.config.lookup import lookup
from pyclustershell.ssh.config.memo import LookupPending, Memo
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.query import Query
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.task import Task
from tests.helpers.disk import no_disk, stamp_clock
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task
from tests.servers import processes
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path
from tests.servers.sshd import Sshd

NAMES = {
    "web.a.org.": "web.a.org",
    "web.b.org.": "web.b.org",
    "db.b.org.": "db.b.org",
    "mail.b.org.": "host7.c.org.",
    "absolute.a.org.": "absolute.a.org",
}


class Network(Environment):
    """An environment with its own host names, which counts the lookups."""

    def __init__(self, home: Path) -> None:
        super().__init__("me", str(home), "here.example.org")
        self.asked: list[str] = []

    def canonical_name(self, name: str, family: int) -> Optional[str]:
        self.asked.append(name)
        return None if family == socket.AF_INET6 else NAMES.get(name)


Ask = Callable[..., Query]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


@pytest.fixture
def ask(tmp_path: Path, network: Network) -> Ask:
    """Return a function that looks up a host in a configuration text."""
    cache = ConfigCache(network)

    def ask(text: str, host: str = "node1", **options: Any) -> Query:
        path = tmp_path / "config"
        path.write_text(text)
        return lookup([cache.load(str(path))], host, (), cache, **options)

    return ask


# -- the memo --------------------------------------------------------------------------------------


def test_a_result_is_computed_once_for_all_threads() -> None:
    memo, calls = Memo(), []

    def compute() -> int:
        calls.append(1)
        return 42

    with pytest.raises(LookupPending):
        memo.get("key", compute, wait=False)
    assert calls == []
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(memo.get, "key", compute)
    assert memo.get("key", compute, wait=False) == 42
    assert memo.get("key", compute, wait=True) == 42
    assert calls == [1]


def test_an_exception_is_as_final_as_a_result() -> None:
    memo = Memo()

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(LookupPending):
        memo.get("key", fail, wait=False)
    for wait in (True, False):
        with pytest.raises(ValueError, match="no"):
            memo.get("key", fail, wait)


# -- Match exec ------------------------------------------------------------------------------------


def test_exec_is_only_run_where_it_is_allowed(ask: Ask, tmp_path: Path) -> None:
    touch = sh(f"touch {node_path(tmp_path)}/run")
    text = f"Match exec '{touch}'\nUser x\n"
    with pytest.raises(ConfigurationError, match=r"config line 1: .*allow_match_exec=True"):
        ask(text)
    assert not (tmp_path / "run").exists()
    assert ask(text, allow_match_exec=True).text("User") == "x"
    assert (tmp_path / "run").exists()


def test_exec_says_yes_by_its_exit_code(ask: Ask) -> None:
    text = (
        f"Match exec '{sh('true')}'\nPort 1\nMatch !exec '{sh('exit 3')}'\nUser x\n"
        f"Match exec '{sh('false')}'\nCompression yes\n"
    )
    query = ask(text, allow_match_exec=True)
    assert (query.number("Port"), query.text("User"), query.get("Compression")) == (1, "x", None)


def test_exec_knows_tokens(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    echo = sh(f"echo %h %n %p %r %k %% >> {node_path(log)}")
    text = f"Host Node1\nHostName %h.Org\nUser bob\nMatch exec '{echo}'\n"
    text += "Port 7\n"
    ask(text, "Node1", allow_match_exec=True)
    assert log.read_text() == "Node1.Org Node1 22 bob Node1 %\n"
    with pytest.raises(ConfigurationError, match="config line 1: Match exec: unknown token %z"):
        ask("Match exec 'echo %z'\nPort 7\n", allow_match_exec=True)


def test_the_same_command_is_run_once_for_all_hosts(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = (sh(f"echo {word} >> {node_path(log)}") for word in ("x", "%h"))
    text = f"Match exec '{first}'\nUser x\nMatch exec '{second}'\nPort 7\n"
    for number in (1, 2, 3, 1, 2, 3):
        assert ask(text, f"node{number}", allow_match_exec=True).number("Port") == 7
    assert log.read_text().split() == ["x", "node1", "node2", "node3"]


def test_exec_comes_last_where_something_else_has_decided(ask: Ask, tmp_path: Path) -> None:
    touch = sh(f"touch {node_path(tmp_path)}/run")
    text = f"Match user nobody exec '{touch}'\nPort 7\n"
    assert ask(text, allow_match_exec=True).number("Port") is None
    assert not (tmp_path / "run").exists()
    # Not even the permission is asked for.
    assert ask(text).number("Port") is None


def test_a_command_that_takes_too_long_decides_nothing(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MATCH_EXEC_TIMEOUT", 0.05)
    with pytest.raises(ConfigurationError, match=r"config line 1: Match exec: .*: no answer"):
        ask(f"Match exec '{sh('sleep 9')}'\nUser x\n", allow_match_exec=True)


def test_who_must_not_wait_is_told_so(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "log"
    echo = sh(f"echo x >> {node_path(log)}")
    text = f"Match exec '{echo}'\nUser x\n"
    with pytest.raises(LookupPending):
        ask(text, allow_match_exec=True, wait=False)
    assert not log.exists()
    ask(text, allow_match_exec=True)
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
    environment = Environment()
    assert environment.canonical_name("127.0.0.1", socket.AF_UNSPEC) == "127.0.0.1"
    assert environment.canonical_name("127.0.0.1", socket.AF_INET6) is None
    assert environment.canonical_name("no-such-name.invalid.", socket.AF_UNSPEC) is None
    assert environment.canonical_name("x" * 80 + ".invalid.", socket.AF_UNSPEC) is None


@pytest.mark.needs("ssh")
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
    said = processes.run("ssh", "-G", "-F", path, host).stdout.splitlines()
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
    with pytest.raises(ConfigurationError, match="node1 line 1: more than 16 levels of Include"):
        ask(f"Include {tmp_path}/self-%h\n")


# -- threads that must not wait for a disk ---------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for the stamps of files; the test sets its time."""
    return stamp_clock(monkeypatch)


def test_stamps_are_used_for_a_second(tmp_path: Path, clock: list[float]) -> None:
    path = str(tmp_path / "file")

    def is_pending() -> bool:
        with pytest.raises(LookupPending):
            file_stamp(path, wait=False)
        return True

    assert is_pending()
    assert file_stamp(path) is None
    Path(path).touch()
    assert file_stamp(path, wait=False) is None
    clock[0] += 1.1
    assert is_pending()
    after = file_stamp(path)
    assert after is not None
    assert file_stamp(path, wait=False) == after
    forget_stamps()
    assert is_pending()


def test_a_file_is_read_and_looked_at_by_threads_that_may_wait(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").write_text("Port 7\n")
    path = tmp_path / "config"
    path.write_text(f"Include {tmp_path}/mor*\n")
    cache = ConfigCache(Environment("me", str(tmp_path), "here"))

    def port(wait: bool) -> Optional[int]:
        return lookup([cache.load(str(path), wait)], "node1", (), cache, wait=wait).number("Port")

    for _ in range(2):
        with pytest.raises(LookupPending):
            port(wait=False)
        assert port(wait=True) == 7
        with no_disk():
            assert port(wait=False) == 7
        clock[0] += 1.1
    (tmp_path / "more").write_text("Port 70\n")
    with pytest.raises(LookupPending):
        port(wait=False)
    assert (port(wait=True), port(wait=False)) == (70, 70)


def test_files_that_do_not_exist_are_looked_for_by_threads_that_may_wait(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment("me", str(tmp_path), "here")
    monkeypatch.setattr(Environment, "system_directory", str(tmp_path))
    cache = ConfigCache(environment)
    with pytest.raises(LookupPending):
        cache.defaults(wait=False)
    assert cache.defaults() == cache.defaults(wait=False) == []
    (tmp_path / "ssh_config").touch()
    clock[0] += 1.1
    with pytest.raises(LookupPending):
        cache.defaults(wait=False)
    assert len(cache.defaults()) == len(cache.defaults(wait=False)) == 1


def test_homes_are_looked_up_by_threads_that_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def expanduser(path: str) -> str:
        asked.append(path)
        return {"~": "/home/me", "~bob": "/home/bob"}.get(path, path)

    monkeypatch.setattr("os.path.expanduser", expanduser)
    monkeypatch.setattr("getpass.getuser", lambda: asked.append("user") or "me")  # type: ignore[func-returns-value]
    environment = Environment()
    with pytest.raises(LookupPending):
        environment.prepare(wait=False)
    assert not asked
    environment.prepare(wait=True)
    environment.prepare(wait=False)
    assert sorted(asked) == ["user", "~"]
    assert environment.expand_home("~/key", wait=False) == "/home/me/key"
    assert environment.expand_home("/~bob/key", wait=False) == "/~bob/key"
    for path, expected in (("~bob/.ssh/key", "/home/bob/.ssh/key"), ("~nobody", "~nobody")):
        with pytest.raises(LookupPending):
            environment.expand_home(path, wait=False)
        assert environment.expand_home(path) == expected
        assert environment.expand_home(path, wait=False) == expected
    assert sorted(asked) == ["user", "~", "~bob", "~nobody"]


def test_a_user_without_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def getuser() -> str:
        asked.append(1)
        raise KeyError("no such user")

    monkeypatch.setattr("getpass.getuser", getuser)
    environment = Environment()
    environment.prepare(wait=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="has no name in the user database"):
            _ = environment.user
    assert asked == [1]


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


@pytest.mark.posix_only("its commands wait at a named pipe")
def test_nodes_wait_for_a_command_and_the_engine_does_not(
    sshd: Sshd, task: Task, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    os.mkfifo(gate)
    path = sshd.write_ssh_config(tmp_path / "config")
    # Each command waits until the test opens the gate.
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


@pytest.mark.posix_only("it makes a named pipe")
def test_nodes_wait_for_a_disk_and_the_engine_does_not(
    sshd: Sshd, task: Task, tmp_path: Path
) -> None:
    """A configuration file that cannot be read for a while, as on a server that does not answer."""
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    text = sshd.ssh_config.read_text()
    task.set_info("ssh_options", f"-F {sshd.ssh_config}")
    ended: list[str] = []

    class Ends(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            ended.append(node)
            if node == "node2":
                # The file can be read now.
                slow.write_text("SetEnv X=found\n" + text)

    options = SSHOptions(config_files=[str(slow)])
    waiting = task.shell("echo $X", nodes="node1", handler=Ends(), ssh=options)
    task.shell("echo ok", nodes="node2", handler=Ends())
    task.resume()
    assert ended == ["node2", "node1"]
    assert waiting.node_buffer("node1") == b"found"
    task.close()


@pytest.mark.posix_only("it makes a named pipe")
def test_a_node_that_waits_for_a_disk_has_its_timeout(task: Task, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    task.set_info("ssh_options", f"-F {slow}")
    task.run("true", nodes="node1", timeout=0.1)
    assert list(task.iter_keys_timeout()) == ["node1"]
    slow.write_text("# the thread that waits for it ends\n")
    task.close()


def test_the_engine_asks_no_disk_and_no_user_database(
    sshd: Sshd, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sshd.write_ssh_config(tmp_path / "config")
    more = tmp_path / "more-node1"
    more.write_text("SetEnv X=found\n")
    lines = f"Include {tmp_path}/more-%n\nUserKnownHostsFile ~root/no-such-file\n"
    path.write_text(lines + path.read_text())
    engine_thread = threading.current_thread()
    asked: set[tuple[str, bool]] = set()

    def watch(owner: Any, name: str, files: tuple[str, ...]) -> None:
        original = getattr(owner, name)

        def watched(argument: Any, *rest: Any, **options: Any) -> Any:
            if argument in files:
                aside = threading.current_thread() is not engine_thread
                asked.add((name, aside))
            return original(argument, *rest, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(builtins, "open", (str(path), str(more)))
    watch(os, "stat", (str(path), str(more)))
    watch(os.path, "expanduser", ("~", "~root"))
    task.set_info("ssh_options", f"-F {path}")
    task.configure_ssh(known_hosts=[str(sshd.known_hosts)])
    task.run("echo $X", nodes="node1", timeout=30)
    assert task.node_buffer("node1") == b"found"
    assert asked == {("open", True), ("stat", True), ("expanduser", True)}
    task.close()


def test_the_error_of_a_file_that_another_thread_has_read(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Port many\n")
    task.set_info("ssh_options", f"-F {path}")
    for line, error in (("Port many", "config line 1"), ("Prot 22", "unknown keyword")):
        path.write_text(line)
        worker = task.run("true", nodes="node[1-3]")
        for node in ("node1", "node2", "node3"):
            failure = worker.node_failure(node)
            assert isinstance(failure, NodeConfigurationError)
            assert error in failure.sentence
    task.close()


def test_a_node_whose_command_does_not_answer_fails_alone(
    sshd: Sshd, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MATCH_EXEC_TIMEOUT", 0.1)
    path = sshd.write_ssh_config(tmp_path / "config")
    path.write_text(
        f"Match originalhost node1 exec '{sh('sleep 9')}'\nUser x\nHost *\n" + path.read_text()
    )
    task.set_info("ssh_options", f"-F {path}")
    task.configure_ssh(allow_match_exec=True)
    task.run("echo ok", nodes="node[1-3]", timeout=30)
    ((failure, nodes),) = task.iter_failures()
    assert nodes == ["node1"]
    assert isinstance(failure, NodeConfigurationError)
    assert "no answer within 0.1 s" in str(failure)
    assert (task.node_retcode("node1"), task.node_retcode("node2")) == (255, 0)
    task.close()


@pytest.mark.posix_only("its command waits at a named pipe")
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
    # The lookup ends after the run, and its result is not used.
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

    def canonical_name(_environment: Environment, name: str, _family: int) -> Optional[str]:
        threads.add(threading.current_thread().name)
        return "localhost" if name == "short.dc1.example." else None

    monkeypatch.setattr(Environment, "canonical_name", canonical_name)
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
