"""Every exception class of the package: a situation that raises it, and the sentence to be read."""

from __future__ import annotations

import ast
import builtins
import errno
import importlib
import inspect
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator
from optparse import Values
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import pyclustershell
from pyclustershell import (
    EventHandler,
    NodeSet,
    RangeSet,
    WorkerPopen,
    exceptions,
)
from pyclustershell.cli.clush import main, run
from pyclustershell.cli.clushconfig import ClushConfig, ClushConfigError
from pyclustershell.cli.clushhooks import PlainError
from pyclustershell.cli.manner import CLUSTERSHELL
from pyclustershell.cli.program import Call, Failure, UsageError
from pyclustershell.cli.sshpass import password_of
from pyclustershell.engine.descriptors import ensure_descriptors
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset import NodeSetBase, ndfold, set_std_group_resolver
from pyclustershell.nodeset.groups import (
    GroupResolver,
    GroupResolverConfig,
    GroupSource,
    UpcallGroupSource,
)
from pyclustershell.nodeset.rangesyntax import RangeSyntaxError
from pyclustershell.nodeset.topology import TopologyGraph, TopologyParser
from pyclustershell.ssh.auth.agent import AgentConnection, AgentError
from pyclustershell.ssh.auth.encryptedkey import WrongPassphraseError, parse_openssh_key
from pyclustershell.ssh.config.memo import LookupPending, Memo
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from pyclustershell.ssh.sftp import codec
from pyclustershell.ssh.sftp.source import Source, SourceError
from pyclustershell.ssh.states import CommandEvent, CommandState, IllegalMoveError, move
from pyclustershell.task import Task
from pyclustershell.task.runner import RunAborted
from tests.helpers.sh import SHELL, sh
from tests.helpers.tasks import fresh_task
from tests.servers import faults, phases, sftp
from tests.servers.phases import PhaseServer

PACKAGE = "pyclustershell"


class World(NamedTuple):
    """What situations work with."""

    task: Task
    cluster: LoopbackCluster
    path: Path
    monkeypatch: pytest.MonkeyPatch


Situation = Callable[[World], BaseException]


class Case(NamedTuple):
    """A situation, and what its sentence must contain."""

    run: Situation
    given: str
    cause: str
    fix: Optional[str]


#: By class. Without a fix: the sentences that ssh prints (they name input and cause), and those in
#: which the cause says what to do.
CASES: dict[type[BaseException], list[Case]] = {}

#: Classes for ``except`` clauses only, for groups of errors or for scripts for ClusterShell.
NEVER_RAISED = {
    exceptions._PatternError,
    exceptions.EngineError,
    exceptions.EngineNotSupportedError,
    exceptions.NodeSetException,
    exceptions.GroupResolverError,
    exceptions.GroupSourceError,
    exceptions.HostKeyError,
    exceptions.RangeSetPaddingError,
}


def case(
    kind: type[BaseException], *, given: str, cause: str, fix: Optional[str] = None
) -> Callable[[Situation], Situation]:
    """Register a situation in which an exception of this class is raised."""

    def register(run: Situation) -> Situation:
        CASES.setdefault(kind, []).append(Case(run, given, cause, fix))
        return run

    return register


def raised(action: Callable[[], Any]) -> BaseException:
    """The exception that a call raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 its class is checked later
        action()
    return caught.value


def failure(
    task: Task, nodes: str = "node1", command: str = "true", **options: Any
) -> BaseException:
    """The failure of a node."""
    if options:
        task.configure_ssh(**options)
    task.run(command, nodes=nodes)
    [(found, _nodes)] = task.iter_failures()
    return found


def failure_on(
    world: World, server: PhaseServer, command: str = "true", **options: Any
) -> BaseException:
    """The failure of a node on a server with rules."""
    options = {
        "hostname": server.address[0],
        "port": server.port,
        "known_hosts": [server.known_host],
        "user": "me",
        "password": "x",
        "agent": False,
        "config_files": [],
        "connect_retries": 0,
        **options,
    }
    with server:
        return failure(world.task, "node1", command, **options)


def copied(world: World, script: dict[int, Any]) -> BaseException:
    """The failure of a reverse copy from a server with a script."""
    with sftp.scripted_nodes(script) as nodes:
        nodes.configure(world.task)
        world.task.rcopy("/data", str(world.path), nodes=nodes.names)
        world.task.resume()
    [(found, _nodes)] = world.task.iter_failures()
    return found


# -- tasks, workers and the engine -----------------------------------------------------------------


def no_such_file() -> str:
    """The system's words for a file that is not there."""
    with pytest.raises(FileNotFoundError) as caught:
        os.stat("no such file")
    return caught.value.strerror


