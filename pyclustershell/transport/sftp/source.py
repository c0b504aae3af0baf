"""What is copied from this host: scanned once and read once, however many nodes get it."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Optional

# How much of the files is kept for the nodes that have not come to it yet. A node that lags behind
# further than this has it read again, mostly from the system's own cache.
_KEPT = 8 << 20

# How many files are kept open.
_OPEN_FILES = 32

# Windows translates line ends otherwise; and what has become a pipe since must not be waited for.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Kind(Enum):
    """What an entry of a source is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    REFUSED = "refused"


class Entry(NamedTuple):
    """Something to be copied.

    Attributes:
        kind: what it is.
        local: its path on this host.
        relative: its path below what is copied, with '/'; b'' for what is copied itself.
        size: in bytes.
        mode: the permissions, with type.
        atime: in seconds.
        mtime: in seconds.
        target: where a link leads, or why this cannot be copied.
        version: what tells whether the file has changed since: device, inode, time and size.
    """

    kind: Kind
    local: str
    relative: bytes
    size: int = 0
    mode: int = 0
    atime: int = 0
    mtime: int = 0
    target: bytes = b""
    version: tuple[int, int, int, int] = (0, 0, 0, 0)


class SourceError(Exception):
    """Something of the source cannot be read; the text says what."""


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _told(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()


class Source:
    """A file or a directory of this host, for any number of nodes.

    The first node that needs an entry or a block has it looked up or read; the others get the same.
    Reading a local file can make the engine wait for the disk: no system can do that otherwise
    without threads.

    Args:
        path: the file or directory.
        follow: whether symbolic links are followed; if not, they are copied as links. What is
            named itself is followed in any case, as scp has it.
    """

    def __init__(self, path: str, follow: bool = True) -> None:
        self.path = path
        self._follow = follow
        self._entries: list[Entry] = []
        self._scan: Optional[Iterator[Entry]] = None
        self._blocks: OrderedDict[tuple[str, int, int], memoryview] = OrderedDict()
        self._kept = 0
        self._files: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Source {self.path!r}: {len(self._entries)} entries, {self._kept} bytes kept>"

    # -- what there is --

    def entry(self, index: int) -> Optional[Entry]:
        """The index-th entry, directories before what is in them; None where there are no more."""
        if self._scan is None:
            self._scan = self._scan_all()
        while len(self._entries) <= index:
            found = next(self._scan, None)
            if found is None:
                return None
            self._entries.append(found)
        return self._entries[index]

    def _scan_all(self) -> Iterator[Entry]:
        yield from self._look(self.path, b"", ())

    def _look(
        self, path: str, relative: bytes, above: tuple[tuple[int, int], ...]
    ) -> Iterator[Entry]:
        """What is at a path, and below it.

        Args:
            path: the path.
            relative: the same, counted from what is copied.
            above: device and inode of the directories above, to notice links that lead back.
        """
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not self._follow and relative:
                    target = os.fsencode(os.readlink(path))
                    yield Entry(Kind.LINK, path, relative, target=target)
                    return
                status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in above and status.st_ino:
                    yield Entry(
                        Kind.REFUSED,
                        path,
                        relative,
                        target=b"the link leads back to a directory that it is in",
                    )
                    return
                # Listed before it is told: a directory that cannot be read is not made either.
                names = sorted(os.listdir(path), key=os.fsencode)
                yield self._entry(Kind.DIRECTORY, path, relative, status)
            elif stat.S_ISREG(status.st_mode):
                yield self._entry(Kind.FILE, path, relative, status)
                return
            else:
                yield Entry(Kind.REFUSED, path, relative, target=b"not a regular file")
                return
        except OSError as error:
            yield Entry(Kind.REFUSED, path, relative, target=_told(error))
            return
        for name in names:
            below = os.fsencode(name)
            yield from self._look(
                os.path.join(path, name),
                relative + b"/" + below if relative else below,
                (*above, identity),
            )

    @staticmethod
    def _entry(kind: Kind, path: str, relative: bytes, status: os.stat_result) -> Entry:
        return Entry(
            kind,
            path,
            relative,
            status.st_size,
            status.st_mode,
            int(status.st_atime),
            int(status.st_mtime),
            version=_version(status),
        )

    # -- what is in it --

    def block(self, entry: Entry, offset: int, size: int) -> memoryview:
        """Bytes of a file.

        Args:
            entry: the file.
            offset: where they begin.
            size: how many; never more than the file had when it was scanned.

        Raises:
            SourceError: it cannot be read, or has changed since it was scanned.
        """
        key = (entry.local, offset, size)
        kept = self._blocks.get(key)
        if kept is None:
            kept = self._blocks[key] = memoryview(self._read(entry, offset, size))
            self._kept += size
            while self._kept > _KEPT and len(self._blocks) > 1:
                _, oldest = self._blocks.popitem(last=False)
                self._kept -= len(oldest)
        return kept

    def _read(self, entry: Entry, offset: int, size: int) -> bytes:
        try:
            descriptor = self._open(entry)
            if hasattr(os, "pread"):
                data = os.pread(descriptor, size, offset)
            else:
                os.lseek(descriptor, offset, os.SEEK_SET)
                data = os.read(descriptor, size)
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error
        if len(data) != size:
            raise SourceError("it became shorter while it was copied")
        return data

    def _open(self, entry: Entry) -> int:
        descriptor = self._files.get(entry.local)
        if descriptor is not None:
            self._files.move_to_end(entry.local)
            return descriptor
        descriptor = os.open(entry.local, _FLAGS)
        if _version(os.fstat(descriptor)) != entry.version:
            os.close(descriptor)
            raise SourceError("it was changed while it was copied")
        self._files[entry.local] = descriptor
        while len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    # -- the end --

    def close(self) -> None:
        """Keep nothing any more: all nodes have it. It can be used again."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._blocks.clear()
        self._kept = 0
