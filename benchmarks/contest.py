"""The common part of the programs: contenders take turns, each in a process of its own.

A program is a class derived from :class:`Contest`. It names its contenders, sets up their
surroundings (mostly a cluster), and makes a table and bars of their readings. A bar is a goal, the
measured figure, and True if the goal is reached.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Callable, ClassVar, Optional

from benchmarks.measure import (
    Meter,
    Missing,
    Reading,
    machine,
    measure_in_process,
    median,
    report_missing,
    table,
    versions,
)

#: The arguments of a contender, from the program's ``surroundings()``; they must fit into JSON.
Setup = dict[str, Any]
TIMEOUT = 600.0  # seconds for one contender's turn


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: its name in the table and for ``--skip``.
        run: the program, which takes the meter's readings.
        ours: True if it is this package.
        rounds: the highest number of measurements, for slow contenders; None for no limit.
    """

    name: str
    run: Callable[[Setup, Meter], None]
    ours: bool = False
    rounds: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Bar:
    """A goal and the measured figure.

    Attributes:
        question: the two figures that are compared.
        wanted: the limit, in words.
        measured: the figure, in words, or 'not measured'.
        held: True if the limit is kept; None if nothing was measured.
    """

    question: str
    wanted: str
    measured: str
    held: Optional[bool]

    @classmethod
    def at_most(cls, question: str, figure: Optional[float], limit: float, unit: str = "") -> Bar:
        """A figure that should be small; None if it was not measured."""
        return cls._of(question, figure, f"at most {limit:g}{unit}", unit, lambda it: it <= limit)

    @classmethod
    def at_least(cls, question: str, figure: Optional[float], limit: float, unit: str = "") -> Bar:
        """A figure that should be large; None if it was not measured."""
        return cls._of(question, figure, f"at least {limit:g}{unit}", unit, lambda it: it >= limit)

    @classmethod
    def _of(
        cls,
        question: str,
        figure: Optional[float],
        wanted: str,
        unit: str,
        keeps: Callable[[float], bool],
    ) -> Bar:
        if figure is None:
            return cls(question, wanted, "not measured", None)
        return cls(question, wanted, f"{figure:.3g}{unit}", keeps(figure))


class Results:
    """All readings of a run, by contender; for a contender without readings, the reason."""

    def __init__(self) -> None:
        self.readings: dict[str, dict[str, list[Reading]]] = defaultdict(lambda: defaultdict(list))
        self.facts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.missing: dict[str, str] = {}

    def add(self, name: str, meter: Meter) -> None:
        """Keep the readings of one turn."""
        for phase, reading in meter.readings.items():
            self.readings[name][phase].append(reading)
        for fact, figure in meter.facts.items():
            self.facts[name][fact].append(figure)

    @property
    def names(self) -> list[str]:
        """The contenders that were measured, in the order of their first turn."""
        return list(dict.fromkeys([*self.readings, *self.facts]))

    def median(self, name: str, phase: str) -> Optional[Reading]:
        """The medians of a contender's readings; None if it has none."""
        readings = self.readings.get(name, {}).get(phase)
        return median(readings) if readings else None

    def cpu(self, name: str, phase: str) -> Optional[float]:
        """The median CPU time of a phase in seconds; None if it was not measured."""
        reading = self.median(name, phase)
        return None if reading is None else reading.cpu

    def wall(self, name: str, phase: str) -> Optional[float]:
        """The median wall time of a phase in seconds; None if it was not measured."""
        reading = self.median(name, phase)
        return None if reading is None else reading.wall

    def fact(self, name: str, fact: str) -> Optional[float]:
        """The median of a contender's other figure; None if it has none."""
        figures = self.facts.get(name, {}).get(fact)
        return statistics.median(figures) if figures else None


