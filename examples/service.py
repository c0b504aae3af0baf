"""A web service that asks nodes, on aiohttp: python service.py [NODES], then

curl 'http://127.0.0.1:8080/ask/kernel?nodes=node[1-2]'
curl 'http://127.0.0.1:8080/follow/clock?nodes=node[1-2]'
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from aiohttp import web

from pyclustershell import NodeSet
from pyclustershell.aio import Session
from pyclustershell.exceptions import NodeSetParseError
from pyclustershell.loopback import LoopbackCluster

# The requests name a command; they do not bring one.
QUESTIONS = {"kernel": "uname -r", "load": "uptime", "fail": "echo no disk >&2; exit 3"}
STREAMS = {"clock": "while date; do sleep 0.2; done"}

SESSION = web.AppKey("session", Session)
NODES = web.AppKey("nodes", NodeSet)


def nodes_of(request: web.Request) -> NodeSet:
    """Return the nodes that a request asks for; only known ones are allowed."""
    known = request.app[NODES]
    try:
        nodes = NodeSet(request.query.get("nodes", str(known)))
    except NodeSetParseError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    if not nodes or not nodes <= known:
        raise web.HTTPBadRequest(text=f"the nodes are {known}")
    return nodes


async def ask(request: web.Request) -> web.Response:
    """Run a command on nodes; the answer is a list of results, as JSON."""
    command = QUESTIONS.get(request.match_info["name"])
    if command is None:
        raise web.HTTPNotFound(text=f"the questions are {', '.join(QUESTIONS)}")
    results = await request.app[SESSION].run(command, nodes_of(request), timeout=30)
    return web.json_response(results.to_dicts())


async def follow(request: web.Request) -> web.StreamResponse:
    """Send lines as they come. When the client goes away, the commands are ended on the nodes."""
    command = STREAMS.get(request.match_info["name"])
    if command is None:
        raise web.HTTPNotFound(text=f"the streams are {', '.join(STREAMS)}")
    nodes = nodes_of(request)
    response = web.StreamResponse()
    await response.prepare(request)
    async with request.app[SESSION].lines(command, nodes) as lines:
        async for node, _stream, line in lines:
            # A client that reads slowly holds the commands of its own request back.
            await response.write(f"{node}: ".encode() + line + b"\n")
    return response


def make_app(nodes: NodeSet, **options: object) -> web.Application:
    """Return the service.

    Args:
        nodes: the nodes that may be asked.
        **options: of the session.
    """

    async def keep_session(app: web.Application) -> AsyncIterator[None]:
        # One session for all requests: the nodes stay connected.
        async with Session(**options) as app[SESSION]:  # type: ignore[arg-type]
            yield

    app = web.Application()
    app[NODES] = nodes
    app.cleanup_ctx.append(keep_session)
    app.router.add_get("/ask/{name}", ask)
    app.router.add_get("/follow/{name}", follow)
    return app


def main() -> None:
    """Serve until Ctrl-C."""
    if len(sys.argv) > 1:
        web.run_app(make_app(NodeSet(sys.argv[1])), host="127.0.0.1", handler_cancellation=True)
        return
    with LoopbackCluster("node[1-4]") as cluster:
        app = make_app(NodeSet("node[1-4]"), config_files=cluster.ssh_config)
        web.run_app(app, host="127.0.0.1", handler_cancellation=True)


if __name__ == "__main__":
    main()
