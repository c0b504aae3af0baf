"""The destination that a node's name gives: ``[user@]host[:port]``, as ssh takes it."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address
from typing import NamedTuple, Optional
from urllib.parse import unquote

_URI = "ssh://"

# An IPv6 address stands in brackets if a port follows. As in OpenSSH, the last '@' ends the user's
# name, which may itself contain one.
_DESTINATION = re.compile(
    r"(?:(?P<user>.+)@)?(?:\[(?P<address>[^\[\]@]+)\]|(?P<host>[^\[\]@:/]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class Destination(NamedTuple):
    """A host as it was written; None for a part that was not given."""

    host: str
    user: Optional[str] = None
    port: Optional[int] = None


def parse_destination(text: str) -> Destination:
    """Parse ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``.

    An IPv6 address stands in brackets if a port follows; without a port, the brackets may be left
    out.

    Raises:
        ValueError: the text has another form.
    """
    rest = text
    if text.startswith(_URI):
        rest = text[len(_URI) :]
        if rest.endswith("/"):
            rest = rest[:-1]
    user, _at, address = rest.rpartition("@")
    with suppress(ValueError):
        IPv6Address(address)
        return Destination(address, user or None)
    found = _DESTINATION.fullmatch(rest)
    if found is None or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is not a destination: write [user@]host[:port]")
    host = found["host"] or found["address"]
    port = int(found["port"]) if found["port"] else None
    if host.startswith("-"):
        raise ValueError(f"{text!r} is not a destination: a host's name does not begin with '-'")
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text!r} is not a destination: a port is a number from 1 to 65535")
    user = found["user"]
    # Only URIs are percent-encoded (RFC 3986, 2.1).
    return Destination(host, unquote(user) if user and rest is not text else user, port)


def destination_of(node: str) -> Destination:
    """Return the destination that the name of a node gives.

    Raises:
        ValueError: the name has an '@', ':' or '[', and is not a destination.
    """
    # Most names are only a host, and need no parsing.
    if "@" in node or ":" in node or "[" in node:
        return parse_destination(node)
    return Destination(node)


def host_of(node: str) -> str:
    """Return the host of ``user@host:port``; the name itself if it has another form."""
    try:
        return destination_of(node).host
    except ValueError:
        return node  # an error of this node when its settings are made
