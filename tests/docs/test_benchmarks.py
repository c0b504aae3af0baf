"""The benchmarks run. Their figures are not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="benchmarks measure with getrusage(), which is POSIX's")

from benchmarks.__main__ import find_programs, write_report
from benchmarks.contest import Bar
from benchmarks.local import OURS, RIVAL, main
from benchmarks.sshconfig import main as sshconfig

KNOWN = {"fanout", "imports", "latency", "local", "nodeset", "output", "programs", "scale"}
KNOWN |= {"sshconfig"}


def test_the_programs_are_found_and_nothing_else() -> None:
    programs = find_programs()
    assert set(programs) >= KNOWN
    assert not {"measure", "cluster", "clients", "contest"} & set(programs)


def test_a_bar_is_held_or_not_or_was_not_measured() -> None:
    assert Bar.at_most("time", 0.8, 0.8) == Bar("time", "at most 0.8", "0.8", True)
    assert Bar.at_most("time", 0.81, 0.8, " s") == Bar("time", "at most 0.8 s", "0.81 s", False)
    assert Bar.at_least("rate", 2.5, 2) == Bar("rate", "at least 2", "2.5", True)
    assert Bar.at_least("rate", None, 2) == Bar("rate", "at least 2", "not measured", None)


def test_a_program_measures_and_its_findings_make_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    small = ["--lines", "50", "--commands", "2", "--rounds", "1", "--skip", RIVAL]
    assert main([*small, "--json", str(found)]) == 0
    findings = json.loads(found.read_text())
    assert set(findings["readings"]) == {OURS}
    assert findings["missing"] == {}
    assert all(bar["held"] is None for bar in findings["bars"]), "there is no rival to compare with"
    report = write_report({"local": (capsys.readouterr().out, findings)}, 0.1)
    assert "| local: 300 local commands" not in report
    assert "| local: 2 local commands, WorkerPopen: CPU, of ClusterShell's" in report


def test_large_configuration_files(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    sizes = {"blocks": 3, "nodes": 6, "lines": 4, "hosts": 2, "new": 2, "rounds": 1}
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    assert sshconfig([*arguments, "--json", str(found)]) == 0
    assert len(json.loads(found.read_text())["bars"]) == 4
