"""More nodes than the 512 sockets that Python's select() takes on Windows."""

from __future__ import annotations

import pytest

from pyclustershell import NodeSet
from pyclustershell.loopback import LoopbackCluster
from tests.helpers.sh import SHELL
from tests.helpers.tasks import fresh_task, outputs

NODES = NodeSet("node[1-600]")


@pytest.mark.timeout(120)  # 600 host keys and listeners
def test_a_loopback_cluster_of_many_nodes_answers() -> None:
    asked = list(NODES)[::200]
    with LoopbackCluster(NODES, shell=SHELL) as cluster, fresh_task() as task:
        cluster.configure(task)
        task.run("echo ok", nodes=NodeSet.fromlist(asked))
        found = {node: text.strip() for node, text in outputs(task).items()}
        assert found == dict.fromkeys(asked, b"ok")
