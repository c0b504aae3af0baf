"""Runs a scenario, and checks the promises that hold in every one of them.

It looks from outside: at the results that a task's user sees, at this process's threads and
descriptors, and at the processes and the files on the nodes. It does not look into the library.

For copies it checks the promises of docs/copying.md. A file with its final name is whole or is the
former file, in every case. This host has no temporary files when the run is over. A node has none
if its copy has succeeded, or if its connection lived and ``ssh_kill_grace`` was long enough. If the
connection was lost, files that were being written stay on the node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import TimeoutError
from pyclustershell.task import Task
from tests.faults import copies
from tests.faults.copies import OLD, Copied
from tests.faults.nodes import NODES
from tests.faults.scenario import (
    KEEPALIVE,
    LONGEST_GRACE,
    MARK,
    PHASE_TIMEOUT,
    Command,
    Copy,
    Job,
    Run,
    Scenario,
)
from tests.faults.world import World
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.trees import process_runs

#: Seconds that a run may take beyond its timeouts: other programs use the machine.
MARGIN = 60.0
#: Seconds until an ended process must be gone.
GONE_DEADLINE = 8.0

FAULTY = ",".join(name for name, node in NODES.items() if not node.healthy)


class Broken(AssertionError):
    """A promise is broken; the text says which."""


class Deliberate(Exception):
    """Raised by a handler."""


class Listener(EventHandler):
    """Records the events of a job by node, and aborts or raises at a planned event."""

    def __init__(self, run: Run, task: Task, counter: list[int]) -> None:
        self.events: dict[str, list[str]] = defaultdict(list)
        self.lines: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        self.codes: dict[str, Any] = {}
        self.copied: dict[str, int] = {}
        self.started = 0
        self.closed = 0
        self.aborted = False
        self._run = run
        self._task = task
        self._counter = counter  # of the whole run

    def _heard(self, node: str, event: str) -> None:
        self.events[node].append(event)
        if self.closed:
            raise Broken(f"{event} of {node} after ev_close")
        self._counter[0] += 1
        ending = self._run.ending
        if self._counter[0] == ending.after:
            if ending.kind == "raise":
                raise Deliberate
            if ending.kind == "abort in handler":
                self.aborted = True
                self._task.abort()

    def ev_start(self, worker: Any) -> None:
        self.started += 1

    def ev_pickup(self, worker: Any, node: str) -> None:
        self._heard(node, "pickup")

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        self.lines[node, sname].append(msg)
        if self.events[node][-1:] != ["read"]:
            self._heard(node, "read")

    def ev_written(self, worker: Any, node: str, sname: str, size: int) -> None:
        if sname == "copy":
            if size <= self.copied.get(node, -1):
                raise Broken(f"{node}: {size} bytes copied, after {self.copied[node]}")
            self.copied[node] = size
            if self.events[node][-1:] != ["written"]:
                self._heard(node, "written")

    def ev_hup(self, worker: Any, node: str, rc: Any) -> None:
        self.codes[node] = rc
        self._heard(node, "hup")

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self.closed += 1


class Ender(EventHandler):
    """Ends a task or a worker when its timer fires."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.fired = False

    def ev_timer(self, timer: Any) -> None:
        self.fired = True
        self.what.abort()


class Place:
    """The surroundings of a scenario.

    Attributes:
        world: the servers.
        mark: a part of the names of all processes and files of this scenario.
        directory: the target of copies from nodes.
        copies: how many copies there have been.
    """

    def __init__(self, world: World, mark: str, directory: Path) -> None:
        self.world = world
        self.mark = mark
        self.directory = directory
        self.copies = 0


