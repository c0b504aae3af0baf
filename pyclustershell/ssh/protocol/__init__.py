"""Every use of a name that paramiko does not document, with the reason for it.

paramiko's public API for a client blocks the calling thread: to open a channel, to request a
command, to exchange new keys. Here a callback is called instead when the answer has been read. And
paramiko reads in one thread per transport; here the engine reads, and feeds the bytes to the
transport, which costs a third less CPU per node than a thread.
Tested against every supported release of paramiko.
"""

from __future__ import annotations

from .paramikonames import check_paramiko

# First of all: the modules below use names that another release may not have.
check_paramiko()

from .callbackevent import CallbackEvent  # noqa: E402 see above
from .channel import ClientChannel, read_available, write_available  # noqa: E402 see above
from .transport import MAX_AGENT_CHANNELS, ClientTransport, Opened  # noqa: E402 see above
from .userauth import ClientAuthHandler, gssapi_obstacle  # noqa: E402 see above

__all__ = [
    "MAX_AGENT_CHANNELS",
    "CallbackEvent",
    "ClientAuthHandler",
    "ClientChannel",
    "ClientTransport",
    "Opened",
    "gssapi_obstacle",
    "read_available",
    "write_available",
]
