"""Who can change a configuration file on Windows: whoever can, has this user's rights through it.

On POSIX, the directories of the system belong to root. On Windows, any user may make a directory in
``C:\\`` or in ``%PROGRAMDATA%``. So the files themselves are looked at, as OpenSSH for Windows
does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Optional

from . import platform

# Well-known identifiers of accounts (Microsoft, "Security Identifiers"): the system, the group of
# the administrators, the installer of Windows itself, and the owner of a file, whoever that is.
_TRUSTED = frozenset(
    {
        "S-1-5-18",
        "S-1-5-32-544",
        "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
        "S-1-3-4",
    }
)

# The rights to write or append data, to delete, to change the rights or the owner; and those that
# stand for several of these (winnt.h).
_CHANGES = 0x0002 | 0x0004 | 0x00010000 | 0x00040000 | 0x00080000 | 0x40000000 | 0x10000000


def judge(user: str, owner: str, grants: Optional[Iterable[tuple[str, int]]]) -> Optional[str]:
    """Say why a file must not be trusted; None if only this user and administrators can change it.

    Args:
        user: the identifier of this user, S-1-...
        owner: the identifier of the file's owner.
        grants: the accounts of its list, each with a mask of its rights; None if it has no list:
            then every user has all rights.
    """
    trusted = _TRUSTED | {user}
    if owner not in trusted:
        return f"it belongs to another user ({owner})"
    if grants is None:
        return "every user can change it"
    for account, rights in grants:
        if rights & _CHANGES and account not in trusted:
            return f"another user can change it ({account})"
    return None


def why_untrusted(path: str) -> Optional[str]:
    """Say why a file must not be trusted on Windows; None if it may, and on other systems.

    Raises:
        OSError: its owner and rights cannot be read.
    """
    if not platform.WINDOWS:
        return None
    from .winsecurity import current_user, security_of

    return judge(current_user(), *security_of(path))


def program_data() -> str:
    """Return Windows' directory for the data of all users."""
    return os.environ.get("PROGRAMDATA", "C:\\ProgramData")


def why_refused(path: str) -> Optional[str]:
    """Say why a file of the system's configuration must not be read; None if it may.

    These are the files in %PROGRAMDATA%, where any user may make files. They name commands to run
    and hosts to trust.

    Args:
        path: the path of any configuration file. Other directories, and files that do not exist,
            are not looked at.
    """
    if not platform.WINDOWS:
        return None
    directory = os.path.join(os.path.normcase(os.path.abspath(program_data())), "")
    below = os.path.normcase(os.path.abspath(path)).startswith(directory)
    if not below or not os.path.lexists(path):
        return None
    try:
        return why_untrusted(path)
    except OSError as error:
        return f"its owner and rights cannot be read ({error.strerror})"
