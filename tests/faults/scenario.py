"""Scenarios: a few runs of one task, drawn at random from a seed.

A scenario is data, and the same seed always draws the same one. The timing of threads and processes
is not drawn, so that a failed seed may have to be replayed more than once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from tests.faults.copies import SAMPLES
from tests.faults.nodes import HEALTHY, NODES
from tests.servers.proxy import Plan

#: Timeouts of the faulty nodes, in seconds: for each phase, and between signs of life.
PHASE_TIMEOUT = 0.4
KEEPALIVE = 0.1

#: The longest grace for an aborted command, in seconds: enough for a busy machine.
LONGEST_GRACE = 20.0


class Command(NamedTuple):
    """A command and its expected outcome.

    Attributes:
        text: for the shell.
        stdin: its standard input; None: empty.
        stdout: all that it prints there.
        stderr: all that it prints there.
        code: its return code.
        killed: whether it runs until it is told to end.
    """

    text: str
    stdin: Optional[bytes] = None
    stdout: bytes = b""
    stderr: bytes = b""
    code: int = 0
    killed: bool = False


class Copy(NamedTuple):
    """A copy to nodes, or from them.

    Attributes:
        sample: a name of copies.SAMPLES.
        reverse: whether it comes from the nodes.
        preserve: whether times and modes are preserved.
        existing: whether there is an older file in its place.
    """

    sample: str
    reverse: bool
    preserve: bool
    existing: bool


class Job(NamedTuple):
    """One worker."""

    work: Union[Command, Copy]
    nodes: Sequence[str]
    stderr: bool
    timeout: Optional[float]
    autoclose: bool = False


class Ending(NamedTuple):
    """How a run ends before its workers have ended.

    Attributes:
        kind: 'none'; 'timeout' of the run; 'abort' of the task or 'abort worker' (the first) by a
            timer; 'raise' or 'abort in handler' at an event.
        after: seconds, or number of events.
    """

    kind: str = "none"
    after: float = 0


class Run(NamedTuple):
    """One run of the task."""

    jobs: Sequence[Job]
    fanout: int
    pool_size: Optional[int]
    idle_ttl: float
    kill_grace: Optional[float]
    ending: Ending
    plans: dict[str, Plan]
    close_after: bool


class Scenario(NamedTuple):
    """The runs of a seed."""

    seed: int
    runs: Sequence[Run]
    retries: int
    compression: bool


#: Every command begins with this, so that its processes are found on the node. The laboratory
#: replaces MARK by a name of its own.
MARK = "<mark>"
_PREFIX = f"LABORATORY={MARK}; export LABORATORY; "


_KINDS = (
    *("echo", "echo", "pause", "both", "much", "stdin", "bigstdin", "exit", "signal"),
    *("closed", "nul", "longline", "ends", "hang", "stubborn"),
)


def _command(rng: random.Random, kill_grace: Optional[float]) -> Command:
    mark = _PREFIX
    kind = rng.choice(_KINDS)
    if kind in ("hang", "stubborn") and kill_grace is None:
        kind = "echo"  # nothing would end it
    if kind == "stubborn" and kill_grace == LONGEST_GRACE:
        kind = "hang"  # it would take all of it
    if kind == "echo":
        return Command(mark + "echo ok", stdout=b"ok")
    if kind == "pause":
        return Command(mark + "echo a; sleep 0.1; echo b", stdout=b"a\nb")
    if kind == "both":
        return Command(mark + "echo out; echo err >&2; exit 7", None, b"out", b"err", 7)
    if kind == "much":
        lines = rng.choice([1000, 20000, 100000])
        return Command(mark + f"yes 0123456789 | head -n {lines}", stdout=_lines(lines))
    if kind == "stdin":
        return Command(mark + "cat", b"some\ninput\n", b"some\ninput")
    if kind == "bigstdin":
        size = rng.choice([40_000, 300_000])
        return Command(mark + "wc -c | tr -d ' '", bytes(size), str(size).encode())
    if kind == "exit":
        return Command(mark + "exit 3", code=3)
    if kind == "signal":
        return Command(mark + "kill -9 $$", code=137)
    if kind == "closed":
        return Command(mark + "exec >&- 2>&-; sleep 0.05; exit 4", code=4)
    if kind == "nul":
        return Command(mark + "head -c 5000 /dev/zero", stdout=bytes(5000))
    if kind == "longline":
        size = rng.choice([100_000, 1_000_000])
        text = mark + f"head -c {size} /dev/zero | tr '\\0' x; echo"
        return Command(text, stdout=b"x" * size)
    if kind == "ends":  # without a newline, and with other ones
        return Command(mark + r"printf '\r\na\r\nb\n\n'; printf c", stdout=b"\na\nb\n\nc")
    if kind == "hang":
        return Command(mark + "echo here; sleep 30", stdout=b"here", killed=True)
    return Command(mark + "trap '' TERM; sleep 30; sleep 30", killed=True)


def _lines(number: int) -> bytes:
    return b"\n".join([b"0123456789"] * number)


def _copy(rng: random.Random) -> Copy:
    sample = rng.choice([*SAMPLES, "large", "tree"])
    return Copy(
        sample,
        reverse=rng.random() < 0.4,
        preserve=rng.random() < 0.3,
        existing=sample != "tree" and rng.random() < 0.3,
    )


def _nodes(rng: random.Random, work: Union[Command, Copy]) -> list[str]:
    """20 to 50 nodes, some of them faulty. If the command must be killed, all nodes can do so."""
    killed = isinstance(work, Command) and work.killed
    kinds = {name: node for name, node in NODES.items() if (node.killable if killed else True)}
    healthy = [name for name, node in kinds.items() if node.healthy]
    faulty = [name for name, node in kinds.items() if not node.healthy]
    count = rng.randint(20, 50)
    bad = min(len(faulty), round(count * rng.choice([0, 0.1, 0.2, 0.5])))
    chosen = rng.sample(healthy, min(len(healthy), count - bad)) + rng.sample(faulty, bad)
    rng.shuffle(chosen)
    return chosen


def _job(rng: random.Random, kill_grace: Optional[float]) -> Job:
    work = _copy(rng) if rng.random() < 0.3 else _command(rng, kill_grace)
    nodes = _nodes(rng, work)
    timeout = rng.choice([None, None, None, 0.005, 0.05, 0.2, 1.0, 5.0])
    if isinstance(work, Copy):
        # A server without proper SFTP may never answer, like a command that hangs.
        if any(NODES[name].hangs_copies for name in nodes):
            timeout = rng.choice([0.2, 0.5, 2.0])
    elif work.killed or any(NODES[name].hangs for name in nodes):
        timeout = rng.choice([0.1, 0.5, 1.0])
    return Job(work, nodes, rng.random() < 0.5, timeout)


def _plans(rng: random.Random) -> dict[str, Plan]:
    plans = {}
    for index in range(1, HEALTHY["slow"] + 1):
        kind = rng.choice(["pass", "delay", "throttle"])
        amount = rng.uniform(0.01, 0.3) if kind == "delay" else rng.uniform(1e6, 3e6)
        plans[f"slow{index}"] = Plan(
            kind, rng.choice(["client", "server"]), rng.randrange(6000), amount
        )
    for name in NODES:
        if name.startswith("cut"):
            kind = rng.choice(["cut", "reset", "drop", "corrupt"])
            # Key exchange and authentication are about 3,000 bytes each way.
            after = rng.randrange(rng.choice([60, 3500, 60_000, 600_000]))
            plans[name] = Plan(kind, rng.choice(["client", "server"]), after)
    return plans


def _run(rng: random.Random) -> Run:
    kill_grace = rng.choice([None, 0.0, 0.1, 1.0, LONGEST_GRACE])
    jobs = [_job(rng, kill_grace) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    kind = rng.choice(
        ["none"] * 8 + ["timeout", "abort", "abort worker", "raise", "abort in handler"]
    )
    by_event = kind in ("raise", "abort in handler")
    after = rng.randrange(1, 60) if by_event else rng.choice([0.01, 0.05, 0.2, 0.5])
    if (
        kind != "none"
        and kill_grace is None
        and any(isinstance(job.work, Command) and job.work.killed for job in jobs)
    ):
        kind = "none"
    return Run(
        jobs,
        fanout=rng.choice([8, 16, 32, 64, 64, 64]),
        pool_size=rng.choice([None, None, None, 4, 20, 100]),
        idle_ttl=rng.choice([0.0, 0.05, 60.0, 60.0]),
        kill_grace=kill_grace,
        ending=Ending(kind, after),
        plans=_plans(rng),
        close_after=rng.random() < 0.1,
    )


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(seed)  # noqa: S311 - it may be guessed
    return Scenario(
        seed,
        [_run(rng) for _ in range(rng.choice([1, 1, 2, 3]))],
        retries=rng.choice([0, 0, 2]),
        compression=rng.random() < 0.1,
    )
