"""A node's files: the requests of SFTP as methods, and what makes up for the server's gaps."""

from __future__ import annotations

import posixpath
from collections import deque
from typing import Callable, NamedTuple, Optional

from ...exceptions import CopyError, SFTPProtocolError
from . import codec
from .codec import Attributes, Name, string, uint32, uint64
from .flow import Pending
from .session import SftpSession

# How many bytes one request may read or write where the server does not tell: what every server has
# to take (filexfer-02, 3: packets of 34,000 bytes).
_PLAIN_SIZE = 32 << 10

# What OpenSSH allows, and the most that is used: more would only wait in queues.
_LARGEST_SIZE = 255 << 10

# How many bytes one session may have asked for that have not come (a gigabit over 20 ms is 2.5 MB),
# and how many all sessions of a run together: that is what may wait in memory for this host's disk.
_READ_AHEAD = 2 << 20
_READ_AHEAD_OF_ALL = 24 << 20

# How many requests to write may wait for their replies.
_WRITE_AHEAD = 16

_LIMITS = b"limits@openssh.com"
_POSIX_RENAME = b"posix-rename@openssh.com"
_FSYNC = b"fsync@openssh.com"
_STATVFS = b"statvfs@openssh.com"
_EXPAND_PATH = b"expand-path@openssh.com"


class FreeSpace(NamedTuple):
    """What statvfs@openssh.com tells of a file system: bytes and files that may still be made."""

    size: int
    files: int


