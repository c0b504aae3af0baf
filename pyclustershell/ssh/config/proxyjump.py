"""Parses lists of jump hosts: ``ProxyJump`` in ssh_config(5), ``-J`` in ssh(1)."""

from __future__ import annotations

from .destination import Destination, parse_destination

#: One jump host as it was written.
Hop = Destination


def parse_chain(text: str) -> tuple[Hop, ...]:
    """Parse a chain of jump hosts, in the order in which a connection passes them.

    Args:
        text: ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``, several separated by commas;
            'none' for none.

    Raises:
        ValueError: the text has another form.
    """
    if text.strip().lower() == "none":
        return ()
    return tuple(_parse_hop(part.strip()) for part in text.split(","))


def _parse_hop(text: str) -> Hop:
    try:
        return parse_destination(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a jump host: write [user@]host[:port], or 'none'"
        ) from None
