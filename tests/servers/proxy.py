"""TCP proxies on 127.0.0.1 that cause faults when a test says so."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
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
        """Stop passing bytes on the connections that are open now, without closing them.

        A firewall that has forgotten a connection does this. New connections work.

        Returns:
            The number of these connections.
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
        with contextlib.suppress(OSError):  # the peer may be gone
            if data:
                self._peers[sock].sendall(data)
                return
            self._peers[sock].shutdown(socket.SHUT_WR)
        self._selector.unregister(sock)


class GatewayProxy(Proxy):
    """Stands in front of a gateway, which it can kill or stop.

    To the client, a killed gateway resets its connections and refuses new ones; a stopped one
    accepts them, as its system does, and is silent.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        # What the thread is to do next: the sockets belong to it.
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._paused = False

    def kill(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._order("kill")

    def cut(self) -> None:
        """Reset all connections. New ones lead to :attr:`target`, as it is then."""
        self._order("cut")

    def pause(self) -> None:
        """Accept nothing, and pass no bytes on."""
        self._order("pause")

    def _order(self, order: str) -> None:
        self._orders.put(order)
        self._wake.send(b"x")

    def _obey(self, order: str) -> None:
        if order == "kill":
            self._drop(self._listener)
        if order == "pause":
            self._paused = True
            return
        for sock in list(self._peers):
            self._drop(sock)
        self._peers.clear()

    def _drop(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        with contextlib.suppress(OSError):
            # No lingering: a reset in place of an orderly end (SO_LINGER in socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _work(self) -> None:
        while not self._stopping:
            events = self._selector.select()
            if any(key.fileobj is self._waker for key, _events in events):
                self._waker.recv(1)
                while not self._orders.empty():
                    self._obey(self._orders.get())
                continue  # the sockets may be others now
            if self._paused:
                self._wait_for_orders()
                continue
            for key, _events in events:
                sock = key.fileobj
                if sock is self._listener:
                    self._accept()
                elif isinstance(sock, socket.socket):
                    self._pass_on(sock)

    def _wait_for_orders(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._waker, selectors.EVENT_READ)
            waiting.select()


class Plan(NamedTuple):
    """A fault that a :class:`FaultyProxy` causes once on each connection.

    Attributes:
        kind: 'pass' (nothing), 'delay', 'throttle', 'cut' (end both streams), 'reset', 'drop' (stop
            passing bytes, without closing) or 'corrupt' (change one byte).
        towards: the direction in which bytes are counted: 'client' or 'server'.
        after: the number of bytes before the fault.
        amount: the delay in seconds, or the bytes per second of a throttle.
    """

    kind: str = "pass"
    towards: str = "client"
    after: int = 0
    amount: float = 0.0


PASS = Plan()


class FaultyProxy(ScriptedServer):
    """Passes bytes on to one server, and causes the planned fault on each connection.

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
                        # As if a cable was pulled: the server's end stays open and silent.
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
