"""Jump hosts as they are written: ``ProxyJump`` in ssh_config(5), ``-J`` in ssh(1)."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address
from typing import NamedTuple, Optional

# [user@]host[:port], perhaps as a URI; an IPv6 address in brackets where a port follows. As with
# ssh, the last '@' counts: a user's name may hold one.
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<address>[^\[\]@]+)\]|(?P<host>[^\[\]@:/]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


class Hop(NamedTuple):
    """One jump host as it was written; None for what was not said."""

    host: str
    user: Optional[str] = None
    port: Optional[int] = None


def parse_chain(text: str) -> tuple[Hop, ...]:
    """Read jump hosts that are passed one after the other, the first one first.

    Args:
        text: ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``, several separated by commas;
            'none' for none.

    Raises:
        ValueError: it is not that.
    """
    if text.strip().lower() == "none":
        return ()
    return tuple(_parse_hop(part.strip()) for part in text.split(","))


def _parse_hop(text: str) -> Hop:
    user, _at, address = text.rpartition("@")
    with suppress(ValueError):
        IPv6Address(address)
        return Hop(address, user or None)
    found = _HOP.fullmatch(text)
    port = int(found["port"]) if found is not None and found["port"] else None
    host = found and (found["host"] or found["address"])
    if found is None or not host or (port is not None and not 0 < port < 65536):
        raise ValueError(f"{text!r} is no jump host: write [user@]host[:port], or 'none'")
    if host.startswith("-") or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is no jump host: write [user@]host[:port], or 'none'")
    return Hop(host, found["user"], port)
