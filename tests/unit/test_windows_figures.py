"""The figures of a run on Windows: tests/windows/figures.py."""

from __future__ import annotations

from pathlib import Path

from tests.windows.figures import count, shares

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/>
<testcase name="c"><failure message="x"/></testcase>
<testcase name="d"><error message="x"/></testcase>
<testcase name="e"><skipped message="not on Windows: it needs a POSIX shell"/></testcase>
<testcase name="f"><skipped message="not on Windows: ClusterShell needs POSIX"/></testcase>
<testcase name="g"><skipped message="not on Windows: Windows has no fork"/></testcase>
</testsuite></testsuites>"""


def test_shares_leave_out_a_posix_shell_and_then_clustershell(tmp_path: Path) -> None:
    reports = [tmp_path / "1.xml", tmp_path / "2.xml"]
    for report in reports:
        report.write_text(REPORT)
    found = count(map(str, reports))
    assert (found["passed"], found["failed"]) == (4, 4)
    assert found["not on Windows: Windows has no fork"] == 2
    assert shares(found) == (100 * 8 / 12, 100 * 8 / 10)
