"""The example of a web service, asked by a real client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Callable

import pytest

from pyclustershell import NodeSet
from pyclustershell.loopback import LoopbackCluster
from tests.servers.leaks import no_leaks

aiohttp = pytest.importorskip("aiohttp", reason="the example is a service on aiohttp")

EXAMPLES = Path(__file__).parents[2] / "examples"


def use_service(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[Any, str, Any], Awaitable[None]]
) -> None:
    """Start the service on a free port and use it.

    Args:
        monkeypatch: the test's.
        use: takes a client, the service's address and the service's session.
    """
    monkeypatch.syspath_prepend(EXAMPLES)
    import service
    from aiohttp import web

    async def main(cluster: LoopbackCluster) -> None:
        nodes = NodeSet.fromlist(cluster.nodes)
        app = service.make_app(nodes, config_files=cluster.ssh_config)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with aiohttp.ClientSession() as client:
                await use(client, address, app[service.SESSION])
        finally:
            await runner.cleanup()

    with no_leaks(), LoopbackCluster("node[1-4]") as cluster:
        asyncio.run(main(cluster))


@pytest.mark.posix_only("the commands are for a POSIX shell")
def test_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(client: Any, address: str, session: Any) -> None:
        async def get(path: str) -> Any:
            async with client.get(f"{address}/ask/{path}") as response:
                return await (response.json() if response.ok else response.text())

        answers = await asyncio.gather(*(get("kernel") for _ in range(20)))
        for answer in answers:
            assert sorted(result["node"] for result in answer) == list(NodeSet("node[1-4]"))
            assert [each for each in answer if each["rc"] != 0 or not each["stdout"]] == []
        [failed] = await get("fail?nodes=node2")
        assert (failed["node"], failed["rc"], failed["stderr"]) == ("node2", 3, "no disk")
        assert await get("kernel?nodes=node[") != ""
        assert await get("kernel?nodes=node9") == "the nodes are node[1-4]"
        assert await get("unknown") == "the questions are kernel, load, fail"

    use_service(monkeypatch, use)


@pytest.mark.posix_only("the commands are for a POSIX shell")
def test_a_client_that_goes_away_ends_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(client: Any, address: str, session: Any) -> None:
        async with client.get(f"{address}/follow/clock?nodes=node[1-2]") as response:
            seen = set()
            while len(seen) < 2:
                line = await response.content.readline()
                seen.add(line.partition(b":")[0])
            assert seen == {b"node1", b"node2"}
            response.close()
        while "0 running" not in repr(session):
            await asyncio.sleep(0.01)

    use_service(monkeypatch, use)
