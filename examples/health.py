"""Tell healthy nodes from sick, slow and unreachable ones: python health.py [NODES]."""

from __future__ import annotations

from where import cluster

from pyclustershell import NodeSet, task_self

CHECK = 'case "$PYCLUSTERSHELL_NODE" in node2) exit 1;; node3) exec sleep 60;; esac'

with cluster() as nodes:
    task = task_self()
    if "node4" in nodes:
        task.configure_ssh("node4", port=1)  # no server listens there
    task.configure_ssh(connect_timeout=5)
    task.run(CHECK, nodes=nodes, timeout=0.5)

    slow = NodeSet.fromlist(task.iter_keys_timeout())
    unreachable = NodeSet()
    for failure, keys in task.iter_failures():
        unreachable.update(NodeSet.fromlist(keys))
        print(f"unreachable: {NodeSet.fromlist(keys)} ({failure.phase}: {failure.cause})")
    sick = NodeSet()
    for rc, keys in task.iter_retcodes():
        if rc != 0:
            sick.update(NodeSet.fromlist(keys) - unreachable)
    print(f"slow: {slow}")
    print(f"sick: {sick}")
    print(f"healthy: {nodes - slow - unreachable - sick}")
