"""Sets up each client, with the same key and the same fanout; those that can keep connections do.

Each client reads its key, its known hosts and its configuration once, as a program with many hosts
would. Imports are inside the functions: a contender imports its own client only, and a client that
is not installed is reported as missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, TypeVar

from benchmarks.cluster import Cluster
from benchmarks.measure import Missing

T = TypeVar("T")

#: What is needed to print the versions of all of them.
PACKAGES = ["paramiko", "cryptography", "asyncssh", "parallel-ssh", "ClusterShell"]


def our_task(cluster: Cluster, fanout: int, pool_size: Optional[int] = None) -> Any:
    """This package's task; its pool holds ``fanout`` connections by default."""
    from pyclustershell import task_self

    task = task_self()
    task.set_info("ssh_options", f"-F {cluster.ssh_config}")
    task.set_info("fanout", fanout)
    task.set_info("ssh_pool_size", pool_size)
    return task


def clustershell_task(cluster: Cluster, fanout: int) -> Any:
    """ClusterShell's task, which starts an ssh process for each node and keeps nothing."""
    from ClusterShell.Task import task_self

    task = task_self()
    task.set_info("ssh_options", f"-F {cluster.ssh_config}")
    task.set_info("fanout", fanout)
    return task


def gathered(task: Any) -> list[tuple[str, bytes]]:
    """The output of each node as a ClusterShell task gives it, ours or the original."""
    return [(node, bytes(buffer)) for buffer, nodes in task.iter_buffers() for node in nodes]


class AsyncClient:
    """Connections of asyncssh's. It checks host keys."""

    def __init__(self, cluster: Cluster) -> None:
        import asyncssh

        self._connect = asyncssh.connect
        self._cluster = cluster
        self._key = asyncssh.read_private_key(cluster.key)
        self._known_hosts = asyncssh.read_known_hosts(cluster.known_hosts)

    async def connect(self, host: str) -> Any:
        """An open connection."""
        return await self._connect(
            host,
            port=self._cluster.port,
            username=self._cluster.user,
            client_keys=[self._key],
            known_hosts=self._known_hosts,
            host_key_alias=None,
            agent_path=None,
            config=None,
        )


def parallel_client(cluster: Cluster, hosts: list[str], fanout: int) -> Any:
    """A client of parallel-ssh's, on libssh2. It does not check host keys."""
    from pssh.clients import ParallelSSHClient

    return ParallelSSHClient(
        hosts,
        user=cluster.user,
        port=cluster.port,
        pkey=cluster.key,
        pool_size=fanout,
        allow_agent=False,
        identity_auth=False,
    )


class ParamikoClient:
    """Plain paramiko, a thread for each node that is busy. It checks host keys."""

    def __init__(self, cluster: Cluster, fanout: int) -> None:
        import paramiko

        self._make_client = paramiko.SSHClient
        self._cluster = cluster
        self._key = paramiko.Ed25519Key.from_private_key_file(cluster.key)
        self._policy = _same_host_key(cluster)
        self._threads = ThreadPoolExecutor(fanout)

    def map(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """Call a function in the threads, and wait for all of them."""
        return list(self._threads.map(function, *arguments))

    def connect(self, host: str) -> Any:
        """An open connection. paramiko's default timeout of 15 s is too short for a busy server."""
        client = self._make_client()
        client.set_missing_host_key_policy(self._policy)
        client.connect(
            host,
            port=self._cluster.port,
            username=self._cluster.user,
            pkey=self._key,
            allow_agent=False,
            look_for_keys=False,
            banner_timeout=60,
            auth_timeout=60,
        )
        return client

    @staticmethod
    def run(client: Any, command: str) -> bytes:
        """Run a command and wait for its output."""
        _stdin, stdout, _stderr = client.exec_command(command)
        return bytes(stdout.read())


def _same_host_key(cluster: Cluster) -> Any:
    """A policy that accepts the cluster's host key: paramiko does not know patterns of names."""
    import paramiko

    with open(cluster.known_hosts, encoding="ascii") as file:
        wanted = file.read().split()[2]

    class SameHostKey(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
            if key.get_base64() != wanted:
                raise paramiko.SSHException(f"another host key: {hostname}")

    return SameHostKey()


def run_pdsh(cluster: Cluster, hosts: list[str], fanout: int, command: str) -> list[bytes]:
    """Run a command with pdsh, which starts an ssh process for each node; the lines it prints.

    Raises:
        Missing: pdsh is not installed.
        RuntimeError: it failed.
    """
    program = shutil.which("pdsh")
    if program is None:
        raise Missing("No program named 'pdsh'")
    # pdsh has no option for it.
    env = {**os.environ, "PDSH_SSH_ARGS": f"-F {cluster.ssh_config} %h"}
    arguments = [program, "-R", "ssh", "-f", str(fanout), "-w", ",".join(hosts), command]
    done = subprocess.run(arguments, env=env, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pdsh: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.splitlines()
