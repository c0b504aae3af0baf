"""Each scenario of tests/differential on ClusterShell and on this package: the traces are equal."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.differential.differences import DIFFERENCES, PENDING, Difference
from tests.servers.sshd import Sshd

SCENARIOS = Path(__file__).parent / "differential" / "scenarios"

Result = dict[str, Any]


def names() -> list[str]:
    """The scenarios, module.function; not imported here, since they import ClusterShell."""
    found = []
    for path in sorted(SCENARIOS.glob("[!_]*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        found += [f"{path.stem}.{name}" for name in functions if not name.startswith("_")]
    return found


def with_marks(name: str) -> Any:
    reason = PENDING.get(name) or PENDING.get(name.partition(".")[0])
    return pytest.param(name, marks=pytest.mark.xfail(reason=reason) if reason else ())


NAMES = names()


@pytest.fixture(scope="session")
def traces(sshd: Sshd, request: pytest.FixtureRequest) -> tuple[dict[str, Result], ...]:
    """What the selected scenarios recorded on ClusterShell, and here."""
    if sys.platform == "win32":
        pytest.skip("ClusterShell needs fork() and poll()")
    if importlib.util.find_spec("ClusterShell") is None:
        pytest.skip("ClusterShell is not installed: pip install ClusterShell")
    # One run serves all tests; but whoever asks for one scenario does not wait for the others.
    specs = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    selected = {spec.params.get("name") for spec in specs}
    wanted = [name for name in NAMES if name in selected]
    environment = {
        **os.environ,
        "CLUSTERSHELL_CFGDIR": os.devnull,
        "PYTHONPATH": str(SCENARIOS.parents[2]),
    }
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.differential.run", which, str(sshd.ssh_config), *wanted],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for which in ("clustershell", "pyclustershell")
    ]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    return tuple(json.loads(output) for output in outputs)


# -- what the traces have in common ----------------------------------------------------------------


def per_source(events: list[Any]) -> dict[str, list[Any]]:
    """The events of each node of each worker, in their order; those of no node under the worker."""
    found: dict[str, list[Any]] = {}
    for event in events:
        name, source, *arguments = event
        on_node = name in ("ev_pickup", "ev_read", "ev_written", "ev_hup", "ev_error")
        found.setdefault(f"{source} {arguments[0]}" if on_node else str(source), []).append(event)
    return {source: tidied(node_events) for source, node_events in sorted(found.items())}


def tidied(events: list[Any]) -> list[Any]:
    """A node's events without what is left to chance.

    That is the order between its streams, and into how many pieces its input was cut.
    """
    tidy: list[Any] = []
    for in_and_out, run in itertools.groupby(events, lambda e: e[0] in ("ev_read", "ev_written")):
        if not in_and_out:
            tidy += run
            continue
        streams = sorted(run, key=lambda e: (e[0], e[3]))
        written = [event for event in streams if event[0] == "ev_written"]
        tidy += [event for event in streams if event[0] == "ev_read"]
        if written:
            tidy.append([*written[0][:4], sum(event[4] for event in written)])
    return tidy


def check_order(events: list[Any]) -> None:
    """ev_start comes first and ev_close last, of all events of a worker."""
    workers: dict[str, list[str]] = {}
    for name, source, *_ in events:
        if name.startswith("ev_") and source.startswith("<") and not name.startswith("ev_port"):
            workers.setdefault(source, []).append(name)
    for source, called in workers.items():
        for name, place in (("ev_start", 0), ("ev_close", -1)):
            # More than one: several workers that run the same command.
            if called.count(name) == 1:
                assert called[place] == name, (source, called)


def comparable(result: Result) -> Any:
    """What must be equal, as text that shows a difference well."""
    return {"events": per_source(result["events"]), "notes": result["notes"]}


# -- the tests -------------------------------------------------------------------------------------


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", [with_marks(name) for name in NAMES])
def test_the_same_script_leaves_the_same_trace(
    name: str, traces: tuple[dict[str, Result], ...]
) -> None:
    theirs, ours = (run[name] for run in traces)
    if name.startswith("pdsh.") and shutil.which("pdsh") is None:
        pytest.skip("pdsh is not installed")
    difference = DIFFERENCES.get(name, Difference("none"))
    assert "error" not in ours, ours["error"]
    assert ("error" in theirs) == difference.theirs_fails, theirs["error"]
    check_order(ours["events"])
    assert comparable(ours) == difference.applied_to(comparable(theirs))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_one(name: str, traces: tuple[dict[str, Result], ...]) -> None:
    theirs = comparable(traces[0][name])
    assert DIFFERENCES[name].theirs_fails or DIFFERENCES[name].applied_to(theirs) != theirs
