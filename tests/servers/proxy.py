"""A TCP proxy on 127.0.0.1 that a test can make misbehave."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import NamedTuple, cast

from tests.servers.faults import ScriptedServer, reset, wait_for_hangup


class Proxy:
    """Passes bytes between its clients and one server, until a test says otherwise.

    A context manager. One thread does all the work.

    Args:
        target: host and port of the server.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._stalled: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="test proxy")

    def __enter__(self) -> Proxy:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for sock in (*self._peers, self._listener, self._waker, self._wake):
            sock.close()

    def stall(self) -> int:
        """Pass nothing any more on the connections that are open now, and tell nobody.

        As a firewall does that has forgotten them. New connections work.

        Returns:
            How many connections that are.
        """
        with self._lock:
            self._stalled |= set(self._peers)
            return len(self._peers) // 2

    def _work(self) -> None:
        while not self._stopping:
            for key, _events in self._selector.select():
                sock = key.fileobj
                if sock is self._listener:
                    self._accept()
                elif isinstance(sock, socket.socket) and sock is not self._waker:
                    self._pass_on(sock)

    def _accept(self) -> None:
        client, _address = self._listener.accept()
        server = socket.create_connection(self.target)
        with self._lock:
            self._peers[client] = server
            self._peers[server] = client
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)

    def _pass_on(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = sock.recv(65536)
        if sock in self._stalled:
            if not data:
                self._selector.unregister(sock)
            return
        with contextlib.suppress(ConnectionError):
            if data:
                self._peers[sock].sendall(data)
                return
            self._peers[sock].shutdown(socket.SHUT_WR)
        self._selector.unregister(sock)


class Plan(NamedTuple):
    """What a :class:`FaultyProxy` does to a connection, once.

    Attributes:
        kind: 'pass' (nothing), 'delay', 'throttle', 'cut' (end both streams), 'reset', 'drop' (pass
            nothing any more, and tell nobody) or 'corrupt' (change one byte).
        towards: the direction whose bytes count: 'client' or 'server'.
        after: how many bytes pass before.
        amount: the delay in seconds, or the bytes per second of a throttle.
    """

    kind: str = "pass"
    towards: str = "client"
    after: int = 0
    amount: float = 0.0


PASS = Plan()


class FaultyProxy(ScriptedServer):
    """Passes bytes on to one server, and does to each connection what its plan says.

    Attributes:
        plan: for the connections that are made from now on.

    Args:
        target: host and port of the server.
        plan: see above.
    """

    def __init__(self, target: tuple[str, int], plan: Plan = PASS) -> None:
        self.plan = plan
        self._target = target
        self._over = threading.Event()
        super().__init__(self._serve)

    def stop(self) -> None:
        """Close all sockets and end all threads."""
        self._over.set()
        super().stop()

    def _serve(self, client: socket.socket) -> None:
        plan = self.plan
        # One thread for both directions: a socket that another thread waits on cannot be reset.
        with socket.create_connection(self._target) as server, selectors.DefaultSelector() as wait:
            passed = {client: 0, server: 0}
            for source, sink in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wait.register(source, selectors.EVENT_READ, sink)
            victim = server if plan.towards == "client" else client
            while True:
                for key, _events in wait.select():
                    source, sink = cast(socket.socket, key.fileobj), key.data
                    data = source.recv(65536)
                    if not data:
                        if source is client:
                            return
                        wait.unregister(source)
                        sink.shutdown(socket.SHUT_WR)
                        continue
                    passed[source] += len(data)
                    late = passed[source] - plan.after
                    if source is not victim or late <= 0 or plan.kind == "pass":
                        sink.sendall(data)
                        continue
                    at = max(0, len(data) - late)
                    sink.sendall(data[:at])
                    if plan.kind in ("cut", "reset"):
                        for sock in (client, server):
                            (reset if plan.kind == "reset" else _shut)(sock)
                        return
                    if plan.kind == "drop":
                        # As when a cable is pulled: the server's end stays, and says nothing.
                        wait_for_hangup(client)
                        return
                    self._send_on(sink, data[at:], plan)
                    if plan.kind != "throttle":
                        plan = PASS

    def _send_on(self, sink: socket.socket, data: bytes, plan: Plan) -> None:
        if plan.kind == "delay":
            self._over.wait(plan.amount)
        elif plan.kind == "corrupt":
            data = bytes([data[0] ^ 0x55]) + data[1:]
        elif plan.kind == "throttle":
            for start in range(0, len(data), 1024):
                sink.sendall(data[start : start + 1024])
                self._over.wait(1024 / plan.amount)
            return
        sink.sendall(data)


def _shut(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)
