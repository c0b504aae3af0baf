"""A node's files: SFTP's requests as methods, and substitutes for requests that a server lacks."""

from __future__ import annotations

import posixpath
import stat
from collections import deque
from contextlib import suppress
from secrets import token_hex
from typing import Callable, NamedTuple, Optional

from ...exceptions import CopyError, SFTPProtocolError
from ...printable import printable_line
from ..protocol.fields import ssh_string
from . import codec, names
from .codec import Attributes, Name, uint32, uint64
from .coroutines import Future
from .sftpsession import SftpSession

# How many bytes one request may read or write if the server states no limit: every server must
# accept packets of 34,000 bytes (filexfer-02, 3).
_PLAIN_SIZE = 32 << 10

# OpenSSH's limit, and the most that is used here: larger requests would only wait in queues.
_LARGEST_SIZE = 255 << 10

# How many bytes one session may have requested that have not come (a gigabit over 20 ms is 2.5 MB),
# and how many all sessions of a run together: they may wait in memory for this host's disk.
_READ_AHEAD = 2 << 20
_READ_AHEAD_OF_ALL = 24 << 20

# How many bytes the first request beyond a file's stated size reads. Mostly there is nothing; if
# there is something, each further request is twice as large.
_FIRST_BEYOND = 4 << 10

# How many requests to write may wait for their replies.
_WRITE_AHEAD = 16

# Statuses of a request that the server does not serve. OpenSSH sends the first for the requests
# that its option -P denies.
DENIALS = (codec.PERMISSION_DENIED, codec.OP_UNSUPPORTED)

_LIMITS = b"limits@openssh.com"
_POSIX_RENAME = b"posix-rename@openssh.com"
_FSYNC = b"fsync@openssh.com"
_STATVFS = b"statvfs@openssh.com"
_EXPAND_PATH = b"expand-path@openssh.com"


class FileSystem(NamedTuple):
    """What statvfs@openssh.com says of a file system.

    Attributes:
        blocks: its size in blocks; 0 for /proc, /sys and others that compute their files.
        free: how many bytes it has room for.
        free_files: how many files it has room for.
    """

    blocks: int
    free: int
    free_files: int


