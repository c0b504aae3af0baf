"""Copies a file or a directory of one node to this host. No server is trusted."""

from __future__ import annotations

import os
from functools import partial
from typing import Callable, NamedTuple, Optional, TypeVar

from ... import platform
from ...exceptions import CopyError, SFTPProtocolError
from . import codec, names
from .codec import Attributes, Name
from .files import RemoteFiles
from .flow import Group
from .local import LocalFile, make_directory, make_link
from .options import CopyOptions
from .session import SftpSession

# How many files are on their way at once, and how many bytes they may have together.
_FILES_AT_ONCE = 32
_BYTES_AT_ONCE = 4 << 20

# A server that lists more than this, or nests deeper, may never end.
_MOST_ENTRIES = 1_000_000
_DEEPEST = 200

# Files of /proc say that they are empty; those of /sys, that they have a page, and end before. How
# much is read of the former, in bytes, and which size excuses the latter.
_UNKNOWN_SIZE_LIMIT = 64 << 20
_SYSFS_SIZE = 4096

T = TypeVar("T")


class _Directory(NamedTuple):
    """A directory to be copied.

    Attributes:
        remote: its path on the node.
        local: its path here.
        depth: how many directories of the copy it is in.
        attributes: its own.
        above: the absolute remote paths of the directories that links have led to on the way.
    """

    remote: bytes
    local: str
    depth: int
    attributes: Attributes
    above: tuple[bytes, ...]


