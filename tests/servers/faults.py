"""Servers that misbehave, each in a few lines, on sockets of the loopback interface.

A script is a function that gets the socket of one connection. The scripts here are named after
their fault and stand in the order of an SSH connection (RFC 4253, section 4). A test that needs
another fault writes its own script.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Callable, Optional, TypeVar

from tests.windows import linuxside

Address = tuple[str, int]
Script = Callable[[socket.socket], None]
ServerT = TypeVar("ServerT", bound="ScriptedServer")

BANNER = b"SSH-2.0-OpenSSH_9.2\r\n"
BANNER_LIMIT = 255  # bytes, RFC 4253, section 4.2
KEY_EXCHANGES = b"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"
STOP_DEADLINE = 5.0


class ScriptedServer:
    """A TCP server that runs a script for each connection, in a thread of its own.

    A context manager: entering starts it; leaving closes what is open and ends the threads. A
    script that waits on its socket then sees the end of the stream, or an OSError, which may leave
    the script.

    Attributes:
        address: host and port on which it listens.
        accepted: how many connections it took.
        errors: exceptions of scripts, but no OSError. Leaving the with block raises the first one.
    """

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen, so that the address is known. Connections are accepted inside of the with block.

        Args:
            script: called with the socket of each connection, which is closed when it returns.
            host: an address of the loopback interface.
            port: 0 for any that is free.
        """
        self.accepted = 0
        self.errors: list[BaseException] = []
        self._script = script
        self._listener = socket.create_server((host, port), backlog=512)
        self.address: Address = self._listener.getsockname()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()  # guards _connections and _stopping
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept, name=f"accept {self.address}")]

    def __repr__(self) -> str:
        name = getattr(self._script, "__name__", "script")
        return f"<ScriptedServer {name} {self.address} accepted {self.accepted}>"

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self.address[1]

    def __enter__(self: ServerT) -> ServerT:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()
        if self.errors and exc is None:
            raise self.errors[0]

    def stop(self) -> None:
        """Close all sockets and end all threads."""
        with self._lock:
            self._stopping = True
            # Shutting a socket down wakes the threads that wait on it; closing alone does not.
            for connection in self._connections:
                _shutdown(connection)
        # A listener is woken by a connection: on Windows nothing else does it.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=STOP_DEADLINE).close()
        _shutdown(self._listener)
        for thread in list(self._threads):
            thread.join(STOP_DEADLINE)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # stop() shut the listener down
            with self._lock:
                if self._stopping:
                    connection.close()
                    return
                self._connections.add(connection)
                self.accepted += 1
                thread = threading.Thread(target=self._run, args=[connection])
                self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._script(connection)
        except BaseException as error:  # raised in the test's own thread
            self.errors.append(error)
        finally:
            with self._lock:
                self._connections.discard(connection)
                connection.close()


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


# -- parts of scripts ------------------------------------------------------------------------------


def wait_for_hangup(connection: socket.socket) -> None:
    """Read and forget until the client goes away or the server is stopped."""
    while connection.recv(65536):
        pass


def read_banner(connection: socket.socket) -> bytes:
    """The client's identification string with its line end; less if the stream ended before."""
    banner = b""
    while not banner.endswith(b"\n") and len(banner) < BANNER_LIMIT:
        byte = connection.recv(1)
        if not byte:
            break
        banner += byte
    return banner


#: Under wine 8, the wineserver takes the error of a socket that it polls: a program that reads
#: after a select() finds the end of the stream in the place of a reset.
RESETS_ARE_SEEN = not linuxside.reachable()


def reset(connection: socket.socket) -> None:
    """Close with RST in the place of FIN. Clients on wine do not see it: RESETS_ARE_SEEN."""
    # l_onoff and l_linger of socket(7): to linger for no time is to reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def packet(payload: bytes) -> bytes:
    """An SSH packet before the first key exchange (RFC 4253, section 6): no cipher and no MAC."""
    padding = 8 - (len(payload) + 5) % 8
    if padding < 4:  # at least four bytes, says the RFC
        padding += 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def key_exchange_init(kex: bytes = KEY_EXCHANGES, cipher: bytes = b"aes128-ctr") -> bytes:
    """An SSH_MSG_KEXINIT packet (RFC 4253, section 7.1), by default one that suits the client."""
    offers = [kex, b"ssh-ed25519", cipher, cipher, b"hmac-sha2-256", b"hmac-sha2-256"]
    offers += [b"none", b"none", b"", b""]
    name_lists = b"".join(struct.pack(">I", len(offer)) + offer for offer in offers)
    return packet(b"\x14" + os.urandom(16) + name_lists + bytes(5))


def disconnect(reason: int = 2, text: bytes = b"Too many connections") -> bytes:
    """An SSH_MSG_DISCONNECT packet (RFC 4253, section 11.1)."""
    return packet(b"\x01" + struct.pack(">II", reason, len(text)) + text + bytes(4))


# -- scripts ---------------------------------------------------------------------------------------


def close_at_once(connection: socket.socket) -> None:
    """End the stream before any byte was sent."""
    connection.shutdown(socket.SHUT_WR)
    # To close with the client's banner unread would be a reset.
    wait_for_hangup(connection)


