"""Share nodes out among the workers of Dask: python dask_workers.py.

Here both workers are on this host. Workers on several hosts are made by Dask's own means, and the
client connects to their scheduler: Client("scheduler:8786").
"""

from __future__ import annotations

from typing import Any

from distributed import Client, LocalCluster

from pyclustershell.loopback import LoopbackCluster
from pyclustershell.spread import Spread


def main() -> None:
    """Run a command by two workers."""
    # Dask has no type hints.
    new_cluster: Any = LocalCluster
    new_client: Any = Client
    workers = new_cluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with LoopbackCluster("node[1-20]") as nodes, workers, new_client(workers) as client:
        executor, config = client.get_executor(), nodes.ssh_config
        with Spread(executor=executor, shard_size=5, config_files=config) as spread:
            command = "exit $((${#PYCLUSTERSHELL_NODE} - 5))"
            results = spread.run(command, "node[1-20]", timeout=30)
            print(f"ok: {results.ok}")
            for cause, failed in results.failures():
                print(f"{cause}: {failed}")


if __name__ == "__main__":
    main()
