"""A TCP proxy on 127.0.0.1 that a test can make misbehave."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Optional


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

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
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
