"""A paramiko transport that never waits, and has no thread."""

from __future__ import annotations

import functools
import logging
import re
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Callable, ClassVar, Optional, cast

import paramiko
from paramiko import IncompatiblePeer, SSHException
from paramiko.common import (
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_REQUEST_FAILURE,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_SUCCESS,
    cMSG_CHANNEL_OPEN,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_CHANNEL_OPEN_SUCCESS,
    cMSG_GLOBAL_REQUEST,
)
from paramiko.message import Message

from .algorithms import choose_signature
from .bytestream import ByteStream
from .callbackevent import CallbackEvent
from .channel import CHANNEL_MESSAGES, HEAD, INT, ClientChannel, text_of
from .fields import ssh_string
from .hostkey import check_host_key
from .kexinit import Negotiation
from .limits import Inflater, check_extensions
from .packets import PacketCodec
from .received import ReceivedMessage, check_end, cut_short
from .sending import Sending
from .userauth import ClientAuthHandler

logger = logging.getLogger("pyclustershell.ssh")

#: How many channels to the user's agent one server may have open at once.
MAX_AGENT_CHANNELS = 16

# As in OpenSSH (SSH_MAX_PRE_BANNER_LINES): as many lines may come before the version.
_MAX_BANNER_LINES = 1024

# The messages of the key exchange method (RFC 4250 4.1.2).
_KEX_FIRST, _KEX_LAST = 30, 49

# SERVICE_ACCEPT and EXT_INFO (RFC 8308 section 2.4) may come until the login succeeds.
_BEFORE_LOGIN = frozenset({MSG_UNIMPLEMENTED, 6, 7, MSG_KEXINIT})

# Messages from this number on are local extensions (RFC 4250 4.1.1), and none is agreed on.
_FIRST_LOCAL = 192

# How many messages of channels one call of feed() handles. Other messages cost more time each, and
# a further key exchange costs as much as all of them.
_SHARE, _COST, _KEX_COST = 512, 16, 512

# In OpenSSH's debug message about the user's line in authorized_keys, the names of the line's
# options follow these words (auth_log_authopts() in its auth.c).
_KEY_OPTIONS = b": key options:"

# OpenSSH before 7.8 takes signatures of RSA certificates only with SHA-1, whatever server-sig-algs
# says (SSH_BUG_SIGTYPE in its compat.c).
_OLD_CERTIFICATES = re.compile(r"-OpenSSH_([1-6]|7\.[0-7])(?!\d)")

# Fields of a request for a channel: its number, its window, and the largest size of its packets.
_OPENING = struct.Struct(">III")

# Called with the open channel, or with the reason of the refusal, on the thread that feeds the
# transport.
Opened = Callable[[Optional["ClientChannel"], Optional[paramiko.ChannelException]], Any]


def _may_come_before_login(kind: int) -> bool:
    """True if a server may send a message between the first key exchange and the login.

    OpenSSH's client ends the connection at any other one. DISCONNECT, IGNORE and DEBUG are allowed
    at any time.
    """
    return 50 <= kind < 80 or kind in _BEFORE_LOGIN


class _ChannelsSeen:
    """Replaces a dict of all channel numbers ever used, which would only grow.

    Numbers are given in order: all up to the highest have been used. (After 16 million channels
    they start again at 0; then all of them have been used.)
    """

    def __init__(self) -> None:
        self._highest = -1

    def __setitem__(self, chanid: int, seen: bool) -> None:
        self._highest = max(self._highest, chanid)

    def __contains__(self, chanid: int) -> bool:
        return chanid <= self._highest