@case(exceptions.PyClusterShellError, given="cluster", cause="not started", fix="use 'with'")
def _not_started(_world: World) -> BaseException:
    return raised(lambda: LoopbackCluster("node1").ssh_config)


@case(exceptions.TaskError, given="<Task", cause="its own thread only", fix="call resume() there")
def _resume_on_another_thread(world: World) -> BaseException:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return raised(pool.submit(world.task.resume).result)


@case(exceptions.TimeoutError, given="task", cause="ran out", fix="give resume() a longer timeout")
def _timeout(world: World) -> BaseException:
    world.task.shell(sh("exec sleep 60"))
    return raised(lambda: world.task.resume(0.05))


@case(exceptions.AlreadyRunningError, given="task", cause="already running", fix="after the run")
def _resume_in_a_handler(world: World) -> BaseException:
    found: list[BaseException] = []

    class Again(EventHandler):
        def ev_start(self, worker: Any) -> None:
            found.append(raised(world.task.resume))

    world.task.run(sh("true"), handler=Again())
    return found[0]


@case(
    exceptions.TaskMsgTreeError,
    given="stdout",
    cause="not kept",
    fix="set_default('stdout_msgtree', True)",
)
def _no_message_tree(world: World) -> BaseException:
    world.task.set_default("stdout_msgtree", False)
    world.task.run(sh("true"), key="k")
    return raised(lambda: world.task.key_buffer("k"))


@case(exceptions.WorkerError, given="%x", cause="unknown keyword", fix="use %h")
def _unknown_keyword(world: World) -> BaseException:
    return raised(lambda: world.task.run(sh("echo %x"), nodes="n1", remote=False))


@case(
    exceptions.WorkerError,
    given="WorkerPopen 'true'",
    cause="already been scheduled",
    fix="make a new worker",
)
def _a_worker_that_is_scheduled_twice(world: World) -> BaseException:
    worker = WorkerPopen("true")
    world.task.schedule(worker)
    return raised(lambda: world.task.schedule(worker))


@case(
    exceptions.EngineIllegalOperationError,
    given="EngineTimer",
    cause="was invalidated",
    fix="make a new timer",
)
def _an_invalid_timer(world: World) -> BaseException:
    timer = world.task.timer(60, handler=EventHandler())
    timer.invalidate()
    return raised(lambda: timer.set_nextfire(1))


@case(
    exceptions.EngineCapacityError,
    given="about 1000000064 open files",
    cause="this process may open",
    fix="use fewer, or raise the limit (ulimit -n 1000000064)",
)
def _too_few_open_files(world: World) -> BaseException:
    resource = pytest.importorskip("resource", reason="a limit of open files is POSIX's")
    world.monkeypatch.setattr(resource, "getrlimit", lambda _kind: (64, 64))
    return raised(lambda: ensure_descriptors(10**9, "use fewer"))


@case(
    RunAborted,
    given="Task.abort()",
    cause="was called",
    fix="let this exception leave the handler",
)
def _abort(world: World) -> BaseException:
    found: list[BaseException] = []

    class Aborts(EventHandler):
        def ev_start(self, worker: Any) -> None:
            try:
                world.task.abort()
            except BaseException as error:
                found.append(error)
                raise

    world.task.run(sh("true"), handler=Aborts())
    return found[0]


# -- node sets, range sets, groups, topologies -----------------------------------------------------