def check(scenario: Scenario, world: World) -> None:
    """Run a scenario and check it.

    Raises:
        Broken, AssertionError: a promise is broken; the text says which.
    """
    mark = f"{scenario.seed}.{os.getpid()}.{time.monotonic_ns()}"
    copied: list[Copied] = []
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        directory = enter(tempfile.TemporaryDirectory(prefix="laboratory-copies-"))
        place = Place(world, mark, Path(directory))
        stack.callback(_remove_copies, copied)
        enter(_empty_directory())
        enter(no_leaks(GONE_DEADLINE))
        task = enter(fresh_task())
        task.set_info("ssh_options", f"-F {world.ssh_config}")
        # A busy machine is no fault of a healthy node.
        task.configure_ssh(
            connect_timeout=60.0,
            auth_timeout=60.0,
            connect_retries=scenario.retries,
            compression=scenario.compression,
        )
        task.configure_ssh(
            FAULTY,
            connect_timeout=PHASE_TIMEOUT,
            auth_timeout=PHASE_TIMEOUT,
            connect_retries=min(1, scenario.retries),
            keepalive=KEEPALIVE,
            overrides=["ServerAliveCountMax=2"],
        )
        for run in scenario.runs:
            world.set_plans(run.plans)
            _check_run(task, run, place, copied)
            if run.close_after:
                _close(task)
        _close(task)
        check_processes(f"LABORATORY={mark}")
        # Those that are there for copies have the nodes' directories as arguments.
        check_processes(str(world.homes))
        _check_copied(copied)


def _close(task: Task) -> None:
    began = time.monotonic()
    task.close()
    took = time.monotonic() - began
    if took > 1.0 + MARGIN:  # the longest grace
        raise Broken(f"close() took {took:.1f} s")


def _check_run(task: Task, run: Run, place: Place, copied: list[Copied]) -> None:
    """Do one run, and add its copies to those that are looked at in the end."""
    for key, value in (
        ("fanout", run.fanout),
        ("ssh_pool_size", run.pool_size),
        ("ssh_idle_ttl", run.idle_ttl),
        ("ssh_kill_grace", run.kill_grace),
    ):
        task.set_info(key, value)
    counter = [0]
    pairs = []
    targets: dict[int, dict[str, Path]] = {}
    for index, job in enumerate(run.jobs):
        listener = Listener(run, task, counter)
        if isinstance(job.work, Copy):
            worker, targets[index] = _begin_copy(task, job, job.work, listener, place)
        else:
            worker = _begin_command(task, job, job.work, listener, place.mark)
        pairs.append((job, listener, worker))
    ending = run.ending
    ender = Ender(task if ending.kind == "abort" else pairs[0][2])
    if ending.kind in ("abort", "abort worker"):
        task.timer(ending.after, ender, autoclose=True)
    began = time.monotonic()
    ended_by = "none"
    try:
        task.resume(ending.after if ending.kind == "timeout" else None)
    except TimeoutError:
        ended_by = "timeout"
    except Deliberate:
        ended_by = "raise"
    took = time.monotonic() - began
    if took > _time_limit(run):
        raise Broken(f"the run took {took:.1f} s, and has {_time_limit(run):.1f}")
    if ended_by not in ("none", ending.kind):
        raise Broken(f"the run ended by {ended_by}")
    if left := list(place.directory.rglob("*.part")):
        raise Broken(f"temporary files are left on this host: {left}")
    # An aborted run keeps no results.
    aborted = any(listener.aborted for _job, listener, _worker in pairs)
    aborted |= ender.fired and ending.kind == "abort"
    whole = ended_by == "none" and not aborted
    for index, (job, listener, worker) in enumerate(pairs):
        # As with ClusterShell, a handler that raises at a worker's very end is not told of it.
        broken_off = ended_by == "raise" or listener.aborted
        _check_events(listener, broken_off)
        left_out = ender.fired and ending.kind == "abort worker" and index == 0
        codes = _check_outcomes(job, listener, worker, whole and not left_out, aborted)
        if isinstance(job.work, Copy):
            copied += _copied(run, job.work, targets[index], codes, place)


def _begin_command(task: Task, job: Job, command: Command, listener: Listener, mark: str) -> Any:
    worker: Any = task.shell(
        command.text.replace(MARK, mark),
        nodes=",".join(job.nodes),
        handler=listener,
        timeout=job.timeout,
        stderr=job.stderr,
        stdin=command.stdin is not None,
    )
    if command.stdin is not None:
        worker.write(command.stdin)
        worker.set_write_eof()
    return worker