class RemoteFiles:
    """The files of one node, over one session. Every method makes its requests at once.

    Await a method's result for the reply; that raises CopyError on a failure. Paths are bytes;
    relative paths begin in the user's home directory.

    Args:
        session: the session.

    Attributes:
        read_size: how many bytes one request may read.
        write_size: how many bytes one request may write.
        renames: False if the server permits no rename at all, see :meth:`learn_renames`.
        replaces: False if no file can be renamed over another one.
    """

    def __init__(self, session: SftpSession) -> None:
        self.session = session
        self.read_size = _PLAIN_SIZE
        self.write_size = _PLAIN_SIZE
        self.renames = True
        self.replaces = True
        self._reading = 0

    def offers(self, extension: bytes) -> bool:
        """True if the server knows an extension."""
        return extension in self.session.extensions

    async def learn_limits(self) -> None:
        """Ask the server for its limits on requests, if it has limits@openssh.com."""
        if not self.offers(_LIMITS):
            return
        try:
            reply: bytes = await self.session.ask(
                codec.EXTENDED, ssh_string(_LIMITS), codec.Extended, b"limits"
            )
        except CopyError:
            return  # a server may deny requests that it announced
        if len(reply) < 32:
            raise SFTPProtocolError(
                self.session.settings.node, "The server's limits@openssh.com cannot be read"
            )
        fields = codec.ReplyFields(reply)
        fields.uint64()  # the size of packets, which the other limits imply
        # 0 is "no limit".
        self.read_size = min(fields.uint64() or _LARGEST_SIZE, _LARGEST_SIZE)
        self.write_size = min(fields.uint64() or _LARGEST_SIZE, _LARGEST_SIZE)

    async def learn_renames(self, path: bytes) -> None:
        """Find out whether the server permits renames, before a temporary file is written.

        OpenSSH's server can deny single requests (``-P`` in sftp-server(8)), and gateways to object
        stores have no rename. A temporary file would then be written in vain; without REMOVE it
        would stay. The test is to rename and to remove a file that does not exist.

        Args:
            path: the destination of the copy: the test uses a name beside it.
        """
        if self.offers(_POSIX_RENAME):
            return
        nothing = names.temporary_path(path.rstrip(b"/"), token_hex(6))
        nowhere = names.temporary_path(path.rstrip(b"/"), token_hex(6))
        renaming = self._rename(nothing, nowhere)
        removal = self.remove(nothing)
        self.renames = not await _is_denied(renaming)
        self.replaces = not await _is_denied(removal) and self.renames

    # -- paths --

    async def expand(self, path: bytes) -> bytes:
        """Return a path without ``~``; b'.' for the home directory."""
        if not path.startswith(b"~"):
            return path or b"."
        user, _, rest = path[1:].partition(b"/")
        if not user:
            # "~//x" is in the home directory as well, not in the root directory.
            return rest.lstrip(b"/") or b"."
        if not self.offers(_EXPAND_PATH):
            raise self.session.error(
                path,
                "the server cannot tell another user's home directory "
                "(expand-path@openssh.com, OpenSSH 8.7): write the path in full",
            )
        found: list[Name] = await self.session.ask(
            codec.EXTENDED, ssh_string(_EXPAND_PATH) + ssh_string(path), codec.Names, path
        )
        return self._single(found, path)

    async def realpath(self, path: bytes) -> bytes:
        """Return the absolute path, with links resolved."""
        return self._single(
            await self.session.ask(codec.REALPATH, ssh_string(path), codec.Names, path), path
        )

    async def readlink(self, path: bytes) -> bytes:
        """Return a link's target."""
        return self._single(
            await self.session.ask(codec.READLINK, ssh_string(path), codec.Names, path), path
        )

    def _single(self, found: list[Name], path: bytes) -> bytes:
        if len(found) != 1:
            raise self.session.error(path, f"the server names {len(found)} paths in place of one")
        return found[0].filename

    # -- attributes --

    def stat(self, path: bytes) -> Future[Attributes]:
        """Get the attributes of a path, with links followed."""
        return self.session.ask(codec.STAT, ssh_string(path), Attributes, path)

    def lstat(self, path: bytes) -> Future[Attributes]:
        """Get the attributes of a path, without following a link."""
        return self.session.ask(codec.LSTAT, ssh_string(path), Attributes, path)

    async def look(self, path: bytes) -> Optional[Attributes]:
        """Get the attributes of a path, with links followed, by any request that the server serves.

        Returns:
            The attributes; None if nothing has this path; attributes without a mode if the server
            does not tell: then there may be a file.
        """
        try:
            return await self.stat(path)
        except CopyError as error:
            if error.status == codec.NO_SUCH_FILE:
                return None
        try:
            found = await self.lstat(path)
            return await self.lstat(await self.realpath(path)) if found.is_link else found
        except CopyError as error:
            if error.status == codec.NO_SUCH_FILE:
                return None
        with suppress(CopyError):
            self.close(await self.opendir(path), path)
            return Attributes(mode=stat.S_IFDIR | stat.S_IRWXU)
        return codec.NO_ATTRIBUTES

    def fstat(self, handle: bytes, path: bytes) -> Future[Attributes]:
        """Get the attributes of an open file."""
        return self.session.ask(codec.FSTAT, ssh_string(handle), Attributes, path)

    def setstat(self, path: bytes, attributes: Attributes) -> Future[None]:
        """Change attributes."""
        return self.session.ask(
            codec.SETSTAT, ssh_string(path) + attributes.encode(), codec.Status, path
        )

    def fsetstat(self, handle: bytes, attributes: Attributes, path: bytes) -> Future[None]:
        """Change attributes of an open file."""
        return self.session.ask(
            codec.FSETSTAT, ssh_string(handle) + attributes.encode(), codec.Status, path
        )

    # -- files --

    def open(
        self,
        path: bytes,
        flags: int,
        attributes: Attributes = codec.NO_ATTRIBUTES,
        about: bytes = b"",
    ) -> Future[bytes]:
        """Open a file; the reply is its handle. Errors name ``about`` if given, not the path."""
        fields = ssh_string(path) + uint32(flags) + attributes.encode()
        return self.session.ask(codec.OPEN, fields, codec.Handle, about or path)

    def close(self, handle: bytes, path: bytes) -> Future[None]:
        """Close a file or a directory."""
        return self.session.ask(codec.CLOSE, ssh_string(handle), codec.Status, path)

    def write(self, handle: bytes, offset: int, data: memoryview, path: bytes) -> Future[None]:
        """Write a block, which must not change until it has been sent."""
        fields = ssh_string(handle) + uint64(offset) + uint32(len(data))
        return self.session.ask(codec.WRITE, fields, codec.Status, path, data)

    def read(
        self,
        handle: bytes,
        offset: int,
        size: int,
        sink: Callable[[int, memoryview], object],
        path: bytes,
    ) -> Future[int]:
        """Read a block; the reply is how many bytes came, 0 at the end of the file.

        Args:
            handle: the file's handle.
            offset: of the first byte to read.
            size: how many bytes to request.
            sink: called with the offset in the file and the data, piece by piece.
            path: the file's path, for errors.
        """
        fields = ssh_string(handle) + uint64(offset) + uint32(size)
        return self.session.ask_for_data(
            fields, path, size, lambda start, data: sink(offset + start, data)
        )

    async def read_all(
        self,
        handle: bytes,
        size: int,
        sink: Callable[[int, memoryview], object],
        path: bytes,
    ) -> int:
        """Read a file to its end, with several requests at once.

        The size only decides how many requests are made at once: beyond it, there is one at a time,
        until the server says that the file has ended. A size can be out of date, as that of a log
        that grows, or wrong: files of /proc report 0, and files of /sys one page.

        Args:
            handle: the file's handle.
            size: its size in bytes, as far as it is known.
            sink: called with the offset in the file and the data, piece by piece.
            path: the file's path, for errors.

        Returns:
            The offset of the end.

        Raises:
            CopyError: the server cannot read, or has data behind the end; or ``sink`` raised.
        """
        asked: deque[tuple[int, int, Future[int]]] = deque()
        ahead = min(_READ_AHEAD, _READ_AHEAD_OF_ALL // self.session.sessions_at_once)
        most = min(self.read_size, max(_PLAIN_SIZE, ahead // 2))
        offset = furthest = 0
        end: Optional[int] = None
        # The size of the next request beyond the file's size, and whether one is under way.
        beyond, beyond_asked = _FIRST_BEYOND, False
        over = False

        def take(start: int, data: memoryview) -> None:
            # After a failure, drop the replies to requests made before.
            if not over:
                sink(start, data)

        try:
            while True:
                while end is None and not beyond_asked and (not asked or self._reading < ahead):
                    beyond_asked = offset >= size
                    wanted = beyond if beyond_asked else min(most, size - offset)
                    asked.append((offset, wanted, self.read(handle, offset, wanted, take, path)))
                    self._reading += wanted
                    offset += wanted
                if not asked:
                    break
                start, wanted, reply = asked.popleft()
                self._reading -= wanted
                got = await reply
                if got == 0:
                    end = start if end is None else min(end, start)
                    continue
                furthest = max(furthest, start + got)
                if start >= size:
                    offset = start + got
                    beyond, beyond_asked = min(2 * beyond, most), False
                elif got < wanted and end is None:
                    # A server may send less than requested: request the rest.
                    start, wanted = start + got, wanted - got
                    asked.appendleft((start, wanted, self.read(handle, start, wanted, take, path)))
                    self._reading += wanted
        finally:
            over = True
            self._reading -= sum(wanted for _, wanted, _ in asked)
        if end is None or furthest > end:
            raise self.session.error(path, "it changed while it was copied: it ended, and went on")
        return end

    async def write_all(
        self,
        handle: bytes,
        block: Callable[[int, int], memoryview],
        path: bytes,
    ) -> None:
        """Write a file, with several requests at once.

        Args:
            handle: the file's handle.
            block: returns the bytes at an offset, no more than its second argument says; none at
                the end.
            path: the file's path, for errors.

        Raises:
            CopyError: the server could not write, or ``block`` raised.
        """
        session = self.session
        asked: deque[tuple[int, Future[None]]] = deque()
        offset = 0
        ended = False
        while not ended or asked:
            if not ended and len(asked) < _WRITE_AHEAD:
                await session.room()
                data = block(offset, self.write_size)
                if data:
                    asked.append((len(data), self.write(handle, offset, data, path)))
                    offset += len(data)
                else:
                    ended = True
            while asked and (asked[0][1].done or ended or len(asked) >= _WRITE_AHEAD):
                written, reply = asked.popleft()
                await reply
                session.copied += written

    async def fsync(self, handle: bytes, path: bytes) -> None:
        """Flush a file to the server's disk, if the server has fsync@openssh.com.

        Raises:
            CopyError: the server has the extension, and the disk fails. A server that denies the
                request counts as a server without it.
        """
        if not self.offers(_FSYNC):
            return
        try:
            await self.session.ask(
                codec.EXTENDED, ssh_string(_FSYNC) + ssh_string(handle), codec.Status, path
            )
        except CopyError as error:
            if error.status not in DENIALS:
                raise

    async def replace(self, old: bytes, new: bytes) -> None:
        """Give a temporary file its name, in place of the file that has this name, if any.

        This is one step with posix-rename@openssh.com, and on servers whose RENAME replaces files.
        The protocol's own RENAME refuses an existing target (filexfer-02, 6.5). Then that file is
        first renamed, and removed last: it is never removed before the new one has its name.

        Raises:
            CopyError: the server does not do it, and the file that was there is still there; or,
                without a status, the server has changed its mind and that file has another name.
        """
        if self.offers(_POSIX_RENAME):
            try:
                await self._posix_rename(old, new)
            except CopyError as error:
                # The other way can do no more than this one. In a directory with a sticky bit it
                # can do harm: OpenSSH's RENAME makes a hard link first, which stays if the file
                # belongs to another user.
                if error.status == codec.PERMISSION_DENIED and await self._serves_posix_rename(new):
                    raise
            else:
                self.session.temporaries.discard(old)
                return
        if not await succeeded(self._rename(old, new)):
            await self._swap(old, new)
        self.session.temporaries.discard(old)

    def _posix_rename(self, old: bytes, new: bytes) -> Future[None]:
        fields = ssh_string(_POSIX_RENAME) + ssh_string(old) + ssh_string(new)
        return self.session.ask(codec.EXTENDED, fields, codec.Status, new)

    async def _serves_posix_rename(self, path: bytes) -> bool:
        """Find out whether the server serves posix-rename: it may deny what it has announced.

        Args:
            path: a path; the test is to rename a file beside it that does not exist.
        """
        nothing = names.temporary_path(path, token_hex(6))
        try:
            await self._posix_rename(nothing, path)
        except CopyError as error:
            return error.status == codec.NO_SUCH_FILE
        return True

    async def _swap(self, old: bytes, new: bytes) -> None:
        """Rename the existing file aside, the temporary one to its name, and remove the first."""
        aside = names.temporary_path(new, token_hex(6), b".old")
        # If the session is aborted meanwhile, its cleanup puts the file back: then this coroutine
        # ends at an await, without a CopyError.
        self.session.asides[aside] = new
        try:
            await self._swap_by(aside, old, new)
        except CopyError:
            del self.session.asides[aside]
            raise
        del self.session.asides[aside]

    async def _swap_by(self, aside: bytes, old: bytes, new: bytes) -> None:
        await self._rename(new, aside)
        try:
            await self._rename(old, new)
        except CopyError:
            await self._put_back(aside, new)
            raise
        try:
            await self.remove(aside)
        except CopyError:
            await succeeded(self._rename(new, old))
            await self._put_back(aside, new)
            raise

    async def _put_back(self, aside: bytes, path: bytes) -> None:
        try:
            await self._rename(aside, path)
        except CopyError as error:
            raise self.session.error(
                path,
                f"the server renamed the file to {printable_line(aside)!r}, to replace it, and now "
                f"does not rename it back ({error.cause}); rename it by hand",
            ) from error

    def _rename(self, old: bytes, new: bytes) -> Future[None]:
        return self.session.ask(codec.RENAME, ssh_string(old) + ssh_string(new), codec.Status, new)

    def remove(self, path: bytes) -> Future[None]:
        """Remove a file or a link."""
        return self.session.ask(codec.REMOVE, ssh_string(path), codec.Status, path)

    # -- directories and links --

    def mkdir(self, path: bytes, attributes: Attributes) -> Future[None]:
        """Make a directory."""
        return self.session.ask(
            codec.MKDIR, ssh_string(path) + attributes.encode(), codec.Status, path
        )

    def opendir(self, path: bytes) -> Future[bytes]:
        """Open a directory; the reply is its handle."""
        return self.session.ask(codec.OPENDIR, ssh_string(path), codec.Handle, path)

    def readdir(self, handle: bytes, path: bytes) -> Future[list[Name]]:
        """Get the next entries of a directory; none at its end."""
        return self.session.ask(codec.READDIR, ssh_string(handle), codec.Names, path)

    def symlink(self, target: bytes, path: bytes, about: bytes) -> Future[None]:
        """Make a link; errors name ``about``.

        OpenSSH swaps the two arguments of filexfer-02 (see its PROTOCOL, 4.1), and every other
        server does the same.
        """
        return self.session.ask(
            codec.SYMLINK, ssh_string(target) + ssh_string(path), codec.Status, about
        )

    # -- file systems --

    async def file_system(self, path: bytes) -> Optional[FileSystem]:
        """Return the data of a path's file system; None if the server does not tell."""
        if not self.offers(_STATVFS):
            return None
        try:
            reply: bytes = await self.session.ask(
                codec.EXTENDED,
                ssh_string(_STATVFS) + ssh_string(posixpath.dirname(path) or b"."),
                codec.Extended,
                path,
            )
        except CopyError:
            return None
        if len(reply) < 11 * 8:
            return None
        fields = codec.ReplyFields(reply)
        _, fragment, blocks, _, available, _, _, files, *_ = [fields.uint64() for _ in range(11)]
        return FileSystem(blocks, fragment * available, files)


async def succeeded(reply: Future[None]) -> bool:
    """Wait for a reply; return False if the server refused this request."""
    try:
        await reply
    except CopyError:
        return False
    return True


async def _is_denied(reply: Future[None]) -> bool:
    """Wait for a reply; return True if the server does not serve such requests."""
    try:
        await reply
    except CopyError as error:
        return error.status in DENIALS
    return False
