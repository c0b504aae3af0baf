"""Names and paths: checks of a server's names before they are used on this host. Pure.

A server names the files of a directory and the targets of links. None of them may make this host
write outside of the destination.
"""

from __future__ import annotations

import posixpath
from typing import Optional

# Names that are devices on Windows, in upper or lower case and with any suffix (Microsoft, "Naming
# Files, Paths, and Namespaces"); the digits 1, 2 and 3 also as superscripts.
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
# Characters that names on Windows cannot have. "\\" and ":" would also lead to another directory,
# another drive, or another stream of a file.
_WINDOWS_REFUSED = frozenset('<>:"|?*\\')


def why_unsafe(name: bytes, windows: bool) -> Optional[str]:
    """Say why a server's name for a file must not be used on this host; None if it may.

    Args:
        name: the name.
        windows: True if this host is a Windows host.
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
        return (
            f"it ends with a dot or a blank, which Windows drops: it would be {text.rstrip('. ')!r}"
        )
    if text.partition(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        return "it is the name of a device on Windows"
    return None


def is_entry(name: bytes) -> bool:
    """True if a listed name is an entry of the directory: not '.' and not '..'."""
    return name not in (b".", b"..")


def why_link_leads_out(target: bytes, depth: int, windows: bool) -> Optional[str]:
    """Say why the text of a symbolic link must not be used on this host; None if it may.

    Another link on its way can still lead out: see :func:`.localfile.why_link_leads_out`.

    Args:
        target: its target, from the server.
        depth: in how many directories of the copied tree the link is; 0 at its top.
        windows: True if this host is a Windows host.
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
                return "it leads out of the copied directory"
            continue
        level += 1
        reason = why_unsafe(part, windows)
        if reason is not None:
            return reason
    return None


def local_target(target: str, windows: bool) -> str:
    """Return the target of a link in the form of this host; it has '/' on nodes."""
    return target.replace("/", "\\") if windows else target


def remote_target(target: str, windows: bool) -> str:
    """Return the target of a link of this host in the form of nodes, with '/'."""
    if not windows:
        return target
    # Windows reports absolute targets with a prefix.
    return target.removeprefix("\\\\?\\").replace("\\", "/")


def base_name(path: bytes) -> bytes:
    """Return the last part of a remote path; b'' if that is '.' or '..'.

    Args:
        path: the path; slashes at its end are ignored.
    """
    name = posixpath.basename(path.rstrip(b"/"))
    return b"" if name in (b".", b"..") else name


def join(directory: bytes, name: bytes) -> bytes:
    """Join a remote directory and a name; the directory itself if the name is empty."""
    if not name:
        return directory
    if not directory:
        return name
    return directory + name if directory.endswith(b"/") else directory + b"/" + name


def temporary_name(name: bytes, token: str, suffix: bytes = b".part") -> bytes:
    """Return the name of a temporary file: hidden, and not too long for file systems.

    Args:
        name: the name of the complete file.
        token: a string that no other temporary file has.
        suffix: the end of the name; ``.part`` means that the file is incomplete.
    """
    size = min(len(name), 200)
    while size < len(name) and name[size] & 0xC0 == 0x80:
        size -= 1  # not inside of a character: some systems accept only valid UTF-8
    return b"." + name[:size] + b"." + token.encode() + suffix


def temporary_path(path: bytes, token: str, suffix: bytes = b".part") -> bytes:
    """Return the remote path of a temporary file in the directory of a file.

    Args:
        path: the path of the complete file.
        token: a string that no other temporary file has.
        suffix: see :func:`temporary_name`.
    """
    directory, slash, name = path.rpartition(b"/")
    return directory + slash + temporary_name(name, token, suffix)
