"""Each scenario of tests/differential on ClusterShell and on this package: the traces are equal."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.differential.compare import Result, check_order, comparable
from tests.differential.differences import DIFFERENCES, Difference
from tests.differential.fuzz import difference
from tests.differential.fuzz import traces as run_both
from tests.helpers.needs import require
from tests.servers.sshd import Sshd

SCENARIOS = Path(__file__).parents[1] / "differential" / "scenarios"


def names() -> list[str]:
    """The scenarios, module.function; not imported here, since they import ClusterShell."""
    found = []
    for path in sorted(SCENARIOS.glob("[!_]*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        found += [f"{path.stem}.{name}" for name in functions if not name.startswith("_")]
    return found


NAMES = names()


def require_clustershell() -> None:
    if sys.platform == "win32":
        pytest.skip("ClusterShell needs fork() and poll()")
    require("ClusterShell")


@pytest.fixture(scope="session")
def traces(sshd: Sshd, request: pytest.FixtureRequest) -> tuple[dict[str, Result], ...]:
    """The records of the selected scenarios, on ClusterShell and on this package."""
    require_clustershell()
    # One run serves all tests, but runs the selected scenarios only.
    specs = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    selected = {spec.params.get("name") for spec in specs}
    wanted = [name for name in NAMES if name in selected]
    return run_both(wanted, str(sshd.ssh_config), deadline=120)


# -- the tests -------------------------------------------------------------------------------------


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_script_leaves_the_same_trace(
    name: str, traces: tuple[dict[str, Result], ...]
) -> None:
    theirs, ours = (run[name] for run in traces)
    if name.startswith("pdsh."):
        require("pdsh")
    difference = DIFFERENCES.get(name, Difference("none"))
    assert "error" not in ours, ours["error"]
    assert ("error" in theirs) == difference.theirs_fails, theirs["error"]
    check_order(ours["events"])
    assert comparable(ours) == difference.applied_to(comparable(theirs))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_listed_difference_still_exists(name: str, traces: tuple[dict[str, Result], ...]) -> None:
    theirs = comparable(traces[0][name])
    assert DIFFERENCES[name].theirs_fails or DIFFERENCES[name].applied_to(theirs) != theirs


# -- scripts drawn from seeds ----------------------------------------------------------------------

#: More of them: python -m tests.differential.fuzz 0-999
SEEDS = range(24)


@pytest.fixture(scope="session")
def generated(sshd: Sshd) -> tuple[dict[str, Result], ...]:
    """The records of the scripts of all seeds, on ClusterShell and on this package."""
    require_clustershell()
    return run_both([f"generated.{seed}" for seed in SEEDS], str(sshd.ssh_config), deadline=120)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_script_of_a_seed_leaves_the_same_trace(
    seed: int, generated: tuple[dict[str, Result], ...]
) -> None:
    theirs, ours = (run[f"generated.{seed}"] for run in generated)
    found = difference(theirs, ours)
    assert not found, f"python -m tests.differential.fuzz {seed}\n{found}"


# -- documentation ---------------------------------------------------------------------------------


def test_every_difference_is_in_the_documentation() -> None:
    page = (SCENARIOS.parents[2] / "docs" / "clustershell.md").read_text(encoding="utf-8")
    told = " ".join(page.replace("`", "").split())
    reasons = {difference.reason for difference in DIFFERENCES.values()}
    assert sorted(reason for reason in reasons if reason not in told) == []