@case(
    exceptions.NodeSetParseError, given="'n[1-'", cause="unbalanced bracket", fix="expected a ']'"
)
def _node_set(_world: World) -> BaseException:
    return raised(lambda: NodeSet("n[1-"))


@case(exceptions.NodeSetParseRangeError, given="'a'", cause="bad range", fix="expected a number")
def _node_set_range(_world: World) -> BaseException:
    return raised(lambda: NodeSet("n[a]"))


@case(exceptions.NodeSetError, given="'node%s'", cause="both with and without indices")
def _node_set_error(_world: World) -> BaseException:
    return raised(lambda: NodeSetBase("node%s", RangeSet("1")).update(NodeSetBase("node%s")))


@case(
    exceptions.NodeSetExternalError, given="'gone'", cause="unknown group source", fix="there are"
)
def _no_such_source(_world: World) -> BaseException:
    resolver = GroupResolver(UpcallGroupSource("own", "exit 3"))
    return raised(lambda: NodeSet.fromall("gone", resolver=resolver))


@case(exceptions.RangeSetParseError, given="'1-a'", cause="invalid range", fix="expected a number")
def _range_set(_world: World) -> BaseException:
    return raised(lambda: RangeSet("1-a"))


@case(exceptions.RangeSetParseError, given="'01' and '002'", cause="padding", fix="same number")
def _padding(_world: World) -> BaseException:
    return raised(lambda: RangeSet("01-002"))


@case(exceptions.RangeSetException, given="50 ranges", cause="too large to be folded")
def _range_set_exception(_world: World) -> BaseException:
    box = (RangeSet("1-1000001")._spans, RangeSet("1-2")._spans)
    return raised(lambda: ndfold.check_size([box] * 51))


@case(RangeSyntaxError, given="", cause="invalid range", fix="expected a number")
def _range_syntax(_world: World) -> BaseException:
    error = raised(lambda: RangeSet("1-a")).__context__
    assert error is not None
    return error


@case(exceptions.GroupSourceQueryFailed, given="exit 3", cause="status 3", fix="try it in a shell")
def _upcall(_world: World) -> BaseException:
    return raised(lambda: GroupResolver(UpcallGroupSource("own", "exit 3")).group_nodes("a"))


@case(
    exceptions.GroupSourceNoUpcall,
    given="'own'",
    cause="no command 'list'",
    fix="add it to groups.conf",
)
def _no_upcall(_world: World) -> BaseException:
    return raised(lambda: GroupResolver(UpcallGroupSource("own", "true")).grouplist())


@case(exceptions.GroupResolverSourceError, given="'x'", cause="unknown group source", fix="'own'")
def _unknown_source(_world: World) -> BaseException:
    resolver = GroupResolver(UpcallGroupSource("own", "true"))
    return raised(lambda: NodeSet("@x:a", resolver=resolver))


@case(exceptions.GroupResolverConfigError, given="'x'", cause="not found", fix="there are 'own'")
def _default_source(world: World) -> BaseException:
    path = world.path / "groups.conf"
    path.write_text("[Main]\ndefault: x\n[own]\nmap: true\n")
    return raised(lambda: NodeSet("@a", resolver=GroupResolverConfig(str(path))))


@case(exceptions.GroupResolverIllegalCharError, given="'a!b'", cause="contains !", fix="rename it")
def _illegal_character(_world: World) -> BaseException:
    resolver = GroupResolver(GroupSource("own", {"a!b": "n"}), illegal_chars="!")
    resolver.strict = True
    return raised(resolver.grouplist)


@case(
    exceptions.TopologyError, given="topology.conf", cause="lead to the same nodes", fix="correct"
)
def _topology(world: World) -> BaseException:
    path = world.path / "topology.conf"
    path.write_text("[routes]\nadmin: gate\nother: gate\n")
    return raised(lambda: TopologyParser(str(path)).tree("admin"))


# -- configuration ---------------------------------------------------------------------------------


@case(exceptions.ConfigurationError, given="-o", cause="unknown keyword 'Prot'", fix="mean Port")
def _ssh_options(world: World) -> BaseException:
    return raised(lambda: world.task.set_info("ssh_options", "-o Prot=22"))


