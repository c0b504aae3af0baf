"""Checks host and user names: a shell or a program may read them, and they come from anywhere.

The rules are those of ssh(1) since OpenSSH 9.6 (``valid_hostname`` and ``valid_ruser`` in ssh.c,
for CVE-2023-51385), and of 10.1 for control characters in user names.
"""

from __future__ import annotations

import re

_IN_HOSTNAME = re.compile(r"""^-|['`"$\\;&<>|(){}\s\x00-\x1f\x7f]""")
_IN_USER = re.compile(r"""^-|['`";&<>|(){}\x00-\x1f\x7f]|\s-|\\$""")

# NI_MAXHOST of the resolver. To compare longer names with all patterns of a file takes long.
_LONGEST_HOSTNAME = 1025


def check_hostname(name: str) -> None:
    """Check the name of a host for use in a command line.

    Raises:
        ValueError: it is too long, begins like an option, or has a character with a meaning to a
            shell.
    """
    if len(name) > _LONGEST_HOSTNAME:
        raise ValueError(
            f"host name {name[:100]!r}... has {len(name)} characters, more than any host has: "
            "correct the name"
        )
    _check("host name", name, _IN_HOSTNAME)


def check_host(name: str) -> None:
    """Check the name of a host that is looked up.

    Raises:
        ValueError: as for :func:`check_hostname`; or it has bytes that are not UTF-8, or characters
            that the resolver replaces.
    """
    check_hostname(name)
    _check_text("host name", name)
    if not name.isascii() and not _is_its_own_host(name):
        raise ValueError(
            f"host name {name[:100]!a} has characters for which another name would be looked up: "
            "write that name"
        )


def _is_its_own_host(name: str) -> bool:
    """True if a name that is not ASCII is looked up as it is written, in upper or lower case.

    Python's resolver changes some characters first (RFC 3491): it leaves out soft hyphens and
    others that cannot be seen, and converts wide letters, digits and dots. ssh(1) finds no such
    host, and the host key would be looked for under the name as it was written.
    """
    from encodings.idna import nameprep  # few names need it, and it loads tables

    try:
        return "\u3002" not in name and nameprep(name) == name.lower()
    except UnicodeError:
        return False


def check_user(name: str) -> None:
    """Check the name of a remote user.

    Unlike a host name, it may contain ``\\``, ``$`` and blanks, as ``DOMAIN\\user`` does.

    Raises:
        ValueError: it begins like an option, has a character with a meaning to a shell, or bytes
            that are not UTF-8.
    """
    _check("user name", name, _IN_USER)
    _check_text("user name", name)


def _check_text(kind: str, name: str) -> None:
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"{kind} {name[:100]!r} has bytes that are not UTF-8: correct the name")


def _check(kind: str, name: str, pattern: re.Pattern[str]) -> None:
    found = pattern.search(name)
    if found is not None:
        if found[0] == "-":
            raise ValueError(f"{kind} {name[:100]!r} begins like an option: correct the name")
        raise ValueError(
            f"{kind} {name[:100]!r} contains {found[0]!r}, which may have a meaning to a shell: "
            "correct the name"
        )
