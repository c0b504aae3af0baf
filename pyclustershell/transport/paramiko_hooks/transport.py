"""A transport that never makes a calling thread wait, and has no thread."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, ClassVar, Optional, cast

import paramiko
from paramiko import IncompatiblePeer, SSHException
from paramiko.common import (
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_UNIMPLEMENTED,
    cMSG_CHANNEL_OPEN,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_CHANNEL_OPEN_SUCCESS,
    cMSG_GLOBAL_REQUEST,
    cMSG_UNIMPLEMENTED,
)
from paramiko.message import Message

from ..packets import PacketCodec
from ..stream import PacketStream
from .auth import ClientAuthHandler
from .bounds import Inflater, check_extensions
from .channel import CHANNEL_MESSAGES, HEAD, INT, ClientChannel, string, text_of
from .negotiation import Negotiation
from .then import Then

logger = logging.getLogger("pyclustershell.transport")

#: How many channels to the user's agent one server may have open at once.
MAX_AGENT_CHANNELS = 16

# As many lines as paramiko reads before it gives up.
_MAX_BANNER_LINES = 100

# The messages of the method of key exchange (RFC 4250 4.1.2).
_KEX_FIRST, _KEX_LAST = 30, 49

# Of a request for a channel: its number, its window, and how large its packets may be.
_OPENING = struct.Struct(">III")

# Told when a channel is open (or with the reason why not), where the transport is fed.
Opened = Callable[[Optional["ClientChannel"], Optional[paramiko.ChannelException]], Any]


class _ChannelsSeen:
    """Stands in for a dict with the number of every channel that there was, which only grows.

    Numbers are given in order: those up to the highest are all seen. (After 16 million channels
    they begin anew, and then all of them are.)
    """

    def __init__(self) -> None:
        self._highest = -1

    def __setitem__(self, chanid: int, seen: bool) -> None:
        self._highest = max(self._highest, chanid)

    def __contains__(self, chanid: int) -> bool:
        return chanid <= self._highest


class ClientTransport(Negotiation):
    """A paramiko Transport that never makes a calling thread wait, and has no thread.

    Whoever has received bytes calls :meth:`feed`, one thread at a time; callbacks are called there
    and then.

    Args:
        stream: where packets are sent to.
        on_ended: called where :meth:`feed` or :meth:`end` is called, once, when the connection has
            ended by the peer's doing or by an error. Not called after ``close()``.
    """

    _compression_info: ClassVar[dict[str, Any]] = {
        name: (compressor, decompressor and Inflater)
        for name, (compressor, decompressor) in paramiko.Transport._compression_info.items()
    }

    #: The last attempt to authenticate, and what the server said to it.
    auth_answer: ClientAuthHandler

    #: paramiko's own is a thread's: here bytes are fed to it.
    packetizer: PacketCodec  # type: ignore[assignment]
    _expected_packet: tuple[int, ...]

    def __init__(self, stream: PacketStream, on_ended: Callable[[], Any]) -> None:
        self._on_ended = on_ended
        #: Set, messages of the authentication are handled through it; see :meth:`feed`.
        self.aside: Optional[Callable[[Callable[[], Any]], Any]] = None
        # What ended the connection, until that is told.
        self._broken: Optional[Exception] = None
        #: Set while a step is taken aside: messages wait.
        self.paused = False
        # Channels asked for and not yet granted.
        self._openings: dict[int, tuple[ClientChannel, Opened]] = {}
        # What could not be sent during a key exchange, and who waits for its end.
        self._deferred: list[bytes] = []
        self._when_clear: list[Callable[[], Any]] = []
        #: Whether the server is ready for attempts to authenticate.
        self.auth_service_granted = False
        # What the session's keys are made of, while they are made.
        self._secret = b""
        # Lines read of the banner.
        self._lines = 0
        #: The server's last words (RFC 4253 11.1), where it sent any.
        self.disconnect_message: Optional[str] = None
        #: Called with each channel that the server opens to ask the user's agent, where
        #: the transport is fed; None: they are refused.
        self.on_agent_channel: Optional[Callable[[ClientChannel], Any]] = None
        self._agent_channels: set[ClientChannel] = set()
        #: By which the server has proved the possession of its key (RFC 4253 section 8).
        self.server_signature = b""
        super().__init__(stream, packetizer_class=PacketCodec)  # type: ignore[arg-type]
        self.channels_seen = _ChannelsSeen()  # type: ignore[assignment]

    # -- settings --

    def limit_keys(self, size: int, seconds: float) -> None:
        """Agree on new session keys after so many bytes, or so many seconds; 0 for no limit.

        An idle connection keeps its keys until it is used again: nothing was sent under them.
        """
        self.packetizer.limit_keys(size, seconds)

    @property
    def server_key(self) -> tuple[str, bytes]:
        """The type and the blob of the server's host key, or of its certificate if it showed one.

        ``get_remote_server_key()`` gives the certified key, with the certificate as an attribute.
        """
        key = self.get_remote_server_key()
        certificate = key.public_blob
        if certificate is not None:
            return certificate.key_type, certificate.key_blob
        return key.get_name(), key.asbytes()

    # -- receiving --

    def negotiate(self, then: Callable[[], Any]) -> None:
        """Begin; call ``then()`` when keys have been exchanged.

        ``then()`` is also called when the connection ends meanwhile: see ``is_active()``.
        """

        def once() -> None:
            # paramiko sets the event again after each rekey and each global request.
            self.completion_event = None
            then()

        self.completion_event = Then(once)
        self.active = True
        # The peer's version need not be known to send what comes behind ours (RFC 4253 4.2).
        self.packetizer.cork()
        self.packetizer.write_all(f"{self.local_version}\r\n".encode())
        self._send_kex_init()
        self._expect_packet(MSG_KEXINIT)
        self.packetizer.uncork()

    def feed(self, data: bytes) -> None:
        """Take bytes that have come, and handle the messages that are complete.

        Where :attr:`aside` is set, messages of the authentication (RFC 4250 4.1.2: 50 to 79) are
        not handled here: ``aside(step)`` sees to it that ``guard(step)`` is called on another
        thread and then, where this is called, :meth:`resume`. What comes meanwhile waits.

        Args:
            data: the bytes.
        """
        packets = self.packetizer
        packets.feed(data)
        if self.paused or not self.active:
            return
        # What one message makes us send goes out with what the next one does.
        packets.cork()
        try:
            if self.remote_version or self._read_version():
                self._handle_messages(packets)
        except Exception as error:
            self._broken = error
        finally:
            packets.uncork()
        if self._broken is not None:
            self.end(self._broken)

    def _read_version(self) -> bool:
        """Read up to the peer's version (RFC 4253 4.2); whether it has come."""
        while self._lines < _MAX_BANNER_LINES:
            line = self.packetizer.next_line()
            if line is None:
                return False
            self._lines += 1
            if line.startswith("SSH-"):
                words = line.split(" ", 1)[0].split("-", 2)
                if len(words) < 3 or words[1] not in ("2.0", "1.99"):
                    raise IncompatiblePeer(f"the peer's version is {line!r}, not SSH-2.0")
                self.remote_version = line
                return True
        raise SSHException("no SSH version in the peer's first lines")

    def _handle_messages(self, packets: PacketCodec) -> None:
        while self.active and not self.paused:
            if packets.need_rekey() and not self.in_kex:
                self._send_kex_init()
            payload = packets.next_payload()
            if payload is None:
                return
            kind = payload[0]
            if kind in CHANNEL_MESSAGES and not self._expected_packet:
                self._take_channel_message(payload)
                continue
            message = Message(bytes(payload[1:]))
            message.seqno = packets.received
            if self.aside is not None and 50 <= kind < 80:
                self.paused = True
                self.aside(functools.partial(self._take_message, kind, message))
            else:
                self._take_message(kind, message)

    def guard(self, step: Callable[[], Any]) -> None:
        """Take a step aside. What it raises ends the connection when it is resumed."""
        try:
            step()
        except Exception as error:
            self._broken = error

    def resume(self) -> None:
        """A step aside is over: go on with what came meanwhile. Where :meth:`feed` is called."""
        self.paused = False
        if self._broken is not None:
            self.end(self._broken)
        else:
            self.feed(b"")

    def _take_message(self, kind: int, message: Message) -> None:
        if kind in (MSG_IGNORE, MSG_DEBUG):
            self._enforce_strict_kex(kind)
            return
        if kind == MSG_DISCONNECT:
            self._parse_disconnect(message)
            raise EOFError("the peer has said goodbye")
        expected = self._expected_packet
        if expected:
            if kind not in expected:
                raise SSHException(f"message {kind} came where {expected} was expected")
            self._expected_packet = ()
            if _KEX_FIRST <= kind <= _KEX_LAST and self.kex_engine is not None:
                self.kex_engine.parse_next(kind, message)
                return
        handler = self._handler_table.get(kind)
        if handler is None and self.auth_handler is not None:
            handler = self.auth_handler._handler_table.get(kind)
        if handler is not None:
            handler(message)
        elif kind != MSG_UNIMPLEMENTED:
            answer = Message()
            answer.add_byte(cMSG_UNIMPLEMENTED)
            answer.add_int(message.seqno)
            self._send_message(answer)

    def _take_channel_message(self, payload: memoryview) -> None:
        try:
            kind, chanid = HEAD.unpack_from(payload)
            channel = self._channels.get(chanid)
            if channel is not None:
                CHANNEL_MESSAGES[kind](channel, payload[HEAD.size :])
            elif chanid not in self.channels_seen:
                raise SSHException(f"message {kind} came for channel {chanid}, which never was")
        except struct.error:
            raise SSHException(f"a message of type {payload[0]} is cut short") from None

    def end(self, error: Exception) -> None:
        """The connection has ended by the peer's doing, or by an error. Only the first call counts.

        What waits is told, then ``on_ended``.
        """
        if not self.active:
            return
        logger.debug("%s: %r", self.name, error, exc_info=error)
        self.saved_exception = error
        self.close()
        # close() leaves these to paramiko's thread.
        if self.completion_event is not None:
            self.completion_event.set()
        if self.auth_handler is not None:
            self.auth_handler.abort()
        self._on_ended()

    def let_go(self) -> None:
        """Part with what refers back to this transport, which has been closed."""
        self._on_ended = lambda: None
        self.auth_handler = self.kex_engine = self.completion_event = None
        self.aside = self.on_agent_channel = None
        vars(self).pop("auth_answer", None)
        self._handler_table: dict[int, Any] = {}

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        # Failures are data here, so that paramiko's errors, tracebacks and all, are for debugging
        # only; with no logging configured, Python would print them on stderr.
        if logger.isEnabledFor(logging.DEBUG):
            for line in msg if isinstance(msg, list) else [msg]:
                logger.debug("%s: %s", self.name, line % args if args else line)

    # -- sending --

    def _send_user_message(self, data: Message) -> None:
        # paramiko waits here, polling 10 times a second, until a key exchange is over. The
        # thread that feeds would wait for itself (30 s, then an error), any other for a
        # server. What cannot be sent now is sent when the exchange is over.
        self.send_payload(data.asbytes())

    def send_payload(self, payload: bytes) -> None:
        """Send a message, or keep it until a key exchange is over. On any thread; never waits."""
        with self.clear_to_send_lock:
            if self._deferred or not self.clear_to_send.is_set():
                if self.active:
                    self._deferred.append(payload)
                return
            self.packetizer.send_payload(payload)

    def _compute_key(self, id: str, nbytes: int) -> bytes:  # noqa: A002 paramiko's name
        # RFC 4253 7.2. paramiko encodes the secret, a number, for each of the six keys anew.
        secret, exchange_hash, session = cast("Any", (self.K, self.H, self.session_id))
        if not self._secret:
            m = Message()
            # Since 5.0 the secret of some methods is a string.
            m.add_string(secret) if isinstance(secret, bytes) else m.add_mpint(secret)
            self._secret = m.asbytes() + exchange_hash
        digest = self.kex_engine.hash_algo
        key: bytes = digest(self._secret + id.encode() + session).digest()
        while len(key) < nbytes:
            key += digest(self._secret + key).digest()
        return key[:nbytes]

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)
        self._secret = b""
        with self.clear_to_send_lock:
            for payload in self._deferred:
                self.packetizer.send_payload(payload)
            self._deferred.clear()
            callbacks, self._when_clear = self._when_clear, []
        for callback in callbacks:
            callback()

    def ask_for_a_sign_of_life(self) -> None:
        """Send a request that every server answers, if only by refusing it (RFC 4254 4).

        ``set_keepalive`` sends one that asks for no answer: a dead peer would not be missed.
        """
        m = Message()
        m.add_byte(cMSG_GLOBAL_REQUEST)
        m.add_string("keepalive@openssh.com")
        m.add_boolean(True)
        self._send_user_message(m)

    # -- what the server says --

    def _parse_ext_info(self, m: Message) -> None:
        check_extensions(m)
        super()._parse_ext_info(m)

    def _parse_disconnect(self, m: Message) -> None:
        # paramiko only logs it. It is the reason that the user wants to read.
        m.get_int()
        self.disconnect_message = text_of(m)

    def open_session_channel(self, then: Opened, window: Optional[int] = None) -> None:
        """Ask for a session channel (RFC 4254 6.1); ``Transport.open_session`` waits for it.

        Args:
            then: called where the transport is fed with the channel, or with the server's refusal;
                not called where the connection ends first.
            window: how many bytes the server may send before we have dealt with them; None for
                paramiko's 2 MiB.
        """
        self._open_channel(b"session", then, window=window)

    def open_tunnel(self, host: str, port: int, then: Opened) -> None:
        """Ask for a TCP connection from the server to a third host (RFC 4254 7.2).

        Args:
            host: the name or the address, as the server shall look it up.
            port: the TCP port.
            then: as for :meth:`open_session_channel`.
        """

        # Where the connection came from. There is none: OpenSSH's client says the same.
        addresses = b"".join(
            (string(host.encode()), INT.pack(port), string(b"127.0.0.1"), INT.pack(65535))
        )
        self._open_channel(b"direct-tcpip", then, addresses)

    def _open_channel(
        self,
        kind: bytes,
        then: Opened,
        details: bytes = b"",
        window: Optional[int] = None,
    ) -> None:
        with self.lock:
            window_size = self._sanitize_window_size(window)
            max_packet_size = self._sanitize_packet_size(None)
            chanid = self._next_channel()
            channel = ClientChannel(chanid)
            self._channels.put(chanid, channel)
            self.channels_seen[chanid] = True
            channel._set_transport(self)
            channel._set_window(window_size, max_packet_size)
            self._openings[chanid] = (channel, then)
        sizes = _OPENING.pack(chanid, window_size, max_packet_size)
        self.send_payload(b"%b%b%b%b" % (cMSG_CHANNEL_OPEN, string(kind), sizes, details))

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Send what is sent in the with block at its end, in one system call."""
        self.packetizer.cork()
        try:
            yield
        finally:
            self.packetizer.uncork()

    def is_clear(self, then: Callable[[], Any]) -> bool:
        """Whether what is sent now goes out, and need not wait for a key exchange.

        Args:
            then: called once when the exchange is over, if there is one, where the transport is
                fed: it must only post.
        """
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set() and not self._deferred:
                return True
            self._when_clear.append(then)
            return False

    def _parse_channel_open_success(self, m: Message) -> None:
        chanid, remote, window, packet = (m.get_int() for _ in range(4))
        channel, then = self._openings.pop(chanid, (None, None))
        if channel is not None and then is not None:
            channel._set_remote_channel(remote, window, packet)
            then(channel, None)

    def _parse_channel_open_failure(self, m: Message) -> None:
        chanid = m.get_int()
        _channel, then = self._openings.pop(chanid, (None, None))
        if then is None:
            m.rewind()
            super()._parse_channel_open_failure(m)
            return
        code = m.get_int()
        self._unlink_channel(chanid)
        then(None, paramiko.ChannelException(code, text_of(m)))

    # -- channels of the server --

    def _parse_channel_open(self, m: Message) -> None:
        # paramiko would make a channel of its own class, and open as many as the server likes.
        if self.on_agent_channel is None or m.get_text() != "auth-agent@openssh.com":
            m.rewind()
            super()._parse_channel_open(m)
            return
        remote, window, packet = m.get_int(), m.get_int(), m.get_int()
        answer = Message()
        self._agent_channels = {c for c in self._agent_channels if not c.closed}
        if len(self._agent_channels) >= MAX_AGENT_CHANNELS:
            answer.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
            answer.add_int(remote)
            answer.add_int(4)  # SSH_OPEN_RESOURCE_SHORTAGE
            answer.add_string("too many agent channels")
            answer.add_string("")
            self._send_user_message(answer)
            return
        with self.lock:
            chanid = self._next_channel()
            channel = ClientChannel(chanid)
            self._channels.put(chanid, channel)
            self.channels_seen[chanid] = True
            channel._set_transport(self)
            channel._set_window(self.default_window_size, self.default_max_packet_size)
            channel._set_remote_channel(remote, window, packet)
        self._agent_channels.add(channel)
        answer.add_byte(cMSG_CHANNEL_OPEN_SUCCESS)
        for number in (remote, chanid, self.default_window_size, self.default_max_packet_size):
            answer.add_int(number)
        self._send_user_message(answer)
        self.on_agent_channel(channel)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)
        # Of the first key exchange: that is the one that names the session.
        self.server_signature = self.server_signature or sig

    # -- authentication --

    def start_auth(self, then: Callable[[], Any]) -> ClientAuthHandler:
        """Begin an attempt; call ``then()`` where the transport is fed when it is decided.

        ``Transport.auth_*`` make the same handler, but ``auth_interactive`` and ``auth_none`` take
        no event, and the list of methods that can go on is dropped with most refusals.

        Returns:
            The handler, of which one ``auth_*`` method has to be called.
        """
        self.auth_handler = self.auth_answer = ClientAuthHandler(self, Then(then))
        return self.auth_answer
