"""Why a connection could not be made or has ended, in the words of the ssh program."""

from __future__ import annotations

from paramiko.ssh_exception import IncompatiblePeer, SSHException

from ..exceptions import ConnectionLostError, HandshakeError, NodeError
from .auth.authenticator import Authenticator
from .config.settings import ConnectionSettings
from .paramiko_hooks import ClientTransport
from .state import ConnectionState
from .stream import PacketStream


def diagnose(
    settings: ConnectionSettings,
    state: ConnectionState,
    transport: ClientTransport,
    stream: PacketStream,
    authenticator: Authenticator,
) -> NodeError:
    """Say why a transport ended by itself.

    Args:
        settings: the connection's settings.
        state: where the connection was.
        transport: the transport that has ended.
        stream: what carried it.
        authenticator: knows what was tried.
    """
    error = transport.get_exception()
    said, below = transport.disconnect_message, stream.why_ended()
    if state is ConnectionState.LEASED:
        if below is None and isinstance(error, SSHException):
            # Not the network's doing: what has come cannot be taken.
            below = str(error)
        if said:
            sentence = f"Received disconnect from {stream.address} port {settings.port}: {said}"
        elif below:
            sentence = f"Connection to {settings.hostname} closed: {below}"
        else:
            sentence = f"Connection to {settings.hostname} closed by remote host."
        cause = ": ".join(["Connection lost", *filter(None, [said or below])])
        return ConnectionLostError(settings.node, cause, sentence)
    said = said or below
    if state is ConnectionState.AUTHENTICATING:
        ended = error is None or isinstance(error, (EOFError, OSError))
        cause = said or ("Connection closed during authentication" if ended else str(error))
        return authenticator.cut_off(cause)
    phase = "key exchange" if transport.remote_version else "banner exchange"
    # Before the banner paramiko wraps whatever happened in one sentence.
    origin = error.__context__ if error is not None and error.__context__ else error
    transient = False
    if said:
        cause = said
    elif isinstance(origin, ConnectionResetError):
        cause = f"Connection reset during {phase}"
        transient = True
    elif isinstance(error, IncompatiblePeer):
        cause = f"Unable to negotiate: {error}"
    elif origin is None or isinstance(origin, EOFError):
        cause = f"Connection closed during {phase}"
        transient = True
    elif not transport.remote_version:
        cause = "No SSH banner: the peer does not speak SSH"
    else:
        cause = f"Key exchange failed: {error}"
    failure = handshake_error(settings, stream.address, cause)
    failure.transient = transient
    return failure


def handshake_error(settings: ConnectionSettings, address: str, cause: str) -> HandshakeError:
    """A handshake failed."""
    return HandshakeError(settings.node, cause, f"ssh: {address} port {settings.port}: {cause}")


def silence(settings: ConnectionSettings) -> ConnectionLostError:
    """The server does not answer any more."""
    return ConnectionLostError(
        settings.node,
        "Timeout, server not responding",
        f"Timeout, server {settings.hostname} not responding.",
    )
