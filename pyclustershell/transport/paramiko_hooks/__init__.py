"""Every touch of a name that paramiko does not document, with the reason for it.

paramiko's public API for a client blocks the calling thread: opening a channel, asking for a
command, a rekey. Here a call that would block goes on in a callback instead, when the answer has
been read. And paramiko reads in a thread per transport; here whoever has received bytes feeds them
to the transport: the engine, which costs a third less CPU per node than a thread.
Tested against every supported release of paramiko.
"""

from __future__ import annotations

from .auth import ClientAuthHandler, gssapi_obstacle
from .channel import ClientChannel, read_available, write_available
from .then import Then
from .transport import MAX_AGENT_CHANNELS, ClientTransport, Opened

__all__ = [
    "MAX_AGENT_CHANNELS",
    "ClientAuthHandler",
    "ClientChannel",
    "ClientTransport",
    "Opened",
    "Then",
    "gssapi_obstacle",
    "read_available",
    "write_available",
]