def _begin_copy(
    task: Task, job: Job, copy: Copy, listener: Listener, place: Place
) -> tuple[Any, dict[str, Path]]:
    """Schedule a copy. Returns its worker and the target of each node that has a home."""
    place.copies += 1
    name = f"copy{place.copies}.{place.mark}"
    homes = {node: place.world.home(node) for node in job.nodes if node in place.world.nodes}
    if copy.reverse:
        source, dest = copy.sample, str(place.directory / name)
        os.mkdir(dest)
        targets = {node: place.directory / name / f"{copy.sample}.{node}" for node in homes}
    else:
        source, dest = str(place.world.samples / copy.sample), name
        targets = {node: home / name for node, home in homes.items()}
    if copy.existing:
        for target in targets.values():
            target.write_bytes(OLD)
    worker: Any = (task.rcopy if copy.reverse else task.copy)(
        source,
        dest,
        nodes=",".join(job.nodes),
        handler=listener,
        timeout=job.timeout,
        stderr=job.stderr,
        preserve=copy.preserve,
    )
    return worker, targets


def _time_limit(run: Run) -> float:
    """How many seconds a run may take: all nodes one after the other, as many at once as may be."""
    at_once = min(run.fanout, run.pool_size or run.fanout)
    nodes = sum(len(job.nodes) for job in run.jobs)
    # Connecting, twice; logging in; a session; the command's request; a dead peer.
    phases = 2 * PHASE_TIMEOUT + 1.0 + 3 * PHASE_TIMEOUT + 4 * KEEPALIVE
    if run.ending.kind in ("timeout", "abort"):
        return run.ending.after + MARGIN
    return (nodes / at_once + 1) * (phases + 1.0) + MARGIN


def _check_events(listener: Listener, broken_off: bool) -> None:
    told = listener.closed == listener.started or (broken_off and listener.closed == 0)
    if listener.started > 1 or not told:
        raise Broken(f"{listener.started} ev_start and {listener.closed} ev_close of a worker")
    for node, events in listener.events.items():
        if events[:1] != ["pickup"] or events.count("pickup") > 1 or events.count("hup") > 1:
            raise Broken(f"{node}: {events}")
        if "hup" in events and events[-1] != "hup":
            raise Broken(f"{node}: {events}")


def _check_outcomes(
    job: Job, listener: Listener, worker: Any, whole: bool, aborted: bool
) -> dict[str, int]:
    """Every node has one outcome, and it is one of those that it may have.

    Args:
        job: the command or copy and its nodes.
        listener: the events of its handler.
        worker: its worker.
        whole: whether the run went on to its end.
        aborted: whether it was aborted, so that nothing is kept.

    Returns:
        The return codes.
    """
    codes = dict(worker.iter_node_retcodes())
    timeouts = list(worker.iter_keys_timeout())
    failures = {node for _failure, nodes in worker.iter_failures() for node in nodes}
    if aborted:
        if codes or timeouts or failures:
            raise Broken("an aborted run has results")
        codes = listener.codes
    if len(set(timeouts)) != len(timeouts):
        raise Broken(f"timed out twice: {timeouts}")
    for node in job.nodes:
        where = f"{node} ({describe(job.work)}, timeout {job.timeout})"
        outcomes = (node in codes) + (node in timeouts)
        if outcomes > 1 or (whole and not outcomes):
            raise Broken(f"{where}: {outcomes} outcomes")
        if node in timeouts and job.timeout is None and whole:
            raise Broken(f"{where}: a timeout out of nothing")
        if whole and codes.get(node) != listener.codes.get(node):
            raise Broken(f"{where}: rc {codes.get(node)}, and {listener.codes.get(node)} in ev_hup")
        if node in codes:
            failed = codes[node] != 0 if isinstance(job.work, Copy) else codes[node] == 255
            if not aborted and (node in failures) is not failed:
                raise Broken(f"{where}: rc {codes[node]}, a failure: {node in failures}")
            said = worker.node_failure(node) if not aborted else None
            if isinstance(job.work, Copy):
                _check_copy(node, job.work, listener, codes[node], said)
            else:
                _check_command(node, job, job.work, listener, codes[node], said)
    return codes


def describe(work: Union[Command, Copy]) -> str:
    """A command, or a copy, in short."""
    return repr(work.text) if isinstance(work, Command) else repr(work)


def _check_copy(
    node: str, copy: Copy, listener: Listener, code: int, failure: Optional[Exception]
) -> None:
    if NODES[node].healthy:
        allowed = [0]
    elif node.startswith("cut"):
        allowed = [0, 255]
    else:
        allowed = [1, 255]  # no SFTP, or none that goes far; no connection
    if code not in allowed:
        raise Broken(f"{node} ({copy}): rc {code} {failure!r}, not {allowed}")
    told = listener.copied.get(node, 0)
    if code == 0 and told != copies.size(copy.sample):
        raise Broken(f"{node} ({copy}): {told} of {copies.size(copy.sample)} bytes in ev_written")


