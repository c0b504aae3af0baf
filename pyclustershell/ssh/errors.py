"""Why a connection could not be made or was lost, in the words of the ssh program."""

from __future__ import annotations

from paramiko.ssh_exception import IncompatiblePeer

from ..engine.socketerrors import RESETS
from ..exceptions import ConnectionLostError, HandshakeError, NodeError
from .auth.authenticator import Authenticator
from .config.settings import ConnectionSettings
from .protocol import ClientTransport
from .protocol.bytestream import ByteStream


def connection_lost(
    settings: ConnectionSettings, transport: ClientTransport, stream: ByteStream
) -> NodeError:
    """Explain why a transport ended after the login.

    Args:
        settings: the connection's settings.
        transport: the transport that has ended.
        stream: the stream under it.
    """
    error = transport.get_exception()
    if isinstance(error, NodeError):
        return error  # such as the host key of a later key exchange
    message, below = transport.disconnect_message, stream.why_ended()
    if below is None and isinstance(error, OSError) and not isinstance(error, RESETS):
        below = error.strerror or str(error)
    elif below is None and error is not None and transport.is_violated:
        # Not the network's fault: the bytes that arrived are not valid.
        below = str(error)
    if message:
        sentence = f"Received disconnect from {stream.address} port {settings.port}: {message}"
    elif below:
        sentence = f"Connection to {settings.hostname} closed: {below}"
    else:
        sentence = f"Connection to {settings.hostname} closed by remote host."
    cause = ": ".join(["Connection lost", *filter(None, [message or below])])
    return ConnectionLostError(settings.node, cause, sentence)


def authentication_ended(
    transport: ClientTransport, stream: ByteStream, authenticator: Authenticator
) -> NodeError:
    """Explain why a transport ended during authentication.

    Args:
        transport: the transport that has ended.
        stream: the stream under it.
        authenticator: knows the attempts that were made.
    """
    error = transport.get_exception()
    if isinstance(error, NodeError):
        return error  # such as the host key of a later key exchange
    cause = transport.disconnect_message or stream.why_ended()
    if not cause:
        if error is None or isinstance(error, (EOFError, *RESETS)):
            cause = "Connection closed during authentication"
        elif isinstance(error, OSError):
            cause = f"{error.strerror or error} during authentication"
        else:
            cause = str(error)
    return authenticator.disconnection(cause)


def handshake_ended(
    settings: ConnectionSettings, transport: ClientTransport, stream: ByteStream
) -> HandshakeError:
    """Explain why a transport ended before authentication.

    ``transient`` is set on the error if another attempt is worth it.

    Args:
        settings: the connection's settings.
        transport: the transport that has ended.
        stream: the stream under it.
    """
    error = transport.get_exception()
    phase = "key exchange" if transport.remote_version else "banner exchange"
    # Before the banner paramiko wraps every error in one sentence.
    origin = error.__context__ if error is not None and error.__context__ else error
    transient = False
    message = transport.disconnect_message or stream.why_ended()
    if message:
        cause = message
    elif isinstance(origin, RESETS):
        cause = f"Connection reset during {phase}"
        transient = True
    elif isinstance(origin, OSError):
        cause = f"{origin.strerror or origin} during {phase}"
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
    """Return the error of a handshake that failed."""
    return HandshakeError(settings.node, cause, f"ssh: {address} port {settings.port}: {cause}")


def peer_silent(settings: ConnectionSettings) -> NodeError:
    """Return the error of a server that does not answer any more."""
    return ConnectionLostError(
        settings.node,
        "Timeout, server not responding",
        f"Timeout, server {settings.hostname} not responding.",
    )
