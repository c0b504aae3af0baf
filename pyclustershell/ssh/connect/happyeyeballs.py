"""From a host name to a connected socket, without blocking the engine."""

from __future__ import annotations

import errno
import socket
from collections import deque
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional

from ...engine.engine import WRITE, Engine, Watch
from ...engine.forking import abandon_in_child
from ...engine.socketerrors import lookup_error, socket_error
from ...engine.threadpool import ThreadPool
from ...engine.timer import Timer

# Name resolution blocks: this number of names is looked up at once, each in a thread.
_RESOLVER_THREADS = 8

# RFC 8305 section 5: seconds before the next address is tried while an attempt is pending.
_ATTEMPT_DELAY = 0.25

_IN_PROGRESS = {
    errno.EINPROGRESS,
    errno.EWOULDBLOCK,
    getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK),
}


class Address(NamedTuple):
    """One address of a host, as getaddrinfo() returns it."""

    family: int
    type: int
    protocol: int
    canonical_name: str
    sockaddr: Any


class Resolver:
    """Looks up names in a few threads, which end when no name is left."""

    def __init__(self) -> None:
        self._threads = ThreadPool("pyclustershell resolver", _RESOLVER_THREADS)

    def resolve(
        self,
        host: str,
        port: int,
        family: int,
        then: Callable[[list[Address], Optional[OSError]], Any],
    ) -> None:
        """Look a host up.

        Args:
            host: a name or an address.
            port: the TCP port.
            family: socket.AF_UNSPEC, AF_INET or AF_INET6.
            then: called with the addresses, or with an error: at once for a numeric address, on
                one of the resolver's threads for a name.
        """
        numeric: list[Address] = []
        with suppress(OSError, ValueError):
            numeric = self._look_up(host, port, family, socket.AI_NUMERICHOST)
        if numeric:
            then(numeric, None)
            return

        def job() -> None:
            try:
                addresses = self._look_up(host, port, family)
            except OSError as error:
                then([], lookup_error(error))
            except ValueError as error:
                # A NUL, or a label that is empty or too long for IDNA: no such name can exist.
                then([], socket.gaierror(socket.EAI_NONAME, str(error)))
            else:
                then(addresses, None)

        self._threads.submit(job)

    @staticmethod
    def _look_up(host: str, port: int, family: int, flags: int = 0) -> list[Address]:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags)
        return [Address(*entry) for entry in found]


def interleave(addresses: list[Address]) -> list[Address]:
    """Alternate the address families, the first one first (RFC 8305 section 4)."""
    first = [a for a in addresses if a.family == addresses[0].family]
    others = [a for a in addresses if a.family != addresses[0].family]
    mixed: list[Address] = []
    while first or others:
        mixed += first[:1] + others[:1]
        first, others = first[1:], others[1:]
    return mixed


class HappyEyeballs:
    """Connects to the first of a host's addresses that answers ("happy eyeballs", RFC 8305).

    It runs on the engine's thread.

    Args:
        engine: the engine to wait with.
        addresses: the host's addresses; at least one.
        bind_address: a local address to connect from, or None.
        keepalive: True to have the system probe the peer of an idle connection (SO_KEEPALIVE).
        then: called once, with a connected non-blocking socket or with the error of the last
            address that failed.
    """

    def __init__(
        self,
        engine: Engine,
        addresses: list[Address],
        bind_address: Optional[str],
        keepalive: bool,
        then: Callable[[Optional[socket.socket], Optional[OSError]], Any],
    ) -> None:
        self._engine = engine
        self._remaining = deque(interleave(addresses))
        self._bind_address = bind_address
        self._keepalive = keepalive
        self._then = then
        self._attempts: dict[socket.socket, Watch] = {}
        self._timer: Optional[Timer] = None
        self._error: Optional[OSError] = None
        self._done = False
        abandon_in_child(self)

    def __repr__(self) -> str:
        attempts, left = len(self._attempts), len(self._remaining)
        return f"<HappyEyeballs: {attempts} attempts, {left} addresses left>"

    def start(self) -> None:
        """Try the next address. If it fails or takes long, try the one after it as well."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._remaining and not self._done:
            if self._attempt(self._remaining.popleft()):
                if self._remaining:
                    self._timer = self._engine.call_later(_ATTEMPT_DELAY, self.start)
                return
        if not self._done and not self._attempts:
            self._finish(None, self._error)

    def _attempt(self, address: Address) -> bool:
        """Begin to connect; returns False if that failed at once."""
        try:
            sock = socket.socket(address.family, address.type, address.protocol)
        except OSError as error:
            # The family is switched off in this kernel, or there are no descriptors left.
            self._error = error
            return False
        try:
            sock.setblocking(False)
            # Without it, each command of a warm transport waits 40 ms for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, self._keepalive)
            if self._bind_address is not None:
                self._bind(sock, self._bind_address)
            code = sock.connect_ex(address.sockaddr)
        except OSError as error:
            sock.close()
            self._error = error
            return False
        if code == 0:
            self._finish(sock, None)
            return True
        if code not in _IN_PROGRESS:
            sock.close()
            self._error = socket_error(code)
            return False
        self._attempts[sock] = self._engine.register(
            sock, WRITE, lambda _events: self._on_writable(sock)
        )
        return True

    @staticmethod
    def _bind(sock: socket.socket, address: str) -> None:
        try:
            sock.bind((address, 0))
        except (TypeError, ValueError) as error:
            # The text is no name at all: too long, or with bytes that are not text.
            raise OSError(f"the local address {address!r} cannot be used: {error}") from error

    def _on_writable(self, sock: socket.socket) -> None:
        self._engine.unregister(self._attempts.pop(sock))
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self._finish(sock, None)
            return
        sock.close()
        self._error = socket_error(code)
        self.start()

    def _finish(self, sock: Optional[socket.socket], error: Optional[OSError]) -> None:
        self.cancel()
        self._then(sock, error)

    def abandon(self) -> None:
        """In a forked child: the attempts are the parent's."""
        self._done = True
        self._remaining.clear()
        for sock in self._attempts:
            sock.close()
        self._attempts.clear()

    def cancel(self) -> None:
        """Give up: close every attempt; ``then`` is not called any more."""
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock, watch in self._attempts.items():
            self._engine.unregister(watch)
            sock.close()
        self._attempts.clear()