def _check_command(
    node: str,
    job: Job,
    command: Command,
    listener: Listener,
    code: int,
    failure: Optional[Exception],
) -> None:
    expected = NODES[node]
    as_asked = expected.healthy or node.startswith("cut")
    allowed = {*expected.codes} if not as_asked else {command.code}
    if not expected.healthy:
        # Their timeouts are short, and a busy machine may miss them.
        allowed.add(255)
    where = f"{node} ({command.text!r})"
    if code not in allowed:
        raise Broken(f"{where}: rc {code} {failure!r}, not {allowed}")
    if not as_asked or code == 255:
        return
    streams = {"stdout": command.stdout, "stderr": command.stderr}
    if not job.stderr:
        # Both in the order in which they came, which is not known for these.
        merged = sorted(filter(None, streams.values()))
        streams = {"stdout": b"\n".join(merged), "stderr": b""}
    for sname, wanted in streams.items():
        lines = listener.lines.get((node, sname), [])
        got = b"\n".join(lines if job.stderr else (lines if len(lines) > 2 else sorted(lines)))
        if not job.stderr and command.stderr == b"":
            got = b"\n".join(lines)
        if got != wanted:
            raise Broken(f"{where}: {len(got)} of {len(wanted)} bytes of {sname}: {got[:80]!r}")


# -- leftovers -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _empty_directory() -> Iterator[None]:
    """Temporary files go to a directory of their own, which is to be empty in the end."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="laboratory-client-") as directory:
        tempfile.tempdir = directory
        try:
            yield
            left = os.listdir(directory)
        finally:
            tempfile.tempdir = before
    if left:
        raise Broken(f"temporary files are left: {left}")


def _copied(
    run: Run, copy: Copy, targets: dict[str, Path], codes: dict[str, int], place: Place
) -> list[Copied]:
    """The copies to check in the end."""
    # None stands for two seconds, which a busy machine may need for something else.
    grace = run.kill_grace == LONGEST_GRACE
    found = []
    for node, target in targets.items():
        # A throttled node may need longer than the grace for the bytes on their way.
        healthy = NODES[node].healthy and not node.startswith("slow")
        found.append(
            Copied(
                f"{copy} on {node}",
                place.world.home(node) if copy.reverse else place.world.samples,
                copy.sample,
                target,
                codes.get(node) == 0,
                copy.existing,
                copy.reverse or codes.get(node) in (0, 1) or (healthy and grace),
            )
        )
    return found


def _check_copied(copied: list[Copied]) -> None:
    """Check that files are whole and that no temporary file is left if none may be."""
    for copy in copied:
        if fault := copy.fault():
            raise Broken(fault)
    deadline = time.monotonic() + GONE_DEADLINE
    while left := [path for copy in copied if copy.tidy for path in copy.temporaries()]:
        if time.monotonic() > deadline:
            raise Broken(f"temporary files are left on nodes: {left}")
        threading.Event().wait(0.02)


def _remove_copies(copied: list[Copied]) -> None:
    for copy in copied:
        for path in [copy.target, *copy.temporaries()]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def check_processes(mark: str) -> None:
    """No process of the scenario's goes on."""
    deadline = time.monotonic() + GONE_DEADLINE
    while True:
        left = [pid for pid in processes_with(mark) if process_runs(pid)]
        if not left:
            return
        if time.monotonic() > deadline:
            running = [_tell(pid) for pid in left]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise Broken(f"still running: {running}")
        threading.Event().wait(0.02)


def processes_with(mark: str) -> list[int]:
    """The processes whose command or environment has a mark."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                for file in ("cmdline", "environ"):
                    if mark.encode() in Path(f"/proc/{name}/{file}").read_bytes():
                        found.append(int(name))
                        break
    return found


def _tell(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        where = [
            variable.decode()
            for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if variable.startswith((b"SSH_CONNECTION", b"PYCLUSTERSHELL_NODE"))
        ]
        return f"{pid}: {words} {where}"
    return str(pid)