@case(
    exceptions.ConfigurationError, given="defaults.conf line 2", cause="fanout", fix="whole number"
)
def _defaults(world: World) -> BaseException:
    from pyclustershell.defaults import Defaults

    path = world.path / "defaults.conf"
    path.write_text("[task.info]\nfanout: many\n")
    return raised(lambda: Defaults([str(path)]))


@case(exceptions.NodeConfigurationError, given="my_config line 1", cause="'x'", fix="a number")
def _config_file(world: World) -> BaseException:
    path = world.path / "my_config"
    path.write_text("Port x\n")
    return failure(world.task, config_files=path)


@case(exceptions.NodeConfigurationError, given="'node1:0'", cause="port", fix="from 1 to 65535")
def _destination(world: World) -> BaseException:
    return failure(world.task, "node1:0")


@case(LookupPending, given="result", cause="has yet to be looked up")
def _pending(_world: World) -> BaseException:
    return raised(lambda: Memo().get("key", bool, wait=False))


@case(UsageError, given="'0'", cause="-f", fix="-f 64")
def _usage(world: World) -> BaseException:
    found: list[BaseException] = []
    parse = UsageError.__init__

    def record(self: UsageError, *args: object) -> None:
        parse(self, *args)
        found.append(self)

    world.monkeypatch.setattr(UsageError, "__init__", record)
    raised(lambda: main(["-w", "node1", "-f", "0", "true"]))
    return found[0]


@case(ClushConfigError, given="'many'", cause="Main.fanout")
def _clush_config(_world: World) -> BaseException:
    found: list[BaseException] = []
    config = ClushConfig(Values({"option": ["fanout=many"]}))
    try:
        config.fanout  # noqa: B018 reading it is the test
    except ClushConfigError as error:
        found.append(error)
    return found[0]


@case(PlainError, given="nosuch", cause="Could not load worker")
def _plain(world: World) -> BaseException:
    arguments = ["-w", "node1", "-R", "nosuch", "true"]
    return raised(lambda: run(Call("clush", arguments, CLUSTERSHELL)))


@case(Failure, given="SSHPASS", cause="not set", fix="set it")
def _failure(world: World) -> BaseException:
    world.monkeypatch.delenv("SSHPASS", raising=False)
    return raised(lambda: password_of("sshpass -e ssh", None))


# -- failures of nodes -----------------------------------------------------------------------------


@case(exceptions.ResolveError, given="nowhere.invalid", cause="resolve")
def _resolve(world: World) -> BaseException:
    return failure(world.task, hostname="nowhere.invalid")


@case(exceptions.ConnectError, given="127.0.0.1 port", cause="refused")
def _connect(world: World) -> BaseException:
    with faults.refusing_address() as (host, port):
        return failure(world.task, hostname=host, port=port)


@case(exceptions.RouteResolvingError, given="gate", cause="refused")
def _no_gateway(world: World) -> BaseException:
    with faults.refusing_address() as (host, port):
        world.task.configure_ssh("gate", hostname=host, port=port)
        graph = TopologyGraph()
        graph.add_route(NodeSet("here"), NodeSet("gate"))
        graph.add_route(NodeSet("gate"), NodeSet("node1"))
        world.task.topology = graph.to_tree("here")
        return failure(world.task)


@case(exceptions.HandshakeError, given="127.0.0.1 port", cause="banner exchange")
def _handshake(world: World) -> BaseException:
    with faults.ScriptedServer(faults.other_protocol) as server:
        return failure(world.task, hostname=server.address[0], port=server.port, connect_retries=0)


@case(
    exceptions.UnknownHostKeyError, given="SHA256:", cause="not known", fix="add it to known_hosts"
)
def _unknown_host_key(world: World) -> BaseException:
    return failure(world.task, known_hosts=[])


@case(
    exceptions.HostKeyChangedError,
    given="[127.0.0.1]:",
    cause="has changed",
    fix="only then remove that line",
)
def _changed_host_key(world: World) -> BaseException:
    server = PhaseServer({})
    other = phases.host_key()
    line = f"[{server.address[0]}]:{server.port} {other.get_name()} {other.get_base64()}"
    return failure_on(world, server, known_hosts=[line])