def quotient(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """One figure divided by another; None if one of them was not measured."""
    return one / other if one is not None and other else None


def least(figures: Sequence[Optional[float]]) -> Optional[float]:
    """The smallest of the figures that were measured; None if there is none."""
    return min((it for it in figures if it is not None), default=None)


def cell(figure: Optional[float], form: str, scale: float = 1) -> str:
    """A figure for a table; '-' if it was not measured."""
    return "-" if figure is None else format(figure * scale, form)


class Contest:
    """One program: a question, its contenders, a table.

    Attributes:
        module: the program's name for ``python -m``.
        contenders: the contenders, in the order of their turns.
        packages: the packages whose versions are printed.
        rounds: the number of measurements of each contender.
    """

    module: ClassVar[str]
    contenders: ClassVar[Sequence[Contender]]
    packages: ClassVar[Sequence[str]] = ()
    rounds: ClassVar[int] = 3

    @property
    def question(self) -> str:
        """The question: the program's docstring, for ``--help`` and above the table."""
        return sys.modules[type(self).__module__].__doc__ or ""

    # -- for the program to define --

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the program's own options."""

    @contextlib.contextmanager
    def surroundings(self, options: argparse.Namespace) -> Iterator[Setup]:
        """Set up the things that the contenders need, while the with block lasts."""
        yield {}

    def take_turn(self, contender: Contender, setup: Setup) -> Meter:
        """Measure a contender once, in a process of its own."""
        command = ["-m", self.module, "--contender", contender.name, "--setup", json.dumps(setup)]
        return measure_in_process(command, TIMEOUT)

    def tabulate(
        self, results: Results, options: argparse.Namespace
    ) -> tuple[list[str], list[list[str]]]:
        """The table's header and rows."""
        raise NotImplementedError

    def bars(self, results: Results, options: argparse.Namespace) -> list[Bar]:
        """The goals and the measured figures."""
        return []

    # -- the same for all programs --

    def main(self, arguments: Optional[Sequence[str]] = None) -> int:
        """Run the program. Returns 1 if this package could not be measured, otherwise 0."""
        names = [contender.name for contender in self.contenders]
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.question)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.add_options(parser)
        parser.add_argument("--rounds", type=int, default=self.rounds, help="repeats (%(default)s)")
        parser.add_argument("--skip", action="append", default=[], choices=names, metavar="NAME")
        parser.add_argument("--json", metavar="FILE", help="write all readings there")
        parser.add_argument("--contender", choices=names, help=argparse.SUPPRESS)
        parser.add_argument("--setup", type=json.loads, help=argparse.SUPPRESS)
        options = parser.parse_args(arguments)
        if options.contender:
            self._measure(options.contender, options.setup)
            return 0
        contenders = [it for it in self.contenders if it.name not in options.skip]
        results = self._run(contenders, options)
        findings = self._show(results, options)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(findings, file, indent=2)
        return int(any(it.ours and it.name in results.missing for it in contenders))

    def _measure(self, name: str, setup: Setup) -> None:
        """Measure a contender in this process, and print its readings for the other one."""
        contender = next(it for it in self.contenders if it.name == name)
        meter = Meter()
        try:
            contender.run(setup, meter)
        except (ImportError, Missing) as error:
            report_missing(str(error))
        else:
            meter.report()

    def _run(self, contenders: Sequence[Contender], options: argparse.Namespace) -> Results:
        results = Results()
        with self.surroundings(options) as setup:
            for number in range(options.rounds):
                for contender in contenders:
                    if contender.name in results.missing:
                        continue
                    if contender.rounds is not None and number >= contender.rounds:
                        continue
                    print(f"{self.module}, round {number + 1}: {contender.name}", file=sys.stderr)
                    try:
                        results.add(contender.name, self.take_turn(contender, setup))
                    except (Missing, RuntimeError) as error:
                        results.missing[contender.name] = str(error)
        return results

    def _show(self, results: Results, options: argparse.Namespace) -> dict[str, Any]:
        """Print the table; return the findings for ``--json``."""
        hidden = ("json", "contender", "setup")
        settings = {key: value for key, value in vars(options).items() if key not in hidden}
        about = {"settings": settings, "versions": versions(self.packages), "machine": machine()}
        bars = self.bars(results, options)
        header, rows = self.tabulate(results, options)
        print_introduction(self.question, about)
        print(table(header, rows))
        for name, reason in results.missing.items():
            print(f"\n{name} was not measured: {reason}")
        if bars:
            print(f"\n{bar_table(bars)}")
        return {
            **about,
            "readings": {
                name: {phase: [dataclasses.asdict(it) for it in each] for phase, each in it.items()}
                for name, it in results.readings.items()
            },
            "facts": results.facts,
            "missing": results.missing,
            "bars": [dataclasses.asdict(bar) for bar in bars],
        }


def print_introduction(question: Optional[str], about: dict[str, dict[str, Any]]) -> None:
    """Print the docstring without its last paragraph, which says how to run the program."""
    paragraphs = (question or "").strip().split("\n\n")[:-1]
    print("\n\n".join(paragraphs) + "\n")
    for title, facts in about.items():
        print(f"- {title}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    print()


def bar_table(bars: Sequence[Bar]) -> str:
    """The bars as a table in Markdown."""
    words = {True: "yes", False: "NO", None: "-"}
    rows = [[bar.question, bar.wanted, bar.measured, words[bar.held]] for bar in bars]
    return table(["question", "wanted", "measured", "held"], rows)
