"""The cluster that benchmarks talk to: one OpenSSH sshd, and a loopback address for each node."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator

from tests.servers.sshd import Sshd, node_address

WARM_UP_NODE = "127.0.0.1"  # not a node of the cluster: no node is known before


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The settings of a client, in a form that can be passed to another process: ``asdict``.

    Attributes:
        nodes: how many there are.
        named: the nodes are node1, node2 and so on, which the ssh_config maps to their addresses;
            otherwise the addresses are the nodes.
        port: the port of all of them.
        user: the account to log in as.
        key: the path of the private key.
        known_hosts: the path of a known_hosts file with the nodes' host key.
        ssh_config: the path of an OpenSSH client configuration file with all of this.
    """

    nodes: int
    named: bool
    port: int
    user: str
    key: str
    known_hosts: str
    ssh_config: str

    @property
    def addresses(self) -> list[str]:
        """The nodes' addresses."""
        return [node_address(index) for index in range(1, self.nodes + 1)]

    @property
    def names(self) -> list[str]:
        """The nodes' names, for clients that read the ssh_config."""
        if self.named:
            return [f"node{index}" for index in range(1, self.nodes + 1)]
        return self.addresses


@contextlib.contextmanager
def run_cluster(nodes: int, *, named: bool = False) -> Iterator[tuple[Cluster, Sshd]]:
    """Run sshd for as long as the with block lasts.

    It is a child of this process: measure in another one, or its CPU time counts as the client's.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))
        sshd = stack.enter_context(Sshd(directory, nodes=nodes if named else 0))
        cluster = Cluster(
            nodes=nodes,
            named=named,
            port=sshd.port,
            user=sshd.user,
            key=str(sshd.key),
            known_hosts=str(sshd.known_hosts),
            ssh_config=str(sshd.ssh_config),
        )
        yield cluster, sshd
