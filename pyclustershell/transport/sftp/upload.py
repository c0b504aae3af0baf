"""Copies a source of this host to one node."""

from __future__ import annotations

import os
import stat
from secrets import token_hex
from typing import NamedTuple, Optional

from ...exceptions import CopyError, SFTPProtocolError
from . import codec, names
from .codec import Attributes
from .files import RemoteFiles
from .flow import Group, Pending
from .options import CopyOptions
from .session import SftpSession
from .source import Entry, Kind, Source, SourceError

# How many files are on their way at once, and how many bytes they may have together: many small
# ones hide the time that each takes to answer, large ones go one after the other.
_FILES_AT_ONCE = 32
_BYTES_AT_ONCE = 4 << 20

_WRITE_BITS = stat.S_IWUSR | stat.S_IXUSR | stat.S_IRUSR
_MODE = 0o7777


class _Target(NamedTuple):
    """Where a file goes.

    Attributes:
        path: its path, links resolved.
        existing: what is there; None where nothing is.
    """

    path: bytes
    existing: Optional[Attributes]


class Upload:
    """One node's copy of a source. Made for one session, which runs :meth:`run`.

    Args:
        source: what to copy; other nodes' uploads share it.
        dest: where to, as scp has it: a directory that exists gets it under its own name.
        options: how.

    Attributes:
        skipped: the remote paths of files that were there already.
    """

    def __init__(self, source: Source, dest: bytes, options: CopyOptions) -> None:
        self._source = source
        self._dest = dest
        self._options = options
        self.skipped: list[bytes] = []
        # Directories that were made here: nothing is in them that was there before.
        self._made: set[bytes] = set()
        self._failed_directories: set[bytes] = set()

    async def run(self, session: SftpSession) -> None:
        """Copy everything; what cannot be copied is reported, and the rest goes on."""
        self._session = session
        self._files = RemoteFiles(session)
        first = self._source.entry(0)
        if first is None or first.kind is Kind.REFUSED:
            raise self._local_error(
                self._source.path, first.target.decode() if first is not None else "nothing there"
            )
        await self._files.learn_limits()
        root = await self._find_root(first)
        group = Group(_FILES_AT_ONCE, _BYTES_AT_ONCE, self._report)
        session.on_close(group.close)
        index = 0
        while (entry := self._source.entry(index)) is not None:
            index += 1
            target = names.join(root, entry.relative)
            if self._is_below_a_failure(entry):
                continue
            if entry.kind is Kind.FILE:
                await group.start(self._copy_file(entry, target), entry.size)
            else:
                await self._attempt(entry, target)
        await group.join()
        if self._options.preserve:
            await self._set_directory_times(root, index)

    # -- where it goes --

    async def _find_root(self, first: Entry) -> bytes:
        """What the source will be called on the node.

        Raises:
            CopyError: there is something of another kind.
        """
        dest = await self._files.expand(self._dest)
        existing = await self._stat_or_none(dest)
        if existing is not None and existing.is_directory:
            return names.join(dest, names.base_name(_with_slashes(self._source.path)))
        if first.kind is Kind.DIRECTORY:
            if existing is not None:
                raise self._session.error(dest, "Not a directory")
            return dest.rstrip(b"/") or dest
        if dest.endswith(b"/"):
            raise self._session.error(
                dest, "No such directory" if existing is None else "Not a directory"
            )
        return dest

    async def _stat_or_none(self, path: bytes) -> Optional[Attributes]:
        try:
            return await self._files.stat(path)
        except CopyError as error:
            if error.status != codec.NO_SUCH_FILE:
                raise
            return None

    def _is_below_a_failure(self, entry: Entry) -> bool:
        if not self._failed_directories:
            return False
        path = entry.relative
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._failed_directories:
                return True
        return False

    # -- what is not a file --

    async def _attempt(self, entry: Entry, target: bytes) -> None:
        try:
            if entry.kind is Kind.DIRECTORY:
                await self._make_directory(entry, target)
            elif entry.kind is Kind.LINK:
                await self._make_link(entry, target)
            else:
                self._report(self._local_error(entry.local, entry.target.decode(errors="replace")))
        except SFTPProtocolError:
            raise
        except CopyError as error:
            if entry.kind is Kind.DIRECTORY:
                if not entry.relative:
                    raise
                self._failed_directories.add(entry.relative)
            self._report(error)

    async def _make_directory(self, entry: Entry, target: bytes) -> None:
        # What is copied into it needs these bits; the umask of the server takes its own away.
        mode = entry.mode & 0o777 | _WRITE_BITS
        try:
            await self._files.mkdir(target, Attributes(mode=mode))
        except CopyError as error:
            existing = await self._stat_or_none(target)
            if existing is None:
                raise
            if not existing.is_directory:
                raise self._session.error(target, "Not a directory") from error
        else:
            self._made.add(target)

    async def _make_link(self, entry: Entry, target: bytes) -> None:
        temporary = self._temporary(target)
        await self._files.symlink(entry.target, temporary, target)
        try:
            await self._files.replace(temporary, target)
        except CopyError:
            await self._remove_temporary(temporary)
            raise

    async def _set_directory_times(self, root: bytes, count: int) -> None:
        """Directories' times and modes come last, from the bottom up: files change them."""
        for index in range(count - 1, -1, -1):
            entry = self._source.entry(index)
            if (
                entry is None
                or entry.kind is not Kind.DIRECTORY
                or (entry.relative in self._failed_directories or self._is_below_a_failure(entry))
            ):
                continue
            try:
                await self._files.setstat(
                    names.join(root, entry.relative),
                    Attributes(mode=entry.mode & _MODE, atime=entry.atime, mtime=entry.mtime),
                )
            except CopyError as error:
                self._report(error)

    # -- files --

    async def _copy_file(self, entry: Entry, target: bytes) -> None:
        found = await self._look_at(target)
        if await self._is_unchanged(entry, found):
            self.skipped.append(target)
            self._session.copied += entry.size
            return
        existing = found.existing
        if existing is not None and existing.is_directory:
            raise self._session.error(target, "Is a directory")
        # A device or a pipe is written to, as scp does; to put a file in its place would be worse.
        if self._options.inplace or (existing is not None and existing.is_special):
            await self._write(entry, found, found.path)
            return
        temporary = self._temporary(found.path)
        try:
            await self._write(entry, found, temporary)
            await self._files.replace(temporary, found.path)
        except CopyError:
            await self._remove_temporary(temporary)
            raise

    async def _look_at(self, target: bytes) -> _Target:
        """What is at a path now, and where it leads if it is a link."""
        if target.rpartition(b"/")[0] in self._made:
            return _Target(target, None)
        try:
            existing = await self._files.lstat(target)
        except CopyError as error:
            if error.status != codec.NO_SUCH_FILE:
                raise
            return _Target(target, None)
        if not existing.is_link:
            return _Target(target, existing)
        # The link stays, and what it leads to is replaced.
        path = await self._files.realpath(target)
        return _Target(path, await self._stat_or_none(path))

    async def _is_unchanged(self, entry: Entry, found: _Target) -> bool:
        options, existing = self._options, found.existing
        if not options.skip_unchanged or existing is None or existing.size != entry.size:
            return False
        if not options.checksum:
            return existing.mtime == entry.mtime
        return not existing.is_special and await self._has_contents(entry, found.path)

    async def _has_contents(self, entry: Entry, path: bytes) -> bool:
        """Whether a remote file has the contents of the source's: it is read, and compared.

        No hash is asked for: servers rarely offer one, and OpenSSH's does not.
        """
        files = self._files
        same = True

        def compare(offset: int, data: memoryview) -> None:
            nonlocal same
            same = same and self._block(entry, offset, len(data)) == data

        handle = await files.open(path, codec.OPEN_READ)
        end = await files.read_all(handle, 0, entry.size, compare, path)
        await files.close(handle, path)
        return same and end == entry.size

    async def _write(self, entry: Entry, found: _Target, path: bytes) -> None:
        """Write a file's contents and attributes, under its own name or a temporary one."""
        files, about = self._files, found.path
        in_place = path == about
        handle = await files.open(
            path,
            codec.OPEN_WRITE
            | codec.OPEN_CREATE
            | (codec.OPEN_TRUNCATE if in_place else codec.OPEN_EXCLUSIVE),
            Attributes(mode=self._first_mode(entry, found.existing)),
            about,
        )
        try:
            await files.write_all(
                handle, entry.size, lambda offset, size: self._block(entry, offset, size), about
            )
        except CopyError as error:
            await _ignored(files.close(handle, about))
            raise await self._explain(error, entry, about) from error
        # Sent together: requests for one file are dealt with in order (filexfer-02, 6.1).
        owner = None if in_place else self._owner(found.existing)
        owned = None if owner is None else files.fsetstat(handle, owner, about)
        change = self._change(entry, found.existing, in_place)
        changed = None if change is None else files.fsetstat(handle, change, about)
        if self._options.fsync:
            await files.fsync(handle, about)
        closed = files.close(handle, about)
        if owned is not None:
            await _ignored(owned)  # only root may give files away
        if changed is not None:
            await changed
        try:
            await closed
        except CopyError as error:
            # Quotas and network file systems may only find out here.
            raise await self._explain(error, entry, about) from error

    def _first_mode(self, entry: Entry, existing: Optional[Attributes]) -> int:
        """What the file is made with: nobody may read more of it than in the end."""
        if existing is not None and existing.mode is not None:
            return existing.mode & entry.mode & 0o777
        return entry.mode & 0o777

    @staticmethod
    def _owner(existing: Optional[Attributes]) -> Optional[Attributes]:
        """Whose the file was that is replaced: it shall stay theirs."""
        if existing is None or existing.uid is None or existing.gid is None:
            return None
        return Attributes(uid=existing.uid, gid=existing.gid)

    def _change(
        self, entry: Entry, existing: Optional[Attributes], in_place: bool
    ) -> Optional[Attributes]:
        """The attributes that the whole file still needs."""
        if existing is not None and existing.is_special:
            return None
        if self._options.preserve:
            return Attributes(mode=entry.mode & _MODE, atime=entry.atime, mtime=entry.mtime)
        if in_place or existing is None or existing.mode is None:
            return None
        return Attributes(mode=existing.mode & _MODE)

    def _block(self, entry: Entry, offset: int, size: int) -> memoryview:
        try:
            return self._source.block(entry, offset, size)
        except SourceError as error:
            raise self._local_error(entry.local, str(error)) from error

    # -- failures --

    async def _explain(self, error: CopyError, entry: Entry, path: bytes) -> CopyError:
        """Find a better reason than 'Failure', which is all that version 3 knows of a full disk."""
        if error.status != codec.FAILURE:
            return error
        free = await self._files.free_space(path)
        if free is None or free.size > entry.size:
            return self._session.error(
                path,
                f"{_reason(error)}; the server says no more, a quota may be used up",
                error.status,
            )
        return self._session.error(
            path, f"No space left on device ({free.size} bytes free)", error.status
        )

    def _report(self, error: CopyError) -> None:
        self._session.report(error)

    def _local_error(self, path: str, reason: str) -> CopyError:
        return CopyError(self._session.settings.node, f"{path}: {reason}", path=path)

    # -- temporary files --

    def _temporary(self, target: bytes) -> bytes:
        directory, slash, name = target.rpartition(b"/")
        temporary = directory + slash + names.temporary_name(name, token_hex(6))
        self._session.temporaries.add(temporary)
        return temporary

    async def _remove_temporary(self, path: bytes) -> None:
        if path not in self._session.temporaries:
            return
        # It may not even have been made; what went wrong before is told.
        await _ignored(self._files.remove(path))
        self._session.temporaries.discard(path)


async def _ignored(reply: Pending[None]) -> None:
    """Wait for a reply whose contents do not matter."""
    try:
        await reply
    except SFTPProtocolError:
        raise
    except CopyError:
        return


def _reason(error: CopyError) -> str:
    return error.cause.rpartition(": ")[2]


def _with_slashes(path: str) -> bytes:
    """A local path as a remote one, for its last part."""
    text = path.replace(os.sep, "/") if os.sep != "/" else path
    return os.fsencode(text)