class Download:
    """One node's part of a reverse copy. Made for one session, which runs :meth:`run`.

    Args:
        source: the remote path.
        target: where it goes on this host: not a directory to put it in, but its own path.
        options: how.

    Attributes:
        skipped: the local paths of files that were here already.
    """

    def __init__(self, source: bytes, target: str, options: CopyOptions) -> None:
        self._source = source
        self._target = target
        self._options = options
        self.skipped: list[bytes] = []
        self._entries = 0
        self._endless = False
        self._links: list[tuple[bytes, str]] = []
        self._done: list[_Directory] = []
        self._open: set[LocalFile] = set()

    async def run(self, session: SftpSession) -> None:
        """Copy everything; what cannot be copied is reported, and the rest goes on."""
        self._session = session
        self._files = RemoteFiles(session)
        session.on_close(self._discard_open)
        await self._files.learn_limits()
        source = await self._files.expand(self._source)
        attributes = await self._files.stat(source)
        if not attributes.is_directory:
            if attributes.is_special:
                raise session.error(source, "not a regular file")
            await self._copy_file(source, self._target)
            return
        group = Group(_FILES_AT_ONCE, _BYTES_AT_ONCE, session.report)
        session.on_close(group.close)
        todo = [_Directory(source, self._target, 0, attributes, ())]
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

    # -- directories --

    async def _copy_directory(self, directory: _Directory, group: Group) -> list[_Directory]:
        """Copy what is in a directory; returns its directories."""
        files, path = self._files, directory.remote
        if directory.depth > _DEEPEST:
            raise self._session.unsafe(path, f"more than {_DEEPEST} directories deep")
        handle = await files.opendir(path)
        self._here(
            path, lambda: make_directory(directory.local, directory.attributes.mode or 0o777)
        )
        self._done.append(directory)
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
                    subdirectory = await self._copy_entry(directory, name, group)
                except SFTPProtocolError:
                    raise
                except CopyError as error:
                    self._session.report(error)
                    continue
                if subdirectory is not None:
                    below.append(subdirectory)
        await files.close(handle, path)
        return below[::-1]

    async def _copy_entry(
        self, directory: _Directory, entry: Name, group: Group
    ) -> Optional[_Directory]:
        """Copy one entry of a directory, or return it where it is a directory."""
        name, attributes = entry
        if not names.is_entry(name):
            return None
        remote = names.join(directory.remote, name)
        reason = names.why_unsafe(name, platform.WINDOWS_PATHS)
        if reason is not None:
            raise self._session.unsafe(
                directory.remote,
                f"the server's name {codec.readable(name)!r} is refused: {reason}",
            )
        local = os.path.join(directory.local, os.fsdecode(name))
        if attributes.mode is None:
            attributes = await self._files.lstat(remote)
        above = directory.above
        if attributes.is_link:
            if not self._options.follow_symlinks:
                self._links.append((await self._checked_link(remote, directory.depth), local))
                return None
            attributes = await self._files.stat(remote)
            if attributes.is_directory:
                above = await self._above(remote, directory)
        if attributes.is_directory:
            return _Directory(remote, local, directory.depth + 1, attributes, above)
        if attributes.is_special:
            raise self._session.error(remote, "not a regular file")
        await group.start(self._copy_file(remote, local), attributes.size or 0)
        return None

    async def _above(self, remote: bytes, directory: _Directory) -> tuple[bytes, ...]:
        """Where the links on the way have led to, with a link to a directory.

        Raises:
            CopyError: it leads back to where we came from.
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
            raise self._session.unsafe(
                remote, f"a link to {codec.readable(target)!r} is refused: {reason}"
            )
        return target

    def _make_links(self) -> None:
        """Links come when nothing is written any more: then nothing is written through them."""
        for target, local in self._links:
            try:
                self._here(os.fsencode(local), partial(make_link, os.fsdecode(target), local))
            except CopyError as error:
                self._session.report(error)

    def _set_directory_times(self) -> None:
        """Directories' times and modes come last, from the bottom up: files change them."""
        for directory in reversed(self._done):
            attributes = directory.attributes
            try:
                if attributes.mode is not None:
                    os.chmod(directory.local, attributes.mode & 0o7777)
                if attributes.atime is not None and attributes.mtime is not None:
                    os.utime(directory.local, (attributes.atime, attributes.mtime))
            except OSError as error:
                self._session.report(self._local_error(directory.remote, error))

    # -- files --

    async def _copy_file(self, remote: bytes, local: str) -> None:
        files = self._files
        handle = await files.open(remote, codec.OPEN_READ)
        try:
            attributes = await files.fstat(handle, remote)
            if attributes.is_directory or attributes.is_special:
                raise self._session.error(remote, "not a regular file any more")
            if await self._is_unchanged(handle, remote, attributes, local):
                self.skipped.append(os.fsencode(local))
                self._session.copied += attributes.size or 0
            else:
                await self._write(handle, remote, attributes, local)
        except SFTPProtocolError:
            raise
        except CopyError:
            await files.close(handle, remote)
            raise
        # Nobody waits for this: nothing depends on it.
        files.close(handle, remote)

    async def _write(
        self, handle: bytes, remote: bytes, attributes: Attributes, local: str
    ) -> None:
        options = self._options
        mode = 0o666 if attributes.mode is None else attributes.mode
        file = self._here(remote, lambda: LocalFile(local, mode, options.inplace))
        self._open.add(file)
        try:
            await self._fill(file, handle, remote, attributes.size or 0)
            times = None
            if options.preserve and attributes.atime is not None and attributes.mtime is not None:
                times = (attributes.atime, attributes.mtime)
            kept = attributes.mode if options.preserve else None
            self._here(remote, lambda: file.finish(times, kept))
        finally:
            self._open.discard(file)
            file.discard()

    async def _fill(self, file: LocalFile, handle: bytes, remote: bytes, size: int) -> None:
        session = self._session

        def write(offset: int, data: memoryview) -> None:
            try:
                file.write(offset, data)
            except OSError as error:
                raise self._local_error(remote, error) from error
            session.copied += len(data)

        end = await self._files.read_all(handle, 0, size or _UNKNOWN_SIZE_LIMIT, write, remote)
        if not size and end == _UNKNOWN_SIZE_LIMIT:
            raise session.unsafe(
                remote, f"a file of unknown size goes on beyond {_UNKNOWN_SIZE_LIMIT} bytes"
            )
        if end < size and size != _SYSFS_SIZE:
            # It may have become shorter meanwhile, as logs do.
            now = await self._files.fstat(handle, remote)
            if now.size != end:
                raise session.unsafe(remote, f"it ends after {end} of {size} bytes")

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
        """Whether a local file has the contents of the remote one, which is read and compared."""
        same = True
        with self._here(remote, lambda: open(local, "rb")) as file:

            def compare(offset: int, data: memoryview) -> None:
                nonlocal same
                if same:
                    file.seek(offset)
                    same = file.read(len(data)) == data

            return await self._files.read_all(handle, 0, size, compare, remote) == size and same

    # -- this host --

    def _here(self, remote: bytes, function: Callable[[], T]) -> T:
        """Do something on this host; what goes wrong is told by the remote path."""
        try:
            return function()
        except OSError as error:
            raise self._local_error(remote, error) from error

    def _local_error(self, remote: bytes, error: OSError) -> CopyError:
        """What is told of a failure of this host's: by the remote path, the same for all nodes."""
        shown = codec.readable(remote, 4096)
        return CopyError(
            self._session.settings.node,
            f"{shown}: on this host: {error.strerror or error}",
            path=str(error.filename or self._target),
        )

    def _discard_open(self) -> None:
        for file in list(self._open):
            file.discard()
        self._open.clear()