@case(exceptions.KnownHostsUnreadableError, given="known_hosts", cause="Too many open files")
def _unreadable_known_hosts(world: World) -> BaseException:
    path = world.path / "known_hosts"
    path.write_text("")
    world.task.configure_ssh(config_files="none", known_hosts=[str(path)])
    settings = world.task.connection_settings("node1")

    def refuse(name: Any, *_args: Any, **_options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        return raised(lambda: HostKeyChecker().check(settings, "ssh-ed25519", b"key"))


@case(exceptions.HostKeyRevokedError, given="127.0.0.1", cause="revoked")
def _revoked_host_key(world: World) -> BaseException:
    server = PhaseServer({})
    return failure_on(world, server, known_hosts=[f"@revoked {server.known_host}"])


@case(
    exceptions.AuthenticationError, given="nobody@127.0.0.1", cause="Permission denied (publickey)"
)
def _authentication(world: World) -> BaseException:
    return failure(world.task, user="nobody")


@case(exceptions.SessionError, given="the command", cause="refused")
def _session(world: World) -> BaseException:
    with LoopbackCluster("node1", handler=lambda node, command: None) as cluster:
        cluster.configure(world.task)
        return failure(world.task)


@case(exceptions.LineTooLongError, given="stdout", cause="longer than 5 bytes", fix="'line_limit'")
def _long_line(world: World) -> BaseException:
    world.task.set_info("line_limit", 5)
    return failure(world.task, command="head -c 200000 /dev/zero")


@case(
    exceptions.StatusLostError,
    given="command",
    cause="ignores SIGCHLD",
    fix="leave SIGCHLD at signal.SIG_DFL",
)
def _status_lost(world: World) -> BaseException:
    # SIGCHLD is ignored, and there is no Python that could wait for the command.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    executable, sys.executable = sys.executable, ""
    try:
        worker = world.task.run(sh("exit 3"), nodes="node1", remote=False)
    finally:
        sys.executable = executable
        signal.signal(signal.SIGCHLD, before)
    found = worker.node_failure("node1")  # type: ignore[union-attr]
    assert found is not None
    return found


@case(exceptions.ConnectionLostError, given="127.0.0.1", cause="closed")
def _connection_lost(world: World) -> BaseException:
    rules = phases.command(phases.accept, phases.break_off(phases.close))
    return failure_on(world, PhaseServer(rules))


@case(exceptions.NodeError, given="cannot start a process", cause="null ")
def _no_process(world: World) -> BaseException:
    worker = world.task.run("true \0", nodes="node1", remote=False)
    found = worker.node_failure("node1")  # type: ignore[union-attr]
    assert found is not None
    return found


# -- copies ----------------------------------------------------------------------------------------


@case(exceptions.CopyError, given="/nowhere/data", cause="No such file or directory")
def _copy(world: World) -> BaseException:
    world.task.rcopy("/nowhere/data", str(world.path), nodes="node1")
    world.task.resume()
    [(found, _nodes)] = world.task.iter_failures()
    return found


@case(exceptions.UnsafeCopyError, given="/data", cause="'../evil' is refused: it has a '/'")
def _unsafe_copy(world: World) -> BaseException:
    from tests.flow.test_copy_hostile import FILE, Listing

    return copied(world, Listing((b"../evil", FILE)).script)


@case(exceptions.SFTPProtocolError, given="11 bytes", cause="broke the SFTP protocol")
def _sftp_protocol(world: World) -> BaseException:
    from tests.flow.test_copy_hostile import with_file

    return copied(world, with_file(10, lambda number, *_: sftp.data(number, b"x" * 11)))


@case(exceptions.MalformedPacketError, given="", cause="")
def _malformed(_world: World) -> BaseException:
    return raised(lambda: codec.parse(codec.HANDLE, b"\0"))


@case(SourceError, given="", cause="No such file")
def _source(world: World) -> BaseException:
    path = world.path / "source"
    path.write_bytes(b"before")
    source = Source(str(path))
    entry = source.entry(0)
    assert entry is not None
    path.unlink()
    return raised(lambda: source.block(entry, 0, 6))


@case(AgentError, given="the agent", cause=no_such_file())
def _agent(world: World) -> BaseException:
    return raised(lambda: AgentConnection(str(world.path / "gone")).ask(b"x"))


@case(WrongPassphraseError, given="is encrypted", cause="the passphrase is wrong")
def _passphrase(_world: World) -> BaseException:
    encrypted = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(b"right"),
    )
    return raised(lambda: parse_openssh_key(encrypted).decrypted(b"wrong"))