class ClientTransport(Negotiation, Sending):
    """A paramiko Transport that never makes a calling thread wait, and has no thread.

    The thread that has received bytes calls :meth:`feed`, one thread at a time. Callbacks run on
    that thread, during the call.

    Args:
        stream: carries the packets.
        on_ended: called once when the peer or an error has ended the connection, on the thread
            that calls :meth:`feed` or :meth:`end`. Not called after ``close()``.
    """

    _compression_info: ClassVar[dict[str, Any]] = {
        name: (compressor, decompressor and Inflater)
        for name, (compressor, decompressor) in paramiko.Transport._compression_info.items()
    }

    #: The last attempt to authenticate, with the server's answer.
    auth_answer: ClientAuthHandler

    _expected_packet: tuple[int, ...]
    host_key_type: str

    def __init__(self, stream: ByteStream, on_ended: Callable[[], Any]) -> None:
        self._on_ended = on_ended
        #: If set, takes the handling of authentication messages to another thread: :meth:`feed`.
        self.offload: Optional[Callable[[Callable[[], Any]], Any]] = None
        #: If set, takes long computations of a key exchange to another thread, as ``offload`` does.
        self.offload_computing: Optional[Callable[[Callable[[], Any]], Any]] = None
        # The error that has ended the connection, until end() reports it.
        self._broken: Optional[Exception] = None
        #: True if messages are left that feed() has not handled.
        self.has_more = False
        #: Set while a step runs on another thread: messages wait.
        self.paused = False
        # Channels that were requested and are not open yet.
        self._openings: dict[int, tuple[ClientChannel, Opened]] = {}
        # The encoded input of the session's keys, while they are computed.
        self._secret = b""
        # True after the server's grant (RFC 4252 section 5.1).
        self._logged_in = False
        # How many lines of the banner have been read.
        self._lines = 0
        #: The server's reason to disconnect (RFC 4253 11.1); None if it gave none.
        self.disconnect_message: Optional[str] = None
        #: True if the server has said that each command is replaced by one of its own.
        self.forced_command = False
        #: Called with each channel that the server opens to the user's agent, on the thread that
        #: feeds the transport. None: such channels are refused.
        self.on_agent_channel: Optional[Callable[[ClientChannel], Any]] = None
        self._agent_channels: set[ClientChannel] = set()
        #: The type and the blob of the server's host key, or of its certificate if it sent one, in
        #: the first key exchange, which defines the session's identifier.
        self.server_key: tuple[str, bytes] = ("", b"")
        #: The signature that proves the possession of that key (RFC 4253 section 8).
        self.server_signature = b""
        #: Called in each later key exchange with the type and the blob of its host key, on a
        #: thread that may wait. An exception ends the connection.
        self.check_later_key: Optional[Callable[[str, bytes], Any]] = None
        #: The value of PubkeyAcceptedAlgorithms; None for the defaults.
        self.signature_wish: Optional[Sequence[str]] = None
        super().__init__(stream)
        self.channels_seen = _ChannelsSeen()  # type: ignore[assignment]

    # -- settings --

    def limit_keys(self, size: int, seconds: float) -> None:
        """Exchange new session keys after ``size`` bytes, or ``seconds``; 0 for no limit.

        An idle connection keeps its keys until it is used again: they encrypt nothing meanwhile.
        """
        self.packetizer.limit_keys(size, seconds)

    def signature_algorithm(self, key: paramiko.PKey) -> Optional[str]:
        """Return the algorithm of a login's signature by a key; None if the key must not be used.

        paramiko's own choice fails the connection in place of the key, and knows no setting.
        """
        certificate: Any = getattr(key, "public_blob", None)
        accepted = self.server_extensions.get("server-sig-algs")
        return choose_signature(
            certificate.key_type if certificate else key.get_name(),
            self.signature_wish,
            None if accepted is None else accepted.decode(errors="replace").split(","),
            _OLD_CERTIFICATES.search(self.remote_version or "") is not None,
        )

    # -- receiving --

    def negotiate(self, then: Callable[[], Any]) -> None:
        """Start the key exchange; call ``then()`` when it is complete.

        ``then()`` is also called if the connection ends meanwhile: see ``is_active()``.
        """

        def once() -> None:
            # paramiko sets the event again after each key exchange and each global request.
            self.completion_event = None
            then()

        self.completion_event = CallbackEvent(once)
        self.active = True
        # We may send packets behind our version before the peer's version comes (RFC 4253 4.2).
        self.packetizer.cork()
        self.packetizer.write_all(f"{self.local_version}\r\n".encode())
        self._send_kex_init()
        self._expect_packet(MSG_KEXINIT)
        self.packetizer.uncork()

    def feed(self, data: bytes) -> None:
        """Take received bytes, and handle the messages that are complete.

        It handles a share of them at most, and sets :attr:`has_more` if some are left: other nodes
        shall not wait for one that floods us. ``feed(b"")`` handles the next share.

        If :attr:`offload` is set, this does not handle authentication messages (RFC 4250 4.1.2: 50
        to 79): ``offload(step)`` has ``guard(step)`` called on another thread, and then
        :meth:`resume` on the thread that feeds. Messages that come meanwhile wait.

        Args:
            data: the bytes.
        """
        packets = self.packetizer
        if data:
            packets.feed(data)
        if self.paused or not self.active:
            return
        # The answers to all messages go out in one system call.
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
        """Read up to the peer's version (RFC 4253 4.2); return whether it has come."""
        while self._lines <= _MAX_BANNER_LINES:
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
        self.has_more = False
        share = _SHARE
        while self.active and not self.paused:
            if packets.need_rekey() and not self.in_kex:
                self._send_kex_init()
            payload = packets.next_payload()
            if payload is None:
                return
            kind = payload[0]
            if kind in CHANNEL_MESSAGES and not self._expected_packet:
                self._take_channel_message(payload)
                share -= 1
            else:
                message = ReceivedMessage(bytes(payload[1:]))
                message.kind = kind
                message.seqno = packets.received
                if self.offload is not None and 50 <= kind < 80:
                    self.paused = True
                    self.offload(functools.partial(self._take_message, kind, message))
                else:
                    self._take_message(kind, message)
                share -= _KEX_COST if kind == MSG_KEXINIT and self.initial_kex_done else _COST
            if share <= 0:
                self.has_more = True
                return

    def run_aside(self, step: Callable[[], Any]) -> None:
        """Run a step of a key exchange on another thread; messages wait until it is done.

        For steps that compute for long, or may wait for a disk.
        """
        if self.offload_computing is None or self.paused:  # paused: this is a step already
            step()
        else:
            self.paused = True
            self.offload_computing(step)

    def guard(self, step: Callable[[], Any]) -> None:
        """Run a step on another thread. An exception ends the connection in :meth:`resume`."""
        try:
            step()
        except Exception as error:
            self._broken = error

    def resume(self) -> None:
        """Continue after a step on another thread. On the thread that calls :meth:`feed`."""
        self.paused = False
        if self._broken is not None:
            self.end(self._broken)
        else:
            self.feed(b"")

    def _take_message(self, kind: int, message: Message) -> None:
        if kind in (MSG_IGNORE, MSG_DEBUG):
            self._enforce_strict_kex(kind)
            if kind == MSG_DEBUG:
                message.get_boolean()
                text = message.get_binary()
                message.get_binary()
                if b"command" in text.partition(_KEY_OPTIONS)[2].split():
                    self.forced_command = True
            return
        if kind == MSG_DISCONNECT:
            self._parse_disconnect(message)
            raise EOFError("the peer has disconnected")
        expected = self._expected_packet
        if expected:
            if kind not in expected:
                raise SSHException(f"message {kind} came instead of {expected}")
            self._expected_packet = ()
            if _KEX_FIRST <= kind <= _KEX_LAST and self.kex_engine is not None:
                step = functools.partial(self._take_kex_message, kind, message)
                if self.check_later_key is None:
                    step()
                else:
                    self.run_aside(step)  # the host key is looked up in files
                return
        elif kind == MSG_NEWKEYS:
            raise SSHException("new keys came without a key exchange")
        elif self.initial_kex_done and not self._logged_in and not _may_come_before_login(kind):
            raise SSHException(f"message {kind} came before the login was complete")
        handler = self._handler_table.get(kind)
        # As in OpenSSH, messages of the authentication that come later are unknown.
        if handler is None and self.auth_handler is not None and not self._logged_in:
            handler = self.auth_handler._handler_table.get(kind)
        if handler is not None:
            handler(message)
            if kind == MSG_USERAUTH_SUCCESS:
                self._logged_in = True
        elif kind == MSG_UNIMPLEMENTED:
            message.get_int()
            check_end(message)
        elif not 0 < kind < _FIRST_LOCAL:
            raise SSHException(f"message {kind} is none of the protocol's")
        else:
            self.send_answer(HEAD.pack(MSG_UNIMPLEMENTED, message.seqno))

    def _take_kex_message(self, kind: int, message: Message) -> None:
        self.kex_engine.parse_next(kind, message)
        check_end(message)

    def _take_channel_message(self, payload: memoryview) -> None:
        try:
            kind, chanid = HEAD.unpack_from(payload)
            channel = self._channels.get(chanid)
            if channel is not None:
                if not channel.active and chanid in self._openings:
                    raise SSHException(f"message {kind} came for channel {chanid} before it opened")
                CHANNEL_MESSAGES[kind](channel, payload[HEAD.size :])
            elif chanid not in self.channels_seen:
                raise SSHException(f"message {kind} came for channel {chanid}, never opened")
        except struct.error:
            raise cut_short(payload[0]) from None

    def end(self, error: Exception) -> None:
        """End the connection after the peer has closed it or an error. Only the first call counts.

        This calls the callbacks that wait for an answer, and then ``on_ended``.
        """
        if not self.active:
            return
        logger.debug("%s: %r", self.name, error, exc_info=error)
        self.saved_exception = error
        self.is_violated = not isinstance(error, (EOFError, OSError))
        self.close()
        # close() leaves these events to paramiko's thread.
        if self.completion_event is not None:
            self.completion_event.set()
        if self.auth_handler is not None:
            self.auth_handler.abort()
        self._on_ended()

    def abandon(self) -> None:
        """In a forked child: the connection is the parent's. The channels send nothing any more.

        Otherwise each channel would close itself when it is freed (``Channel.__del__``), perhaps
        with a lock that another thread of the parent held at the fork.
        """
        self.active = False
        self.lock = threading.Lock()
        self.clear_to_send_lock = threading.Lock()
        self.packetizer.abandon()
        # Not values(): it takes another lock.
        for channel in list(self._channels._map.values()):
            channel.abandon()

    def drop_references(self) -> None:
        """Drop references that lead back to this closed transport, so that it is freed at once."""
        self._on_ended = lambda: None
        self.auth_handler = self.kex_engine = self.completion_event = None
        self.offload = self.offload_computing = self.on_agent_channel = self.check_later_key = None
        vars(self).pop("auth_answer", None)
        self._openings.clear()
        self._handler_table: dict[int, Any] = {}

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        # Failures are results here, so paramiko's error messages and tracebacks are for debugging
        # only. Without a logging configuration, Python would print them on stderr.
        if logger.isEnabledFor(logging.DEBUG):
            for line in msg if isinstance(msg, list) else [msg]:
                logger.debug("%s: %s", self.name, line % args if args else line)

    # -- keys --

    def _compute_key(self, id: str, nbytes: int) -> bytes:  # noqa: A002 paramiko's name
        # RFC 4253 7.2. paramiko encodes the secret, a number, again for each of the six keys.
        secret, exchange_hash, session = cast("Any", (self.K, self.H, self.session_id))
        if not self._secret:
            m = Message()
            # Since paramiko 5.0 the secret of some methods is a string.
            m.add_string(secret) if isinstance(secret, bytes) else m.add_mpint(secret)
            self._secret = m.asbytes() + exchange_hash
        digest = self.kex_engine.hash_algo
        key: bytes = digest(self._secret + id.encode() + session).digest()
        while len(key) < nbytes:
            key += digest(self._secret + key).digest()
        return key[:nbytes]

    def _parse_newkeys(self, m: Message) -> None:
        check_end(m)
        super()._parse_newkeys(m)
        self._secret = b""

    def send_keepalive(self) -> None:
        """Send a request that every server answers, at least with a refusal (RFC 4254 4).

        ``set_keepalive`` sends one without an answer: a dead peer would not be noticed.
        """
        m = Message()
        m.add_byte(cMSG_GLOBAL_REQUEST)
        m.add_string("keepalive@openssh.com")
        m.add_boolean(True)
        self._send_user_message(m)

    # -- messages of the server --

    def _parse_global_request(self, m: Message) -> None:
        # No request is granted. As in OpenSSH, the end of an unknown one is not checked.
        m.get_binary()
        if m.get_boolean():
            self.send_answer(bytes([MSG_REQUEST_FAILURE]))

    def _parse_ext_info(self, m: Message) -> None:
        check_extensions(m)
        super()._parse_ext_info(m)
        check_end(m)

    def _parse_disconnect(self, m: Message) -> None:
        # paramiko only logs the text. It is the reason that the user wants to read. The connection
        # ends anyhow: a server that gives no reason has done no harm.
        with suppress(SSHException):
            m.get_int()
            self.disconnect_message = text_of(m)

    def open_session_channel(self, then: Opened, window: Optional[int] = None) -> None:
        """Request a session channel (RFC 4254 6.1); ``Transport.open_session`` waits for it.

        Args:
            then: called with the channel, or with the server's refusal, on the thread that feeds
                the transport; not called if the connection ends first.
            window: how many bytes the server may send before we have processed them; None for
                paramiko's 2 MiB.
        """
        self._open_channel(b"session", then, window=window)

    def open_tunnel(self, host: str, port: int, then: Opened) -> None:
        """Request a TCP connection from the server to a third host (RFC 4254 7.2).

        Args:
            host: the name or the address; the server looks it up.
            port: the TCP port.
            then: as for :meth:`open_session_channel`.
        """

        # The last two fields name the connection's origin. It has none: OpenSSH's client sends the
        # same values.
        addresses = b"".join(
            (
                ssh_string(host.encode()),
                INT.pack(port),
                ssh_string(b"127.0.0.1"),
                INT.pack(65535),
            )
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
        self.send_payload(b"%b%b%b%b" % (cMSG_CHANNEL_OPEN, ssh_string(kind), sizes, details))

    def _parse_channel_open_success(self, m: Message) -> None:
        chanid, remote, window, packet = (m.get_int() for _ in range(4))
        check_end(m)
        channel, then = self._opening(chanid)
        channel._set_remote_channel(remote, window, packet)
        then(channel, None)

    def _parse_channel_open_failure(self, m: Message) -> None:
        chanid, code, text = m.get_int(), m.get_int(), text_of(m)
        m.get_binary()  # the text's language
        check_end(m)
        _channel, then = self._opening(chanid)
        self._unlink_channel(chanid)
        then(None, paramiko.ChannelException(code, text))

    def _opening(self, chanid: int) -> tuple[ClientChannel, Opened]:
        """Return the channel that the server answers for, which is requested no more."""
        try:
            return self._openings.pop(chanid)
        except KeyError:
            raise SSHException(
                f"the server answers for channel {chanid}, which was not requested"
            ) from None

    # -- channels of the server --

    def _parse_channel_open(self, m: Message) -> None:
        # paramiko would make channels of class paramiko.Channel, as many as the server asks for.
        kind, remote, window, packet = m.get_binary(), m.get_int(), m.get_int(), m.get_int()
        serve = self.on_agent_channel  # another thread may end the forwarding meanwhile
        if serve is None or kind != b"auth-agent@openssh.com":
            self._refuse_channel(remote, 1, b"not requested")  # ..._ADMINISTRATIVELY_PROHIBITED
            return
        check_end(m)
        self._agent_channels = {c for c in self._agent_channels if not c.closed}
        if len(self._agent_channels) >= MAX_AGENT_CHANNELS:
            self._refuse_channel(remote, 4, b"too many agent channels")  # ..._RESOURCE_SHORTAGE
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
        sizes = (self.default_window_size, self.default_max_packet_size)
        self.send_answer(
            cMSG_CHANNEL_OPEN_SUCCESS + INT.pack(remote) + _OPENING.pack(chanid, *sizes)
        )
        serve(channel)

    def end_agent_forwarding(self) -> None:
        """Serve the user's agent no more: close its channels, refuse new ones. On any thread."""
        self.on_agent_channel = None
        channels, self._agent_channels = self._agent_channels, set()
        for channel in channels:
            channel.close()

    def _refuse_channel(self, remote: int, code: int, text: bytes) -> None:
        """Refuse a channel, for a reason of RFC 4254 section 5.1 (SSH_OPEN_...)."""
        head = cMSG_CHANNEL_OPEN_FAILURE + INT.pack(remote) + INT.pack(code)
        self.send_answer(head + ssh_string(text) + ssh_string(b""))

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        key_type = check_host_key(self.host_key_type, host_key, sig)
        super()._verify_key(host_key, sig)
        key = cast("Any", self.host_key)
        if key.public_blob is None and key.asbytes() != host_key:
            # Compared with known_hosts it would be another key than the one that has signed.
            raise SSHException("the host key has bytes that are not part of it")
        if not self.server_signature:
            self.server_key, self.server_signature = (key_type, host_key), sig
        elif self.check_later_key is not None:
            self.check_later_key(key_type, host_key)

    # -- authentication --

    def start_auth(self, then: Callable[[], Any]) -> ClientAuthHandler:
        """Start an attempt to authenticate.

        ``Transport.auth_*`` make the same handler, but ``auth_interactive`` and ``auth_none`` take
        no event, and the list of methods that can continue is dropped with most refusals.

        Args:
            then: called when the attempt is decided, on the thread that feeds the transport.

        Returns:
            The handler; the caller calls one of its ``start_*`` methods.
        """
        before = self.auth_handler
        granted = isinstance(before, ClientAuthHandler) and before.service_granted
        handler = ClientAuthHandler(self, CallbackEvent(then), granted)
        self.auth_handler = self.auth_answer = handler
        return handler
