"""Collect facts of many nodes as JSON, an object for each node: python facts.py [NODES]."""

from __future__ import annotations

import json

from where import cluster

from pyclustershell import task_self

# One fact a line. On nodes of your own: echo "kernel: $(uname -r)"; echo "cpus: $(nproc)"
FACTS = """
echo "name: $PYCLUSTERSHELL_NODE"
echo "kernel: 6.1"
case "$PYCLUSTERSHELL_NODE" in node3) exit 3;; esac
"""

with cluster() as nodes:
    task = task_self()
    if "node4" in nodes:
        task.configure_ssh("node4", port=1)  # no server listens there
    results = task.run(FACTS, nodes=nodes, timeout=30).results()

    for result in results.values():
        lines = (line.partition(": ") for line in result.text.splitlines())
        fact = {
            "node": result.node,
            "facts": {name: value for name, _, value in lines} if result.ok else None,
            "error": result.cause,
            "slow": result.running > 10,
        }
        print(json.dumps(fact))
