"""The examples run as they are, each on a loopback cluster of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# What they print; the lines of different nodes come in any order.
OUTPUTS = {
    "copy_and_collect.py": """\
bytes copied to each: {10}
skipped: {'./settings/main.conf'}
main.conf.node1: ['level = 3', 'name = node1']
main.conf.node2: ['level = 3', 'name = node2']
main.conf.node3: ['level = 3', 'name = node3']
main.conf.node4: ['level = 3', 'name = node4']
node[1-4]: settings/missing.conf: No such file or directory
""",
    "gather.py": """\
node[1-3]: 6.1
node4: 6.2
node4: exited with 1
""",
    "health.py": """\
unreachable: node4 (connect: Connection refused)
slow: node3
sick: node2
healthy: node1
""",
    "live.py": "".join(
        f"node{number}: starting\nnode{number}! no disk\nnode{number} exited with 3\n"
        for number in range(1, 5)
    )
    + "4 nodes are done\n",
    "pipeline.py": """\
node[1-4]: the largest is 49999
bytes sent to each: {288890}
""",
    "timer_and_port.py": """\
echo one -> one
echo two -> two
tick 1
tick 2
tick 3
0
""",
}


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"where.py"} == set(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
def test_an_example_prints_what_it_shall(name: str) -> None:
    done = subprocess.run(
        # Old paramiko with new cryptography warns when it is imported.
        [sys.executable, "-W", "ignore", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == sorted(OUTPUTS[name].splitlines())
    assert done.returncode == 0
