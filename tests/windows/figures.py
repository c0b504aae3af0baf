"""Counts the tests of a run on Windows: ``python -m tests.windows.figures REPORT...``.

The reports are the files of pytest's ``--junit-xml``. The result is the number of tests that ran
and of those that were skipped, by their reasons; and the share that ran of the tests that need
neither a POSIX shell nor ClusterShell, which must be at least :data:`SHARE`. `.ci/windows` ends
with it.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from xml.etree import ElementTree

#: Percent of the tests with neither that have to run.
SHARE = 90.0

#: Reasons of tests that are about a POSIX shell, or whose commands are written for one.
SHELL = re.compile(r"(POSIX|Unix) shell|\bsh\b|kind of scripts")

#: Reasons of tests that compare with ClusterShell, whose modules Windows cannot import.
CLUSTERSHELL = re.compile("ClusterShell")


def count(reports: Iterable[str]) -> Counter[str]:
    """Count the tests of some reports.

    Returns:
        How many have "passed", "failed", or were skipped with each reason.

    Raises:
        OSError, ElementTree.ParseError: a report cannot be read.
    """
    found: Counter[str] = Counter()
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own
            skipped = case.find("skipped")
            if skipped is not None:
                found[re.sub(r"\s+", " ", skipped.get("message", ""))] += 1
            else:
                bad = case.find("failure") is not None or case.find("error") is not None
                found["failed" if bad else "passed"] += 1
    return found


def shares(found: Counter[str]) -> tuple[float, float]:
    """Percent that ran: of the tests without a POSIX shell, of those without ClusterShell, too."""
    ran = found["passed"] + found["failed"]
    candidates = sum(found.values())
    percents = []
    for kind in (SHELL, CLUSTERSHELL):
        candidates -= sum(number for reason, number in found.items() if kind.search(reason))
        percents.append(100 * ran / max(1, candidates))
    return percents[0], percents[1]


def main() -> int:
    """Print the figures of the reports that the command line names; 1 if too few tests ran."""
    found = count(sys.argv[1:])
    passed, failed = found["passed"], found["failed"]
    reasons = Counter({key: found[key] for key in found if key not in {"passed", "failed"}})
    print("skipped:")
    for reason, number in reasons.most_common():
        print(f"  {number:5}  {reason}")
    no_shell, neither = shares(found)
    print(f"{passed} passed, {failed} failed, {sum(reasons.values())} skipped on Windows")
    print(f"run: {no_shell:.1f} % of the tests that need no POSIX shell,")
    print(f"     {neither:.1f} % of those that need no ClusterShell either (at least {SHARE} %)")
    return 0 if neither >= SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
