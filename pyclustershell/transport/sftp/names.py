"""Names: which ones of a server's are safe to write on this host, and how paths are put together.

Pure. A server says what the files of a directory are called, and where links lead. Nothing that it
says may make this host write outside of the destination.
"""

from __future__ import annotations

import posixpath
from typing import Optional

# Names that Windows takes for devices, in any case and with any suffix (Microsoft, "Naming Files,
# Paths, and Namespaces"); the digits 1, 2 and 3 also as superscripts.
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
# What Windows does not have in names: "\\" and ":" would also lead elsewhere, to another directory,
# another drive, or another stream of a file.
_WINDOWS_REFUSED = frozenset('<>:"|?*\\')


def why_unsafe(name: bytes, windows: bool) -> Optional[str]:
    """Why a server's name for a file must not be used on this host; None where it can be.

    Args:
        name: the name.
        windows: whether this host is a Windows host.
    """
    if not name:
        return "it is empty"
    if name in (b".", b".."):
        return "it is another directory"
    if b"/" in name:
        return "it has a '/'"
    if b"\0" in name:
        return "it has a zero byte"
    return _why_unsafe_on_windows(name) if windows else None


def _why_unsafe_on_windows(name: bytes) -> Optional[str]:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "it is no UTF-8, which Windows needs"
    refused = sorted(_WINDOWS_REFUSED.intersection(text))
    if refused:
        return f"it has a {refused[0]!r}, which means something else on Windows"
    if any(character < " " for character in text):
        return "it has a control character, which Windows does not have in names"
    if text[-1] in ". ":
        return "it ends with a dot or a blank, which Windows drops"
    if text.partition(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        return "it is the name of a device on Windows"
    return None


def is_entry(name: bytes) -> bool:
    """Whether a listed name is an entry of the directory: not '.' and not '..'."""
    return name not in (b".", b"..")


def why_link_leads_out(target: bytes, depth: int, windows: bool) -> Optional[str]:
    """Why a symbolic link must not be made on this host; None where it stays in the copied tree.

    Args:
        target: where it leads, as the server says.
        depth: how many directories of the copied tree the link is in; 0 in its top.
        windows: whether this host is a Windows host.
    """
    if target.startswith(b"/"):
        return "it is absolute"
    if b"\0" in target or not target:
        return "it is no path"
    level = depth
    for part in target.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            level -= 1
            if level < 0:
                return "it leads out of what is copied"
            continue
        level += 1
        reason = why_unsafe(part, windows)
        if reason is not None:
            return reason
    return None


def base_name(path: bytes) -> bytes:
    """The last part of a remote path; b'' where it stands for a directory's contents, as '.' does.

    Args:
        path: the path; slashes at its end do not count.
    """
    name = posixpath.basename(path.rstrip(b"/"))
    return b"" if name in (b".", b"..") else name


def join(directory: bytes, name: bytes) -> bytes:
    """A remote path; the directory itself where there is no name."""
    if not name:
        return directory
    if not directory:
        return name
    return directory + name if directory.endswith(b"/") else directory + b"/" + name


def temporary_name(name: bytes, token: str) -> bytes:
    """What a file is called until it is whole: hidden, and not longer than names can be.

    Args:
        name: the name that it will have.
        token: something that no other temporary file has.
    """
    size = min(len(name), 200)
    while size < len(name) and name[size] & 0xC0 == 0x80:
        size -= 1  # not in the middle of a character: not every system takes any bytes
    return b"." + name[:size] + b"." + token.encode() + b".part"