class RemoteFiles:
    """The files of one node, over one session. Every method makes requests at once.

    Awaiting what a method returns gives the reply, or raises CopyError. Paths are bytes; relative
    ones begin in the user's home directory.

    Args:
        session: the session.

    Attributes:
        read_size: how many bytes one request reads at the most.
        write_size: how many bytes one request writes at the most.
    """

    def __init__(self, session: SftpSession) -> None:
        self.session = session
        self.read_size = _PLAIN_SIZE
        self.write_size = _PLAIN_SIZE
        self._reading = 0

    def offers(self, extension: bytes) -> bool:
        """Whether the server knows an extension."""
        return extension in self.session.extensions

    async def learn_limits(self) -> None:
        """Ask the server how large requests may be (limits@openssh.com), where it can tell."""
        if not self.offers(_LIMITS):
            return
        reply: bytes = await self.session.ask(
            codec.EXTENDED, string(_LIMITS), codec.Extended, b"limits"
        )
        if len(reply) < 32:
            raise SFTPProtocolError(
                self.session.settings.node, "The server's limits@openssh.com cannot be read"
            )
        fields = codec.Fields(reply)
        fields.uint64()  # of packets: implied
        # 0 is "no limit".
        self.read_size = min(fields.uint64() or _LARGEST_SIZE, _LARGEST_SIZE)
        self.write_size = min(fields.uint64() or _LARGEST_SIZE, _LARGEST_SIZE)

    # -- paths --

    async def expand(self, path: bytes) -> bytes:
        """A path without ``~``; b'.' for the home directory."""
        if not path.startswith(b"~"):
            return path or b"."
        user, _, rest = path[1:].partition(b"/")
        if not user:
            return rest or b"."
        if not self.offers(_EXPAND_PATH):
            raise self.session.error(
                path,
                "the server cannot tell another user's home directory "
                "(expand-path@openssh.com, OpenSSH 8.7): write the path in full",
            )
        names: list[Name] = await self.session.ask(
            codec.EXTENDED, string(_EXPAND_PATH) + string(path), codec.Names, path
        )
        return self._single(names, path)

    async def realpath(self, path: bytes) -> bytes:
        """The absolute path, links resolved."""
        return self._single(
            await self.session.ask(codec.REALPATH, string(path), codec.Names, path), path
        )

    async def readlink(self, path: bytes) -> bytes:
        """Where a link leads to."""
        return self._single(
            await self.session.ask(codec.READLINK, string(path), codec.Names, path), path
        )

    def _single(self, names: list[Name], path: bytes) -> bytes:
        if len(names) != 1:
            raise self.session.error(path, f"the server names {len(names)} paths in place of one")
        return names[0].filename

    # -- attributes --

    def stat(self, path: bytes) -> Pending[Attributes]:
        """The attributes of what a path leads to."""
        return self.session.ask(codec.STAT, string(path), Attributes, path)

    def lstat(self, path: bytes) -> Pending[Attributes]:
        """The attributes of a path, links not followed."""
        return self.session.ask(codec.LSTAT, string(path), Attributes, path)

    def fstat(self, handle: bytes, path: bytes) -> Pending[Attributes]:
        """The attributes of an open file."""
        return self.session.ask(codec.FSTAT, string(handle), Attributes, path)

    def setstat(self, path: bytes, attributes: Attributes) -> Pending[None]:
        """Change attributes."""
        return self.session.ask(
            codec.SETSTAT, string(path) + attributes.encode(), codec.Status, path
        )

    def fsetstat(self, handle: bytes, attributes: Attributes, path: bytes) -> Pending[None]:
        """Change attributes of an open file."""
        return self.session.ask(
            codec.FSETSTAT, string(handle) + attributes.encode(), codec.Status, path
        )

    # -- files --

    def open(
        self,
        path: bytes,
        flags: int,
        attributes: Attributes = codec.NO_ATTRIBUTES,
        about: bytes = b"",
    ) -> Pending[bytes]:
        """Open a file; gives its handle. ``about`` is what errors name in the place of its path."""
        fields = string(path) + uint32(flags) + attributes.encode()
        return self.session.ask(codec.OPEN, fields, codec.Handle, about or path)

    def close(self, handle: bytes, path: bytes) -> Pending[None]:
        """Close a file or a directory."""
        return self.session.ask(codec.CLOSE, string(handle), codec.Status, path)

    def write(self, handle: bytes, offset: int, data: memoryview, path: bytes) -> Pending[None]:
        """Write a block, which must not change until it has been sent."""
        fields = string(handle) + uint64(offset) + uint32(len(data))
        return self.session.ask(codec.WRITE, fields, codec.Status, path, data)

    def read(
        self,
        handle: bytes,
        offset: int,
        size: int,
        sink: Callable[[int, memoryview], object],
        path: bytes,
    ) -> Pending[int]:
        """Read a block; gives how many bytes came, 0 at the end of the file.

        Args:
            handle: the file's.
            offset: where to begin.
            size: how many bytes to ask for.
            sink: called with the offset in the file and the data, piece by piece.
            path: the file's, for errors.
        """
        fields = string(handle) + uint64(offset) + uint32(size)
        return self.session.ask_for_data(
            fields, path, size, lambda start, data: sink(offset + start, data)
        )

    async def read_all(
        self,
        handle: bytes,
        offset: int,
        end: int,
        sink: Callable[[int, memoryview], object],
        path: bytes,
    ) -> int:
        """Read a file from ``offset`` to ``end``, with several requests on their way at once.

        Returns:
            Where it ended: ``end``, or before where the file is shorter.
        """
        asked: deque[tuple[int, int, Pending[int]]] = deque()
        ahead = min(_READ_AHEAD, _READ_AHEAD_OF_ALL // self.session.sessions_at_once)
        most = min(self.read_size, max(_PLAIN_SIZE, ahead // 2))
        limit = end
        over = False

        def take(start: int, data: memoryview) -> None:
            # What was asked for may still come when something has failed, and nobody wants it.
            if not over:
                sink(start, data)

        try:
            while asked or offset < limit:
                while offset < limit and (not asked or self._reading < ahead):
                    size = min(most, limit - offset)
                    asked.append((offset, size, self.read(handle, offset, size, take, path)))
                    self._reading += size
                    offset += size
                start, size, reply = asked.popleft()
                self._reading -= size
                got = await reply
                if got == 0:
                    limit = min(limit, start)
                elif got < size and start + got < limit:
                    # Servers may send less than was asked for: ask for the rest.
                    start, size = start + got, size - got
                    asked.appendleft((start, size, self.read(handle, start, size, take, path)))
                    self._reading += size
        finally:
            over = True
            self._reading -= sum(size for _, size, _ in asked)
        return limit

    async def write_all(
        self,
        handle: bytes,
        size: int,
        block: Callable[[int, int], memoryview],
        path: bytes,
    ) -> None:
        """Write a file of ``size`` bytes, with several requests on their way at once.

        Args:
            handle: the file's.
            size: its size, in bytes.
            block: gives the bytes from an offset on, as many as are asked for.
            path: the file's, for errors.

        Raises:
            CopyError: the server could not write, or ``block`` raised.
        """
        session = self.session
        asked: deque[tuple[int, Pending[None]]] = deque()
        offset = 0
        while offset < size or asked:
            if offset < size and len(asked) < _WRITE_AHEAD:
                await session.room()
                data = block(offset, min(self.write_size, size - offset))
                asked.append((len(data), self.write(handle, offset, data, path)))
                offset += len(data)
            while asked and (asked[0][1].done or offset >= size or len(asked) >= _WRITE_AHEAD):
                written, reply = asked.popleft()
                await reply
                session.copied += written

    async def fsync(self, handle: bytes, path: bytes) -> None:
        """Have a file put on its disk (fsync@openssh.com), where the server can."""
        if self.offers(_FSYNC):
            await self.session.ask(
                codec.EXTENDED, string(_FSYNC) + string(handle), codec.Status, path
            )

    async def replace(self, old: bytes, new: bytes) -> None:
        """Rename a file over another one, at once where the server can (posix-rename@openssh.com).

        The protocol's own RENAME refuses an existing target. Then that is removed first: for a
        moment there is neither the old file nor the new one.
        """
        both = string(old) + string(new)
        ask = self.session.ask
        if self.offers(_POSIX_RENAME):
            await ask(codec.EXTENDED, string(_POSIX_RENAME) + both, codec.Status, new)
            self.session.temporaries.discard(old)
            return
        try:
            await ask(codec.RENAME, both, codec.Status, new)
        except CopyError as error:
            if error.status not in (codec.FAILURE, codec.PERMISSION_DENIED):
                raise
            # Whatever happens from here on, the new file is all that is left: nobody may remove it.
            self.session.temporaries.discard(old)
            removal = self.remove(new)
            renaming = ask(codec.RENAME, both, codec.Status, new)
            await removal
            await renaming
        self.session.temporaries.discard(old)

    def remove(self, path: bytes) -> Pending[None]:
        """Remove a file or a link."""
        return self.session.ask(codec.REMOVE, string(path), codec.Status, path)

    # -- directories and links --

    def mkdir(self, path: bytes, attributes: Attributes) -> Pending[None]:
        """Make a directory."""
        return self.session.ask(codec.MKDIR, string(path) + attributes.encode(), codec.Status, path)

    def opendir(self, path: bytes) -> Pending[bytes]:
        """Open a directory; gives its handle."""
        return self.session.ask(codec.OPENDIR, string(path), codec.Handle, path)

    def readdir(self, handle: bytes, path: bytes) -> Pending[list[Name]]:
        """The next entries of a directory; none at its end."""
        return self.session.ask(codec.READDIR, string(handle), codec.Names, path)

    def symlink(self, target: bytes, path: bytes, about: bytes) -> Pending[None]:
        """Make a link; errors name ``about``.

        OpenSSH has the two arguments the other way round than filexfer-02 (see its PROTOCOL, 4.1),
        and every other server followed it.
        """
        return self.session.ask(codec.SYMLINK, string(target) + string(path), codec.Status, about)

    # -- file systems --

    async def free_space(self, path: bytes) -> Optional[FreeSpace]:
        """What is left of a directory's file system (statvfs@openssh.com); None if unknown."""
        if not self.offers(_STATVFS):
            return None
        try:
            reply: bytes = await self.session.ask(
                codec.EXTENDED,
                string(_STATVFS) + string(posixpath.dirname(path) or b"."),
                codec.Extended,
                path,
            )
        except CopyError:
            return None
        if len(reply) < 11 * 8:
            return None
        fields = codec.Fields(reply)
        _, fragment, _, _, available, _, _, files, *_ = [fields.uint64() for _ in range(11)]
        return FreeSpace(fragment * available, files)
