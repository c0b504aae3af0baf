"""A node that floods us when its run has ended: the program goes on, and it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from paramiko.message import Message

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import TimeoutError
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import Peer, PhaseServer, Step


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", agent=False, config_files=[], connect_retries=0, password="x")
        task.set_info("ssh_kill_grace", 0.2)
        yield task


def for_ever(number: int, *fields: Any) -> Step:
    """Send one message without end; ``...`` is the number of the channel."""

    def step(peer: Peer) -> None:
        values = [peer.channel if field is ... else field for field in fields]
        while True:
            peer.say(number, *values)

    return step


FLOODS = {
    "ignore": for_ever(phases.IGNORE, "x" * 20000),
    "debug": for_ever(4, False, "x" * 1000, ""),
    "unknown": for_ever(192, "x"),
    "extensions": for_ever(7, 0),
    "global requests": for_ever(phases.GLOBAL_REQUEST, "keepalive@openssh.com", True),
    "channels": for_ever(phases.CHANNEL_OPEN, "x11", 7, 1 << 20, 1 << 15, "host", 22),
    "windows": for_ever(phases.WINDOW_ADJUST, ..., 1),
    "channel requests": for_ever(phases.CHANNEL_REQUEST, ..., "x@example.com", True),
    "empty data": for_ever(phases.CHANNEL_DATA, ..., b""),
    "unknown stderr": for_ever(phases.CHANNEL_EXTENDED_DATA, ..., 2, b""),
    "exit statuses": for_ever(phases.CHANNEL_REQUEST, 77, "exit-status", False, 0),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_ends_with_the_timeout(task: Task, flood: Step) -> None:
    with PhaseServer(phases.command(phases.accept, flood)) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.run("true", nodes="node[1-3]", timeout=0.3)
        # All of them timed out, or their connections ended because of the messages.
        assert task.num_timeout() + len(list(task.iter_failures())) >= 1
        # Waits for the nodes' commands to end, but not for ever.
        task.close()
    assert task.num_timeout() or task.max_retcode() == 255


def test_aborting_is_not_held_up(task: Task) -> None:
    flood = FLOODS["global requests"]
    with PhaseServer(phases.command(phases.accept, flood)) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.shell("true", nodes="node[1-3]")
        with pytest.raises(TimeoutError):
            task.resume(0.3)
        task.abort(kill=True)


def test_key_exchanges_without_end(task: Task) -> None:
    transports: list[Any] = []
    count = 0

    def keep(transport: Any) -> None:
        parse = transport._handler_table[phases.NEWKEYS]

        def parse_and_begin_again(m: Message) -> None:
            nonlocal count
            parse(m)
            count += 1
            if count > 1:
                transport._send_kex_init()

        transport._handler_table[phases.NEWKEYS] = parse_and_begin_again
        transports.append(transport)

    def begin(peer: Peer) -> None:
        transports[0]._send_kex_init()

    with PhaseServer(phases.command(phases.accept, begin), offer=keep) as server:
        task.configure_ssh(
            hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
        )
        task.run("true", nodes="node", timeout=0.5)
        task.close()
    assert task.num_timeout() == 1, list(task.iter_failures())
    assert count > 2


def test_others_get_their_turns(task: Task) -> None:
    flood = FLOODS["unknown"]
    with (
        PhaseServer(phases.command(phases.accept, flood)) as bad,
        PhaseServer(phases.command(*phases.ok())) as good,
    ):
        for server, nodes in ((bad, "bad[1-4]"), (good, "good[1-20]")):
            task.configure_ssh(
                nodes,
                hostname=server.address[0],
                port=server.port,
                known_hosts=[server.known_host],
            )
        floods: Any = task.shell("true", nodes="bad[1-4]", timeout=60)

        class Handler(EventHandler):
            """Ends the others when the good nodes have ended."""

            def ev_close(self, worker: Any, timedout: bool) -> None:
                floods.abort()

        runs: Any = task.shell("true", nodes="good[1-20]", handler=Handler(), timeout=60)
        task.resume()
        assert [runs.node_retcode(node) for node in runs.nodes] == [0] * 20
        assert runs.num_timeout() == floods.num_timeout() == 0
