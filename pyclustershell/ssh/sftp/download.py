"""Copies a file or a directory from one node to this host. No server is trusted."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Callable, NamedTuple, Optional, TypeVar

from ... import platform
from ...exceptions import CopyError, SFTPProtocolError
from ...printable import printable_line
from . import codec, names
from .codec import Attributes, Name
from .copyoptions import CopyOptions
from .coroutines import BoundedGroup
from .files import RemoteFiles
from .localfile import PERMISSIONS, LocalFile, make_directory, make_link, why_link_leads_out
from .localpaths import Place, Placed, join, plain
from .sftpsession import SftpSession

# How many files are copied at once, and how many bytes they may have together.
_FILES_AT_ONCE = 32
_BYTES_AT_ONCE = 4 << 20

# A server that lists more entries than this, or nests directories deeper, may never end.
_MOST_ENTRIES = 1_000_000
_DEEPEST = 200

# The most links of a chain that Windows follows.
_LONGEST_CHAIN = 63

T = TypeVar("T")


class _Directory(NamedTuple):
    """A directory to copy.

    Attributes:
        remote: its path on the node.
        local: its place on this host.
        depth: in how many directories of the copy it is.
        attributes: its attributes.
        above: the absolute remote paths of the directories to which links have led on the way.
    """

    remote: bytes
    local: Place
    depth: int
    attributes: Attributes
    above: tuple[bytes, ...]


class _Link(NamedTuple):
    """A link to make.

    Attributes:
        remote: its path on the node.
        target: its target on the node.
        local: its place on this host.
    """

    remote: bytes
    target: bytes
    local: Place


class Download:
    """One node's part of a reverse copy. Made for one session, which runs :meth:`run`.

    Args:
        source: the remote path.
        target: the path of the copy on this host, not a directory to put it in.
        options: how to copy.
        siblings: the copies of other nodes and sources that are made beside it.

    Attributes:
        skipped: the local paths of files that were up to date already.
    """

    def __init__(self, source: bytes, target: str, options: CopyOptions, siblings: Placed) -> None:
        self._source = source
        self._target = join("", target)
        self._options = options
        self._siblings = siblings
        self.skipped: list[bytes] = []
        self._entries = 0
        self._endless = False
        self._links: list[_Link] = []
        # The directories that were made: their remote and local paths, and their attributes.
        self._done: list[tuple[bytes, str, Attributes]] = []
        self._open: set[LocalFile] = set()

    async def run(self, session: SftpSession) -> None:
        """Copy all entries; report the ones that fail, and continue."""
        self._session = session
        self._files = RemoteFiles(session)
        session.on_close(self._discard_open)
        await self._files.learn_limits()
        source = await self._files.expand(self._source)
        name = f"{printable_line(source)!r} of {session.settings.node}"
        local = Place(self._target, name, self._siblings)
        attributes = await self._look(source)
        if not attributes.is_directory:
            if attributes.is_special:
                raise session.error(source, "not a regular file")
            await self._copy_file(source, attributes, local)
            return
        group = BoundedGroup(_FILES_AT_ONCE, _BYTES_AT_ONCE, session.report)
        session.on_close(group.close)
        todo = [_Directory(source, local, 0, attributes, ())]
        while todo:
            directory = todo.pop()
            try:
                todo += await self._copy_directory(directory, group)
            except SFTPProtocolError:
                raise
            except CopyError as error:
                if directory.depth == 0 or self._endless:
                    await group.join()
                    raise
                session.report(error)
        await group.join()
        self._make_links()
        if self._options.preserve:
            self._set_directory_times()

    async def _look(self, remote: bytes) -> Attributes:
        """Get the attributes of a file, with links followed; without a mode if unknown."""
        found = await self._files.look(remote)
        if found is None:
            raise self._session.error(
                remote, codec.STATUS_TEXTS[codec.NO_SUCH_FILE], codec.NO_SUCH_FILE
            )
        return found

    # -- directories --

    async def _copy_directory(self, directory: _Directory, group: BoundedGroup) -> list[_Directory]:
        """Copy the contents of a directory; return its subdirectories."""
        files, path = self._files, directory.remote
        if directory.depth > _DEEPEST:
            raise self._session.unsafe(path, f"more than {_DEEPEST} directories deep")
        handle = await files.opendir(path)
        self._here(path, lambda: self._make_directory(directory))
        self._done.append((path, directory.local.path, directory.attributes))
        placed = Placed()
        below = []
        while True:
            found = await files.readdir(handle, path)
            if not found:
                break
            self._entries += len(found)
            if self._entries > _MOST_ENTRIES:
                self._endless = True
                raise self._session.unsafe(
                    self._source, f"the server lists more than {_MOST_ENTRIES} files"
                )
            for name in found:
                try:
                    subdirectory = await self._copy_entry(directory, name, placed, group)
                except SFTPProtocolError:
                    raise
                except CopyError as error:
                    self._session.report(error)
                    continue
                if subdirectory is not None:
                    below.append(subdirectory)
        files.close(handle, path)
        return below[::-1]

    def _make_directory(self, directory: _Directory) -> None:
        directory.local.check()
        make_directory(directory.local.path, directory.attributes.mode or 0o777)
        directory.local.take()

    async def _copy_entry(
        self, directory: _Directory, entry: Name, placed: Placed, group: BoundedGroup
    ) -> Optional[_Directory]:
        """Copy one entry of a directory; return it if it is a directory."""
        name, attributes = entry
        if not names.is_entry(name):
            return None
        remote = names.join(directory.remote, name)
        reason = names.why_unsafe(name, platform.WINDOWS_PATHS)
        if reason is not None:
            raise self._session.unsafe(
                directory.remote,
                f"the server's name {printable_line(name)!r} is refused: {reason}",
            )
        path = join(directory.local.path, os.fsdecode(name))
        local = Place(path, repr(printable_line(remote)), placed)
        if attributes.mode is None:
            try:
                attributes = await self._files.lstat(remote)
            except CopyError:
                attributes = await self._look(remote)
        above = directory.above
        if attributes.is_link:
            if not self._options.follow_symlinks:
                target = await self._checked_link(remote, directory.depth)
                self._links.append(_Link(remote, target, local))
                return None
            attributes = await self._look(remote)
            if attributes.is_directory:
                above = await self._above(remote, directory)
        if attributes.is_directory:
            return _Directory(remote, local, directory.depth + 1, attributes, above)
        if attributes.is_special:
            raise self._session.error(remote, "not a regular file")
        await group.start(self._copy_file(remote, attributes, local), attributes.size or 0)
        return None

    async def _above(self, remote: bytes, directory: _Directory) -> tuple[bytes, ...]:
        """Add the target of a link to the directories to which links have led.

        Raises:
            CopyError: the link leads back to a directory that it is in.
        """
        path = (await self._files.realpath(remote)).rstrip(b"/") + b"/"
        here = (await self._files.realpath(directory.remote)).rstrip(b"/") + b"/"
        if here.startswith(path) or path in directory.above:
            raise self._session.error(remote, "the link leads back to a directory that it is in")
        return (*directory.above, path)

    async def _checked_link(self, remote: bytes, depth: int) -> bytes:
        target = await self._files.readlink(remote)
        reason = names.why_link_leads_out(target, depth, platform.WINDOWS_PATHS)
        if reason is not None:
            raise self._refused_link(remote, target, reason)
        return target

    def _make_links(self) -> None:
        """Make the links after all files, so that no file is written through a link."""
        waiting = self._links
        if platform.WINDOWS_PATHS:
            # A link must say there whether it leads to a directory. One that leads to another link
            # is made after that one.
            for _ in range(_LONGEST_CHAIN):
                later = [link for link in waiting if not self._make_link_to_existing(link)]
                if len(later) == len(waiting):
                    break  # they lead to nothing
                waiting = later
        for link in waiting:
            self._attempt_link(link)

    def _make_link_to_existing(self, link: _Link) -> bool:
        """Make a link if its target is there; return True if so."""
        directory = os.path.dirname(link.local.path)
        if not os.path.exists(os.path.join(directory, os.fsdecode(link.target))):
            return False
        self._attempt_link(link)
        return True

    def _attempt_link(self, link: _Link) -> None:
        try:
            self._here(link.remote, partial(self._make_link, link))
        except CopyError as error:
            self._session.report(error)

    def _make_link(self, link: _Link) -> None:
        target, path = os.fsdecode(link.target), link.local.path
        reason = why_link_leads_out(self._target, os.path.dirname(path), target)
        if reason is not None:
            raise self._refused_link(link.remote, link.target, reason)
        link.local.check()
        make_link(target, path)
        link.local.take()

    def _refused_link(self, remote: bytes, target: bytes, reason: str) -> CopyError:
        return self._session.unsafe(
            remote, f"a link to {printable_line(target)!r} is refused: {reason}"
        )

    def _set_directory_times(self) -> None:
        """Set directories' times and modes last, from the bottom up: new files change them."""
        for remote, local, attributes in reversed(self._done):
            try:
                if attributes.mode is not None and platform.POSIX_FILES:
                    os.chmod(local, attributes.mode & PERMISSIONS)
                if attributes.atime is not None and attributes.mtime is not None:
                    os.utime(local, (attributes.atime, attributes.mtime))
            except OSError as error:
                self._session.report(self._local_error(remote, error))

    # -- files --

    async def _copy_file(self, remote: bytes, attributes: Attributes, local: Place) -> None:
        files = self._files
        handle = await files.open(remote, codec.OPEN_READ)
        try:
            with suppress(CopyError):  # a server may not serve FSTAT
                attributes = await files.fstat(handle, remote)
            if attributes.is_directory or attributes.is_special:
                raise self._session.error(remote, "not a regular file any more")
            self._here(remote, local.check)
            if await self._is_unchanged(handle, remote, attributes, local.path):
                local.take()
                self.skipped.append(os.fsencode(plain(local.path)))
                self._session.copied += attributes.size or 0
            else:
                await self._write(handle, remote, attributes, local)
        except SFTPProtocolError:
            raise
        except CopyError:
            files.close(handle, remote)
            raise
        # Do not wait for the reply: nothing depends on it.
        files.close(handle, remote)

    async def _write(
        self, handle: bytes, remote: bytes, attributes: Attributes, local: Place
    ) -> None:
        options = self._options
        mode = 0o666 if attributes.mode is None else attributes.mode
        file = self._here(remote, lambda: self._begin(local, mode))
        self._open.add(file)
        try:
            await self._fill(file, handle, remote, attributes.size or 0)
            times = None
            if options.preserve and attributes.atime is not None and attributes.mtime is not None:
                times = (attributes.atime, attributes.mtime)
            kept = attributes.mode if options.preserve else None
            self._here(remote, lambda: self._finish(file, local, times, kept))
        finally:
            self._open.discard(file)
            file.discard()

    def _begin(self, local: Place, mode: int) -> LocalFile:
        local.check()
        file = LocalFile(local.path, mode, self._options.inplace)
        if self._options.inplace:
            local.take()
        return file

    @staticmethod
    def _finish(
        file: LocalFile, local: Place, times: Optional[tuple[int, int]], mode: Optional[int]
    ) -> None:
        local.check()  # once more: another file may have got this name meanwhile
        file.finish(times, mode)
        local.take()

    async def _fill(self, file: LocalFile, handle: bytes, remote: bytes, size: int) -> None:
        session = self._session

        def write(offset: int, data: memoryview) -> None:
            try:
                file.write(offset, data)
            except OSError as error:
                raise self._local_error(remote, error) from error
            session.copied += len(data)

        end = await self._files.read_all(handle, size, write, remote)
        if end < size:
            await self._check_end(handle, remote, size, end)

    async def _check_end(self, handle: bytes, remote: bytes, size: int, end: int) -> None:
        """Find out why a file ends before the size that the server stated.

        Raises:
            CopyError: it was cut while it was copied, or the server does not send all of it.
        """
        files = self._files
        now = None
        with suppress(CopyError):
            now = (await files.fstat(handle, remote)).size
        if now is not None and now < size:
            raise self._session.error(remote, "it became shorter while it was copied")
        # /sys files report one page but may be shorter.
        found = await files.file_system(remote)
        if found is None or found.blocks:
            raise self._session.unsafe(remote, f"it ends after {end} of {size} bytes")

    async def _is_unchanged(
        self, handle: bytes, remote: bytes, attributes: Attributes, local: str
    ) -> bool:
        if not self._options.skip_unchanged or attributes.size is None:
            return False
        try:
            status = os.lstat(local)
        except OSError:
            return False
        if status.st_size != attributes.size or not os.path.isfile(local):
            return False
        if not self._options.checksum:
            return int(status.st_mtime) == attributes.mtime
        return await self._has_contents(handle, remote, attributes.size, local)

    async def _has_contents(self, handle: bytes, remote: bytes, size: int, local: str) -> bool:
        """Read the remote file, and compare its contents with the local file's."""
        same = True
        with self._here(remote, lambda: open(local, "rb")) as file:

            def compare(offset: int, data: memoryview) -> None:
                nonlocal same
                if same:
                    file.seek(offset)
                    same = file.read(len(data)) == data

            return await self._files.read_all(handle, size, compare, remote) == size and same

    # -- this host --

    def _here(self, remote: bytes, function: Callable[[], T]) -> T:
        """Call a function for this host's files; its error names the remote path."""
        try:
            return function()
        except OSError as error:
            raise self._local_error(remote, error) from error

    def _local_error(self, remote: bytes, error: OSError) -> CopyError:
        """Make the error for a failure on this host; the remote path is the same for all nodes."""
        shown = printable_line(remote, 4096)
        # A rename has two: the temporary name, and the file's own.
        path = getattr(error, "filename2", None) or error.filename or self._target
        return CopyError(
            self._session.settings.node,
            f"{shown}: on this host: {error.strerror or error}",
            path=plain(str(path)),
        )

    def _discard_open(self) -> None:
        for file in list(self._open):
            file.discard()
        self._open.clear()