def close_before_banner(connection: socket.socket) -> None:
    """Take the client's banner and end the stream without one, as MaxStartups does."""
    read_banner(connection)
    connection.shutdown(socket.SHUT_WR)
    wait_for_hangup(connection)


def reset_at_once(connection: socket.socket) -> None:
    """Reset the connection before any byte was sent."""
    reset(connection)


def reset_before_banner(connection: socket.socket) -> None:
    """Take the client's banner and reset the connection."""
    read_banner(connection)
    reset(connection)


def hang_before_banner(connection: socket.socket) -> None:
    """Never send anything."""
    wait_for_hangup(connection)


def hang_in_banner(connection: socket.socket) -> None:
    """Send a part of the banner and no more."""
    connection.sendall(BANNER[:10])
    wait_for_hangup(connection)


def garbage_banner(connection: socket.socket) -> None:
    """Send bytes that are no text in place of the banner, and hang up."""
    connection.sendall(bytes(range(256)) * 4 + b"\n")
    connection.shutdown(socket.SHUT_WR)
    wait_for_hangup(connection)


def other_protocol(connection: socket.socket) -> None:
    """Answer the client's banner as a web server does, with an HTTP error, and hang up."""
    read_banner(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)
    wait_for_hangup(connection)


def endless_greeting(connection: socket.socket) -> None:
    """Send lines that RFC 4253, section 4.2, allows before the banner, and never the banner."""
    while True:
        connection.sendall(b"Welcome to the cluster.\r\n" * 100)


def endless_line(connection: socket.socket) -> None:
    """Send a line before the banner that never ends."""
    while True:
        connection.sendall(b"Welcome to the cluster. " * 100)


def old_protocol(connection: socket.socket) -> None:
    """Be a server that speaks SSH 1 only."""
    connection.sendall(b"SSH-1.5-1.2.27\r\n")
    wait_for_hangup(connection)


def hang_before_key_exchange(connection: socket.socket) -> None:
    """Send the banner, and no more."""
    connection.sendall(BANNER)
    wait_for_hangup(connection)


def hang_in_key_exchange(connection: socket.socket) -> None:
    """Send the banner, offer usable algorithms, and never answer the key exchange."""
    connection.sendall(BANNER + key_exchange_init())
    wait_for_hangup(connection)


def half_key_exchange(connection: socket.socket) -> None:
    """Send the banner, and half of the message with the algorithms."""
    offer = key_exchange_init()
    connection.sendall(BANNER + offer[: len(offer) // 2])
    wait_for_hangup(connection)


def close_in_key_exchange(connection: socket.socket) -> None:
    """Send the banner, offer algorithms, and end the stream."""
    connection.sendall(BANNER + key_exchange_init())
    read_banner(connection)
    connection.shutdown(socket.SHUT_WR)
    wait_for_hangup(connection)


def reset_in_key_exchange(connection: socket.socket) -> None:
    """Send the banner, offer algorithms, and reset the connection."""
    connection.sendall(BANNER + key_exchange_init())
    read_banner(connection)
    connection.recv(1)
    reset(connection)


def no_common_algorithm(connection: socket.socket) -> None:
    """Offer a key exchange that no client supports."""
    connection.sendall(BANNER + key_exchange_init(kex=b"diffie-hellman-group0-md5"))
    wait_for_hangup(connection)


def garbage_packet(connection: socket.socket) -> None:
    """Send the banner, and a packet that is longer than the protocol allows."""
    connection.sendall(BANNER + b"\xff" * 64)
    wait_for_hangup(connection)


def giant_packet(connection: socket.socket) -> None:
    """Send the banner, and the beginning of a packet of nearly 4 GB."""
    connection.sendall(BANNER + struct.pack(">I", 0xFFFFFFF4))
    while True:
        connection.sendall(bytes(65536))


def disconnect_at_once(connection: socket.socket) -> None:
    """Send the banner and a disconnect message (RFC 4253, section 11.1)."""
    connection.sendall(BANNER + disconnect())
    wait_for_hangup(connection)


# -- addresses without a server --------------------------------------------------------------------


@contextlib.contextmanager
def refusing_address(host: str = "127.0.0.1") -> Iterator[Address]:
    """An address that refuses connections, for as long as the with block lasts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as holder:
        # Bound and not listening: the port is ours, and its connections are refused.
        holder.bind((host, 0))
        yield holder.getsockname()


@contextlib.contextmanager
def dropping_address(host: str = "127.0.0.1") -> Iterator[Address]:
    """An address that ignores attempts to connect, as an address behind a silent firewall does.

    Linux drops a SYN for a listening socket whose queue is full (tcp_conn_request() in
    net/ipv4/tcp_input.c), so we listen, accept nothing and fill the queue. The queue stays full
    until the end of the with block.

    Raises:
        RuntimeError: the system still answers.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), backlog=1))
        listener.listen(0)
        address: Address = listener.getsockname()
        for _ in range(256):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
            connected = select.select([], [filler], [], 0.2)[1]
            if not connected:
                yield address
                return
        raise RuntimeError(f"{address} takes any number of connections")
