"""Paths of this host: long ones, and two names of one file."""

from __future__ import annotations

import errno
import ntpath
import os
import unicodedata
import weakref
from typing import NamedTuple, Optional

from ... import platform

# Windows takes paths of 247 characters for a directory and 259 for a file, and longer ones with a
# prefix only. A temporary file's name is about 20 characters longer than the file's.
_LONG = 220
_EXTENDED, _EXTENDED_UNC = "\\\\?\\", "\\\\?\\UNC\\"


def extended(path: str) -> str:
    """Return an absolute path of Windows in a form that may have any length (Microsoft, "Maximum
    Path Length Limitation").
    """
    path = ntpath.normpath(path)
    if path.startswith(_EXTENDED):
        return path
    return _EXTENDED_UNC + path[2:] if path.startswith("\\\\") else _EXTENDED + path


def plain(path: str) -> str:
    """Return a path without the prefix of :func:`extended`, for messages."""
    if path.startswith(_EXTENDED_UNC):
        return "\\\\" + path[len(_EXTENDED_UNC) :]
    return path[len(_EXTENDED) :] if path.startswith(_EXTENDED) else path


def join(directory: str, name: str) -> str:
    """Join a directory and a name; the path can be used at any length."""
    path = os.path.join(directory, name)
    if platform.WINDOWS and len(path) > _LONG:
        return extended(os.path.abspath(path))
    return path


class Placed:
    """The files of a copy in one directory, to notice that two of them have one name on this host.

    File systems take different names for the same one: in upper and lower case (Windows, macOS), in
    other forms of Unicode (macOS), the short names of Windows. No list of rules knows them all, so
    the files themselves are compared.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[int, object], str] = {}

    def clear(self) -> None:
        """Forget all files: they may be replaced."""
        self._names.clear()

    def check(self, place: Place) -> None:
        """Refuse to write to a place where another file of the copy is.

        Raises:
            OSError: there is one; the text names it.
        """
        identity = _identity(place.path)
        other = place.name if identity is None else self._names.get(identity, place.name)
        # A hard link is another name for a file as well, but one that can be replaced alone.
        if other != place.name and not _is_listed(place.path):
            raise OSError(errno.EEXIST, f"its name is that of {other}, which is copied as well")

    def add(self, place: Place) -> None:
        """Take note of the file at a place."""
        identity = _identity(place.path)
        if identity is not None:
            self._names[identity] = place.name


class PlacedTogether:
    """The files of all copies from nodes that run at the same time.

    They are forgotten with the last of these copies: a run may have no end.
    """

    def __init__(self) -> None:
        self._placed: Optional[weakref.ref[Placed]] = None

    def get(self) -> Placed:
        """Return the files, for a copy that holds them while it runs."""
        placed = None if self._placed is None else self._placed()
        if placed is None:
            placed = Placed()
            self._placed = weakref.ref(placed)
        return placed

    def clear(self) -> None:
        """Forget all files: a new run begins."""
        self._placed = None


class Place(NamedTuple):
    """A path of this host that a copy writes to.

    Attributes:
        path: the path.
        name: how errors name the file that is copied to it.
        siblings: the other files of the copy in its directory.
    """

    path: str
    name: str
    siblings: Placed

    def check(self) -> None:
        """Check that no other file of the copy has this name on this host.

        Raises:
            OSError: one has; the text names it.
        """
        self.siblings.check(self)

    def take(self) -> None:
        """Take note that the file is there."""
        self.siblings.add(self)


def _identity(path: str) -> Optional[tuple[int, object]]:
    """Return a value that is equal for two names of one file; None if there is no file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # Some network file systems have no numbers for files.
    return status.st_dev, status.st_ino or unicodedata.normalize("NFKC", path).casefold()


def _is_listed(path: str) -> bool:
    """True if the directory of a path lists exactly this name."""
    directory, name = os.path.split(path)
    try:
        return name in os.listdir(directory or os.curdir)
    except OSError:
        return False