@case(IllegalMoveError, given="EXITED cannot happen in", cause="a row is missing")
def _illegal_move(_world: World) -> BaseException:
    return raised(lambda: move({}, CommandState.DONE, CommandEvent.EXITED))


# -- the tests -------------------------------------------------------------------------------------


def all_classes() -> Iterator[type[BaseException]]:
    """Every exception class that a module of the package defines."""
    for module in pkgutil.walk_packages(pyclustershell.__path__, f"{PACKAGE}."):
        if module.name.endswith("__main__"):
            continue
        try:
            found = vars(importlib.import_module(module.name))
        except ImportError as error:
            if "library of Windows" not in str(error):
                raise
            continue
        for value in found.values():
            if (
                inspect.isclass(value)
                and issubclass(value, BaseException)
                and value.__module__ == module.name
            ):
                yield value


@case(
    exceptions.TaskAbortedError,
    given="the submitted command",
    cause="the task was aborted or closed",
    fix="future.worker.results()",
)
def _aborted_before_the_end(world: World) -> BaseException:
    task = Task()
    future = task.submit("sleep 60")
    task.close()
    return raised(future.result)


@case(exceptions.NodesFailedError, given="node[1-2]", cause="exit status 3")
def _some_nodes_failed(world: World) -> BaseException:
    worker = world.task.shell("exit 3", nodes="node[1-2]", remote=False)
    world.task.resume()
    return raised(worker.results().check)


def test_nodes_without_a_node_are_named() -> None:
    set_std_group_resolver(GroupResolver(GroupSource("own", {})))
    reason = r"nodes='@web' \(a group in it is empty or unknown\): "
    try:
        with fresh_task() as task:
            for action, advice in (
                (lambda: task.shell("true", nodes="@web"), "name a node, or leave nodes= out"),
                (lambda: task.copy("/x", "/y", "@web"), "name the nodes to copy to"),
                (lambda: task.rcopy("/x", "/y", "@web"), "name the nodes to copy to or from"),
            ):
                with pytest.raises(ValueError, match=reason + advice):
                    action()
            with pytest.raises(ValueError, match="no node in nodes='': name a node"):
                task.shell("true", nodes=NodeSet())
    finally:
        set_std_group_resolver(None)


def test_no_class_is_left_out() -> None:
    assert set(all_classes()) == set(CASES) | NEVER_RAISED


def test_what_is_never_raised_is_not() -> None:
    names = {kind.__name__ for kind in NEVER_RAISED}
    for path in Path(pyclustershell.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func).rpartition(".")[2] not in names, (
                    f"{path}: {node.lineno}"
                )


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster("node1", shell=SHELL) as running:
        yield running


SIGCHLD = pytest.mark.posix_only("Windows has no SIGCHLD")


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        pytest.param(
            kind,
            example,
            id=f"{kind.__name__}{example.run.__name__}",
            marks=[SIGCHLD] if example.run is _status_lost else [],
        )
        for kind, examples in CASES.items()
        for example in examples
    ],
)
def test_a_sentence_names_input_cause_and_fix(
    kind: type[BaseException],
    example: Case,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fresh_task() as task:
        cluster.configure(task)
        error = example.run(World(task, cluster, tmp_path, monkeypatch))
    assert type(error) is kind
    sentence = str(error)
    for part in (example.given, example.cause, example.fix or ""):
        assert part in sentence, sentence
