"""Run a command on many nodes and show equal outputs once: python gather.py [NODES]."""

from __future__ import annotations

from where import cluster

from pyclustershell import NodeSet, task_self

# node4 prints something else, and fails.
COMMAND = 'case "$PYCLUSTERSHELL_NODE" in node4) echo 6.2; exit 1;; *) echo 6.1;; esac'

with cluster() as nodes:
    task = task_self()
    task.run(COMMAND, nodes=nodes)

    for buffer, keys in task.iter_buffers():
        print(f"{NodeSet.fromlist(keys)}: {bytes(buffer).decode()}")
    for rc, keys in task.iter_retcodes():
        if rc != 0:
            print(f"{NodeSet.fromlist(keys)}: exited with {rc}")
    for failure, keys in task.iter_failures():
        print(f"{NodeSet.fromlist(keys)}: {failure.cause}")
