"""Cancels awaits of :mod:`pyclustershell.aio` at random moments, and looks at what is left.

``python -m tests.faults.cancels --runs 1000`` tries many seeds; tests/faults/test_cancels.py a few.
Each seed draws some awaits over healthy and faulty nodes of the laboratory, and cancels most of
them at moments of their own. It promises that

- a cancelled await ends within the grace, and one more second for nodes that do not answer,
- a healthy await next to it is whole: all its nodes, their codes and their output,
- nothing is left: no process on the nodes, no thread, descriptor or task here.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import random
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable
from typing import Any, Callable, NamedTuple, Optional

from pyclustershell.aio import NodeEnded, NodeOutput, Session
from tests.faults.laboratory import GONE_DEADLINE, MARGIN, check_processes
from tests.faults.nodes import NODES
from tests.faults.scenario import PHASE_TIMEOUT
from tests.faults.world import World
from tests.servers.leaks import no_leaks

#: Seconds that a cleanup may take after the grace: see CommandKill.
_AFTERMATH = 1.0
# Seconds for one seed. After that, the stacks of all threads are printed.
_DEADLINE = 240

_LINES = 2000

#: What a node runs, and the lines that it prints if nothing ends it.
COMMANDS = {
    "echo": ("echo 0", 1),
    "much": (f"seq 0 {_LINES - 1}", _LINES),
    "pause": ("echo 0; sleep 0.2; echo 1", 2),
    "hang": ("echo 0; sleep 60", None),
    "endless": ("yes", None),
    "stubborn": ("trap '' TERM; echo 0; sleep 60; sleep 60", None),
}


class Await(NamedTuple):
    """One await.

    Attributes:
        way: how it is awaited, a name of :data:`WAYS`.
        command: a name of :data:`COMMANDS`.
        nodes: the nodes.
        cancelled_after: seconds until it is cancelled; None if it is not.
        twice: True if it is cancelled once more while its commands are being ended.
    """

    way: str
    command: str
    nodes: list[str]
    cancelled_after: Optional[float]
    twice: bool


class Plan(NamedTuple):
    """The awaits of a seed."""

    seed: int
    awaits: list[Await]
    fanout: int
    grace: float
    buffer: int


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)  # noqa: S311 - it may be guessed
    killable = [name for name, node in NODES.items() if node.killable]
    faulty = [name for name, node in NODES.items() if not node.healthy]
    grace = rng.choice([0.0, 0.1, 0.5])
    awaits = []
    for _ in range(rng.randint(2, 6)):
        cancelled = rng.random() < 0.75
        names = [name for name, (_, lines) in COMMANDS.items() if cancelled or lines is not None]
        nodes = rng.sample(killable, rng.randint(1, 6))
        # A faulty node may hang for ever; and a command there cannot be ended.
        if cancelled and rng.random() < 0.4:
            nodes += rng.sample(faulty, rng.randint(1, 4))
        awaits.append(
            Await(
                rng.choice(sorted(WAYS)),
                rng.choice(names),
                nodes,
                rng.choice([0.0, rng.uniform(0, 0.05), rng.uniform(0, 0.6)]) if cancelled else None,
                rng.random() < 0.3,
            )
        )
    return Plan(seed, awaits, rng.choice([2, 8, 64]), grace, rng.choice([1, 10_000, 1 << 20]))


# -- the ways to await -----------------------------------------------------------------------------

#: The number of lines by node.
Counts = dict[str, int]


async def _run(session: Session, command: str, nodes: str) -> Counts:
    results = (await session.run(command, nodes)).check()
    return {node: len(result.stdout.splitlines()) for node, result in results.items()}


async def _lines(session: Session, command: str, nodes: str) -> Counts:
    counts: Counts = {}
    lines = session.lines(command, nodes)
    async for node, _stream, _line in lines:
        counts[node] = counts.get(node, 0) + 1
    if lines.results is not None:
        lines.results.check()
    return counts


async def _broken_off(session: Session, command: str, nodes: str) -> Counts:
    """Read lines and break; then read all, in a second command."""
    async with session.lines(command, nodes) as lines:
        async for _ in lines:
            break
    return await _lines(session, command, nodes)


async def _events(session: Session, command: str, nodes: str) -> Counts:
    counts: Counts = {}
    async with session.start(command, nodes, stdin=False) as run:
        async for event in run:
            if isinstance(event, NodeOutput):
                counts[event.node] = counts.get(event.node, 0) + 1
            elif isinstance(event, NodeEnded) and not event.result.ok:
                raise AssertionError(f"{event.result!r}")
        (await run).check()
    return counts


async def _unread(session: Session, command: str, nodes: str) -> Counts:
    async with session.start(command, nodes) as run:
        run.write(b"input\n")
        run.end()
        results = (await run).check()
    return {node: len(result.stdout.splitlines()) for node, result in results.items()}


WAYS: dict[str, Callable[[Session, str, str], Awaitable[Counts]]] = {
    "run": _run,
    "lines": _lines,
    "broken off": _broken_off,
    "events": _events,
    "unread": _unread,
}


# -- the check -------------------------------------------------------------------------------------


def check(plan: Plan, world: World) -> float:
    """Carry out a plan and check the promises.

    Returns:
        The longest time from a cancellation to its end, less the grace, in seconds.

    Raises:
        AssertionError: a promise is broken; the text says which.
    """
    mark = f"{plan.seed}.{os.getpid()}.{time.monotonic_ns()}"
    with no_leaks(GONE_DEADLINE):
        longest = asyncio.run(_carry_out(plan, world, mark))
    check_processes(f"LABORATORY={mark}")
    return longest


async def _carry_out(plan: Plan, world: World, mark: str) -> float:
    async with Session(
        fanout=plan.fanout,
        buffer=plan.buffer,
        info={"ssh_options": f"-F {world.ssh_config}", "ssh_kill_grace": plan.grace},
    ) as session:
        # A busy machine is no fault of a healthy node.
        session.task.configure_ssh(connect_timeout=60.0, auth_timeout=60.0)
        faulty = ",".join(name for name, node in NODES.items() if not node.healthy)
        session.task.configure_ssh(
            faulty, connect_timeout=PHASE_TIMEOUT, auth_timeout=PHASE_TIMEOUT
        )
        checks = [_check(session, it, f"LABORATORY={mark}") for it in plan.awaits]
        longest = max(await asyncio.gather(*checks))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    return longest - plan.grace


async def _check(session: Session, it: Await, mark: str) -> float:
    """Make one await and check it; returns the seconds from its cancellation to its end."""
    text, lines = COMMANDS[it.command]
    command = f"{mark}; export LABORATORY; {text}"
    task = asyncio.ensure_future(WAYS[it.way](session, command, ",".join(it.nodes)))
    if it.cancelled_after is None:
        counts = await task
        assert counts == dict.fromkeys(it.nodes, lines), f"{it} is not whole: {counts}"
        return 0.0
    await asyncio.wait({task}, timeout=it.cancelled_after)
    began = time.monotonic()
    task.cancel()
    if it.twice:
        await asyncio.sleep(0)
        task.cancel()
    grace = session.task.info("ssh_kill_grace") + _AFTERMATH
    await asyncio.wait({task}, timeout=grace + MARGIN)
    took = time.monotonic() - began
    assert task.done(), f"{it} did not end within {took:.1f} s"
    if not task.cancelled():
        # It had ended before. A faulty node fails, of course.
        error: Any = task.exception()
        healthy = all(NODES[node].healthy for node in it.nodes)
        assert error is None or not healthy, f"{it} failed: {error!r}"
    return took


def main() -> int:
    """Try the seeds of the command line. Returns 1 if a seed failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.cancels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("seeds", nargs="*", type=int, help="replay these")
    parser.add_argument("--runs", type=int, default=20, help="how many seeds to try")
    parser.add_argument("--first", type=int, help="the first of them; drawn by default")
    options = parser.parse_args()
    first = options.first if options.first is not None else secrets.randbelow(10**6)
    seeds = options.seeds or list(range(first, first + options.runs))
    began = time.monotonic()
    longest, cancelled, failed = 0.0, 0, []
    with World() as world:
        for seed in seeds:
            faulthandler.dump_traceback_later(_DEADLINE, exit=True)
            plan = draw(seed)
            cancelled += sum(it.cancelled_after is not None for it in plan.awaits)
            try:
                longest = max(longest, check(plan, world))
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print(f"{plan}\nreplay it: python -m tests.faults.cancels {seed}", flush=True)
                failed.append(seed)
            faulthandler.cancel_dump_traceback_later()
    print(
        f"{len(seeds)} seeds, {cancelled} cancellations in {time.monotonic() - began:.0f} s; "
        f"the slowest ended {longest:.2f} s after its grace; failed: {failed}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
