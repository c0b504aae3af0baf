"""Reach nodes through gateways, two of which share the work: python topology.py."""

from __future__ import annotations

from pyclustershell import NodeSet, task_self
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.nodeset.topology import TopologyGraph

graph = TopologyGraph()
graph.add_route(NodeSet("admin"), NodeSet("gw[1-2]"))  # this host reaches the gateways,
graph.add_route(NodeSet("gw[1-2]"), NodeSet("node[1-8]"))  # and these the nodes

with LoopbackCluster("gw[1-2],node[1-8]") as cluster, task_self() as task:
    cluster.configure(task)
    task.topology = graph.to_tree("admin")
    results = task.run("echo up", nodes="node[1-8]").results()
    for gateway, nodes in sorted(task.iter_gateways()):
        print(f"{gateway} leads to {len(nodes)} nodes")
    print(f"up: {results.ok}")

    task.configure_ssh("gw1", port=1)  # no server listens there
    task.close()
    results = task.run("echo up", nodes="node[1-8]").results()
    print(f"up without gw1: {results.ok}")
