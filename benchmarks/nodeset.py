"""Node sets and gathering: what do the operations cost, beside ClusterShell's?

Each case is prepared, outside the clock, for this package and for ClusterShell; then both do it in
turns, and the medians of their CPU time are compared. The results are compared as well: a case
whose answers differ is an error. Memory is the peak of what Python allocated during the case
(tracemalloc, in a run of its own), preparation left out.

Run as ``python -m benchmarks.nodeset``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import pickle
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Callable, NamedTuple, Optional

from benchmarks.contest import Bar, cell, print_introduction
from benchmarks.measure import machine, table, versions

Operation = Callable[[], object]
SHORT = 0.001  # seconds: a shorter operation is repeated
REPEATED = 200
SLOW = 2.0  # seconds: a longer operation is not repeated


class Library:
    """The names that the cases use, from one of the packages."""

    def __init__(self, nodeset: str, rangeset: str, msgtree: str) -> None:
        module = import_module(nodeset)
        self.node_set: Any = module.NodeSet
        self.fold: Any = module.fold
        self.expand: Any = module.expand
        self.range_set: Any = import_module(rangeset).RangeSet
        self.msg_tree: Any = import_module(msgtree).MsgTree


class Case(NamedTuple):
    """One question.

    Attributes:
        name: what is done.
        prepare: makes the operation, with all that it needs, for a library.
        wanted: how many times as fast as ClusterShell it should be.
    """

    name: str
    prepare: Callable[[Library], Operation]
    wanted: float


class Result(NamedTuple):
    """The cost of a case: seconds and bytes, here and in ClusterShell."""

    name: str
    wanted: float
    ours: float
    theirs: Optional[float]
    our_peak: int
    their_peak: Optional[int]

    @property
    def ratio(self) -> Optional[float]:
        """How many times as fast as ClusterShell."""
        return None if self.theirs is None else self.theirs / self.ours


def shuffled(names: list[str]) -> list[str]:
    """The names in an order that is random, but the same in each run."""
    result = list(names)
    random.Random(1).shuffle(result)  # noqa: S311 - nothing is secret here
    return result


def bulk_cases(size: int) -> Iterator[Case]:
    """Operations on node sets of this size."""
    full = f"node[1-{size}]"
    odd, even = f"node[1-{size}/2]", f"node[2-{size}/2]"
    other = f"node[{size // 2}-{size // 2 + size}]"
    names = shuffled([f"node{number}" for number in range(1, size + 1)])
    text = ",".join(names)

    def on_set(pattern: str, action: Callable[[Any], object]) -> Callable[[Library], Operation]:
        def prepare(library: Library) -> Operation:
            nodes = library.node_set(pattern)
            return lambda: action(nodes)

        return prepare

    def on_two(
        one: str, two: str, action: Callable[[Any, Any], object]
    ) -> Callable[[Library], Operation]:
        def prepare(library: Library) -> Operation:
            first, second = library.node_set(one), library.node_set(two)
            return lambda: action(first, second)

        return prepare

    yield Case(
        f"fromlist of {size} shuffled names", lambda lib: lambda: lib.node_set.fromlist(names), 3
    )
    yield Case(f"fold {size} shuffled names", lambda lib: lambda: lib.fold(text), 3)
    yield Case(f"expand node[1-{size}]", lambda lib: lambda: lib.expand(full), 3)
    yield Case(f"iterate over {size}", on_set(full, list), 3)
    yield Case(f"iterate over {size // 2}, every second", on_set(odd, list), 3)
    yield Case(f"str of {size}", on_set(full, str), 1)
    yield Case(f"str of {size // 2}, every second", on_set(odd, str), 1)
    yield Case(f"split(64) of {size}", on_set(full, lambda nodes: list(nodes.split(64))), 50)
    yield Case(
        f"split(64) of {size // 2}, every second",
        on_set(odd, lambda nodes: list(nodes.split(64))),
        50,
    )
    yield Case(f"slice of 100 out of {size}", on_set(full, lambda nodes: nodes[500:600]), 50)
    yield Case(f"slice with a step out of {size}", on_set(full, lambda nodes: nodes[::7]), 1)
    yield Case(f"node at a position out of {size}", on_set(full, lambda nodes: nodes[size // 2]), 1)
    yield Case(
        f"position of a node out of {size}",
        on_set(full, lambda nodes: nodes.index(f"node{size // 2}")),
        1,
    )
    yield Case(f"parse node[1-{size}]", lambda lib: lambda: lib.node_set(full), 1)
    yield Case(f"parse node[1-{size}/2]", lambda lib: lambda: lib.node_set(odd), 1)
    yield Case(f"copy of {size}", on_set(full, lambda nodes: nodes.copy()), 1)
    yield Case(f"pickle {size}", on_set(full, pickle.dumps), 1)
    for word, action in [
        ("union", lambda one, two: one | two),
        ("union, and its size,", lambda one, two: len(one | two)),
        ("intersection", lambda one, two: one & two),
        ("difference", lambda one, two: one - two),
        ("symmetric difference", lambda one, two: one ^ two),
        ("subset test", lambda one, two: one[: len(one) // 2] <= one),
        ("equality", lambda one, two: one == two),
    ]:
        yield Case(f"{word} of two of {size}", on_two(full, other, action), 1)
        yield Case(f"{word} of two of {size // 2}, every second", on_two(odd, even, action), 1)


def small_cases() -> Iterator[Case]:
    """Operations that scripts repeat often."""
    names = shuffled([f"node{number}" for number in range(10_000)])

    def add_all(library: Library) -> Operation:
        def run() -> object:
            nodes = library.node_set()
            for name in names:
                nodes.add(name)
            return nodes

        return run

    def add_unless_there(library: Library) -> Operation:
        def run() -> object:
            nodes = library.node_set()
            for name in names:
                if name not in nodes:
                    nodes.add(name)
            return nodes

        return run

    def remove_all(library: Library) -> Operation:
        def run() -> object:
            nodes = library.node_set("node[0-9999]")
            for name in names:
                nodes.remove(name)
            return nodes

        return run

    def add_indices(library: Library) -> Operation:
        def run() -> object:
            indices = library.range_set()
            for name in names:
                indices.add(int(name[4:]))
            return indices

        return run

    def update_all(library: Library) -> Operation:
        parts = [
            library.node_set.fromlist(names[begin : begin + 20])
            for begin in range(0, len(names), 20)
        ]

        def run() -> object:
            nodes = library.node_set()
            for part in parts:
                nodes.update(part)
            return str(nodes)

        return run

    def parse(pattern: str) -> Callable[[Library], Operation]:
        return lambda library: lambda: [library.node_set(pattern) for _ in range(1000)][-1]

    yield Case("add 10000 names, one by one", add_all, 1)
    yield Case("add 10000 names unless there, one by one", add_unless_there, 1)
    yield Case("add 10000 names, 20 at a time, and fold them", update_all, 1)
    yield Case("remove 10000 names, one by one", remove_all, 1)
    yield Case("add 10000 indices to a RangeSet, one by one", add_indices, 1)
    yield Case("parse 'node7', 1000 times", parse("node7"), 1)
    yield Case(
        "parse 'node[1-9],login[1-2]!node3', 1000 times", parse("node[1-9],login[1-2]!node3"), 1
    )
    yield Case("parse 'r[1-4]n[1-8]', 1000 times", parse("r[1-4]n[1-8]"), 1)


def nd_cases() -> Iterator[Case]:
    """Names with several numbers."""
    full = shuffled([f"r{rack}n{node}" for rack in range(1, 101) for node in range(1, 101)])
    holes = full[:8000]
    sparse = [f"r{number * 7919 % 100003}n{number * 104729 % 100019}" for number in range(1000)]

    def fold(names: list[str]) -> Callable[[Library], Operation]:
        return lambda library: lambda: str(library.node_set.fromlist(names))

    def on_set(action: Callable[[Any], object]) -> Callable[[Library], Operation]:
        def prepare(library: Library) -> Operation:
            nodes = library.node_set("r[1-100]n[1-100]")
            return lambda: action(nodes)

        return prepare

    yield Case("fold 10000 names of two dimensions", fold(full), 3)
    yield Case("fold 2000 names of two dimensions, with holes", fold(holes[:2000]), 3)
    yield Case("fold 1000 names of two dimensions, nothing to fold", fold(sparse), 3)
    yield Case("iterate over 10000 of two dimensions", on_set(list), 3)
    yield Case(
        "split(64) of 10000 of two dimensions", on_set(lambda nodes: list(nodes.split(64))), 1
    )
    yield Case(
        "slice of 100 out of 10000 of two dimensions", on_set(lambda nodes: nodes[555:655]), 1
    )
    yield Case(
        "difference of two of 10000 of two dimensions",
        on_set(lambda nodes: nodes - type(nodes)("r[50-150]n[50-150]")),
        1,
    )


def gathering_cases() -> Iterator[Case]:
    """MsgTree: 200 lines from 1000 nodes, three different outputs."""
    outputs = [[b"line %d of output %d" % (line, kind) for line in range(200)] for kind in range(3)]
    nodes = [f"node{number}" for number in range(1000)]
    by_node = [(node, outputs[number % 3]) for number, node in enumerate(nodes)]
    lines = [
        (node, outputs[number % 3][line])
        for line in range(200)
        for number, node in enumerate(nodes)
    ]

    def add(library: Library) -> Operation:
        def run() -> object:
            tree = library.msg_tree()
            add_line = tree.add
            for node, line in lines:
                add_line(node, line)
            return len(tree)

        return run

    def extend(library: Library) -> Operation:
        def run() -> object:
            tree = library.msg_tree()
            if hasattr(tree, "extend"):
                for node, output in by_node:
                    tree.extend(node, output)
            else:
                for node, output in by_node:
                    for line in output:
                        tree.add(node, line)
            return len(tree)

        return run

    def walk(library: Library) -> Operation:
        tree = library.msg_tree()
        for node, line in lines:
            tree.add(node, line)
        return lambda: sorted((bytes(message), sorted(keys)) for message, keys in tree.walk())

    yield Case("MsgTree: 200 lines from 1000 nodes, add()", add, 1)
    yield Case("MsgTree: 200 lines from 1000 nodes, extend() here", extend, 2)
    yield Case("MsgTree: walk()", walk, 1)


def cases(size: int) -> list[Case]:
    """All cases."""
    return [*bulk_cases(size), *small_cases(), *nd_cases(), *gathering_cases()]


def seconds(operation: Operation) -> float:
    """How long an operation takes; if that is little, the mean of many times."""
    gc.collect()
    begin = time.process_time()
    operation()
    taken = time.process_time() - begin
    if taken < SHORT:
        begin = time.process_time()
        for _ in range(REPEATED):
            operation()
        taken = (time.process_time() - begin) / REPEATED
    return taken


def peak(operation: Operation) -> int:
    """The memory, in bytes, that an operation needs at most."""
    gc.collect()
    tracemalloc.start()
    operation()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def normal(answer: object) -> object:
    """An answer in a form in which those of both packages can be compared."""
    if isinstance(answer, (str, int, bool)):
        return answer
    if isinstance(answer, bytes):
        return str(pickle.loads(answer))  # noqa: S301 - we made it
    if isinstance(answer, list):
        return [str(item) for item in answer]
    return str(answer)


def measure(case: Case, libraries: list[Library], rounds: int, memory: bool) -> Result:
    """Measure a case; the libraries take turns.

    Raises:
        RuntimeError: their answers differ.
    """
    operations = [case.prepare(library) for library in libraries]
    answers: list[object] = []
    times: list[list[float]] = []
    for operation in operations:
        begin = time.process_time()
        answer = operation()
        taken = time.process_time() - begin
        answers.append(normal(answer))
        # Warm by now; or it takes so long that a warm start makes no difference.
        times.append([taken] if taken > SLOW else [])
    if answers.count(answers[0]) != len(answers):
        raise RuntimeError(f"{case.name}: the answers differ")
    for _ in range(rounds):
        for readings, operation in zip(times, operations):
            if not readings or readings[-1] < SLOW:
                readings.append(seconds(operation))
    medians = [statistics.median(readings) for readings in times]
    peaks = [peak(operation) if memory else 0 for operation in operations]
    rival = len(operations) > 1
    return Result(
        case.name,
        case.wanted,
        medians[0],
        medians[1] if rival else None,
        peaks[0],
        peaks[1] if rival else None,
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table; 1 if a case is slower than wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=100_000, help="nodes in the bulk cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--no-rival", action="store_true", help="leave ClusterShell out")
    parser.add_argument("--memory", action="store_true", help="measure peak memory as well")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    ours = Library("pyclustershell.nodeset", "pyclustershell.rangeset", "pyclustershell.msgtree")
    libraries = [ours]
    if not options.no_rival:
        libraries.append(
            Library("ClusterShell.NodeSet", "ClusterShell.RangeSet", "ClusterShell.MsgTree")
        )
    results = []
    for case in cases(options.size):
        if options.only in case.name:
            print(f"benchmarks.nodeset: {case.name}", file=sys.stderr)
            results.append(measure(case, libraries, options.rounds, options.memory))
    settings = {"size": options.size, "rounds": options.rounds}
    about = {"settings": settings, "versions": versions(["ClusterShell"]), "machine": machine()}
    print_introduction(__doc__, about)
    print(results_table(results, options.memory))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**about, **findings(results)}, file, indent=2)
    return int(any(result.ratio is not None and result.ratio < result.wanted for result in results))


def results_table(results: Sequence[Result], memory: bool) -> str:
    """A row for each case."""
    header = [
        "operation",
        "pyclustershell ms",
        "ClusterShell ms",
        "times as fast",
        "wanted",
        "held",
    ]
    header += ["peak MB", "ClusterShell's"] * memory
    rows = []
    for result in results:
        held = "-" if result.ratio is None else "yes" if result.ratio >= result.wanted else "NO"
        row = [
            result.name,
            cell(result.ours, ".2f", 1000),
            cell(result.theirs, ".2f", 1000),
            cell(result.ratio, ".1f"),
            f"{result.wanted:g}",
            held,
        ]
        peaks = [cell(result.our_peak, ".1f", 1e-6), cell(result.their_peak, ".1f", 1e-6)]
        rows.append(row + peaks * memory)
    return table(header, rows)


def findings(results: Sequence[Result]) -> dict[str, Any]:
    """The content that --json writes: all figures, and the bars as one for each limit."""
    bars = []
    for wanted in sorted({result.wanted for result in results}, reverse=True):
        alike = [result for result in results if result.wanted == wanted and result.ratio]
        if alike:
            slow = [result.name for result in alike if (result.ratio or 0) < wanted]
            least = min(alike, key=lambda result: result.ratio or 0)
            bars.append(
                Bar(
                    f"{len(alike)} operations, times as fast as ClusterShell's",
                    f"at least {wanted:g}",
                    f"{least.ratio:.3g} ({least.name}); {len(slow)} below",
                    not slow,
                )
            )
    return {
        "results": [{**result._asdict(), "ratio": result.ratio} for result in results],
        "bars": [dataclasses.asdict(bar) for bar in bars],
    }


if __name__ == "__main__":
    sys.exit(main())
