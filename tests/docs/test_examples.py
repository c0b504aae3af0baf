"""The examples run as they are, each on a loopback cluster of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.needs import require

EXAMPLES = Path(__file__).parents[2] / "examples"

# The nodes of the others; and a service, which tests/flow/test_service.py asks.
OTHERS = {"where.py", "service.py"}

# The expected output. Lines of different nodes come in any order.
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
    "facts.py": """\
{"node": "node1", "facts": {"name": "node1", "kernel": "6.1"}, "error": null, "slow": false}
{"node": "node2", "facts": {"name": "node2", "kernel": "6.1"}, "error": null, "slow": false}
{"node": "node3", "facts": null, "error": "exit status 3", "slow": false}
{"node": "node4", "facts": null, "error": "Connection refused", "slow": false}
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
    "progress.py": """\
node2: exit status 1
node3: timed out
node4: Connection refused
healthy: node1
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
    assert {path.name for path in EXAMPLES.glob("*.py")} - OTHERS == set(OUTPUTS)


# The package that an example needs.
NEEDS = {"progress.py": "rich"}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.posix_only("the commands are for a POSIX shell")
def test_an_example_prints_its_expected_output(name: str) -> None:
    if name in NEEDS:
        require(NEEDS[name])
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
