"""Copies a local source to one node."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from secrets import token_hex
from typing import NamedTuple, Optional

from ... import platform
from ...exceptions import CopyError, SFTPProtocolError
from . import codec, names
from .codec import Attributes
from .copyoptions import CopyOptions
from .coroutines import BoundedGroup
from .files import DENIALS, RemoteFiles, succeeded
from .localpaths import plain
from .sftpsession import SftpSession
from .source import Entry, Kind, Source, SourceError

# How many files are copied at once, and how many bytes they may have together: many small files
# share the time of an answer, and large files follow each other.
_FILES_AT_ONCE = 32
_BYTES_AT_ONCE = 4 << 20

_WRITE_BITS = stat.S_IWUSR | stat.S_IXUSR | stat.S_IRUSR
_MODE = 0o7777

# The bits that copies of files and of directories get with preserve: those of scp -p, which drops
# set-uid and set-gid bits.
_FILE_MODE = 0o777
_DIRECTORY_MODE = 0o1777

_IS_LINK = "it is a link there, which is not followed with follow_symlinks=False"

# The reason of a server that denies renames, as its answer to the test is known.
_DENIED = codec.STATUS_TEXTS[codec.PERMISSION_DENIED]


class _Target(NamedTuple):
    """The target of a file.

    Attributes:
        path: its path, with links resolved.
        existing: the attributes of the existing file; None if there is none; attributes without a
            mode if the server does not tell.
    """

    path: bytes
    existing: Optional[Attributes]


class Upload:
    """One node's copy of a source. Made for one session, which runs :meth:`run`.

    Args:
        source: the source; other nodes' uploads share it.
        dest: the remote destination, as for scp: an existing directory gets the source under its
            own name.
        options: how to copy.

    Attributes:
        skipped: the remote paths of files that were up to date already.
    """

    def __init__(self, source: Source, dest: bytes, options: CopyOptions) -> None:
        self._source = source
        self._dest = dest
        self._options = options
        self.skipped: list[bytes] = []
        # Directories that this upload made: they hold no earlier files.
        self._made: set[bytes] = set()
        self._failed_directories: set[bytes] = set()

    async def run(self, session: SftpSession) -> None:
        """Copy all entries; report the ones that fail, and continue."""
        self._session = session
        self._files = RemoteFiles(session)
        first = self._source.entry(0)
        if first is None or first.kind is Kind.REFUSED:
            raise self._local_error(
                self._source.path, first.target.decode() if first is not None else "nothing there"
            )
        await self._files.learn_limits()
        root = await self._find_root(first)
        if not self._options.inplace:
            await self._files.learn_renames(root)
        group = BoundedGroup(_FILES_AT_ONCE, _BYTES_AT_ONCE, self._report)
        session.on_close(group.close)
        links = []
        index = 0
        while (entry := self._source.entry(index)) is not None:
            index += 1
            target = names.join(root, entry.relative)
            if self._is_below_a_failure(entry):
                continue
            if entry.kind is Kind.FILE:
                await group.start(self._copy_file(entry, target), entry.size)
            elif entry.kind is Kind.LINK:
                links.append((entry, target))
            else:
                await self._attempt(entry, target)
        await group.join()
        # Make the links last, so that no file is written through a link of this copy: some servers
        # do not distinguish upper and lower case.
        for entry, target in links:
            await self._attempt(entry, target)
        if self._options.preserve:
            await self._set_directory_times(root, index)

    # -- the target --

    async def _find_root(self, first: Entry) -> bytes:
        """Return the remote path of the source.

        Raises:
            CopyError: a file of another kind has this path.
        """
        dest = await self._files.expand(self._dest)
        existing = await self._files.look(dest)
        if existing is not None and existing.is_directory:
            return names.join(dest, names.base_name(_with_slashes(self._source.path)))
        if first.kind is Kind.DIRECTORY:
            if existing is not None and existing.mode is not None:
                raise self._session.error(dest, "Not a directory")
            return dest.rstrip(b"/") or dest
        if dest.endswith(b"/"):
            raise self._session.error(
                dest, "No such directory" if existing is None else "Not a directory"
            )
        return dest

    def _is_below_a_failure(self, entry: Entry) -> bool:
        if not self._failed_directories:
            return False
        path = entry.relative
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._failed_directories:
                return True
        return False

    # -- directories and links --

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
        # To copy files into it needs these bits. The server's umask clears some of the others.
        mode = entry.mode & 0o777 | _WRITE_BITS
        try:
            await self._files.mkdir(target, Attributes(mode=mode))
        except CopyError as error:
            existing = await self._files.look(target)
            if existing is None:
                raise
            if existing.mode is not None and not existing.is_directory:
                raise self._session.error(target, "Not a directory") from error
            if self._keeps_links(entry):
                found = await self._look_at_name(target)
                if found is not None and found.is_link:
                    raise self._session.error(target, _IS_LINK) from error
        else:
            self._made.add(target)

    async def _make_link(self, entry: Entry, target: bytes) -> None:
        files = self._files
        try:
            await files.symlink(entry.target, target, target)
        except CopyError as error:
            existing = await self._look_at_name(target)
            if existing is None:
                raise
            if existing.is_directory:
                raise self._session.error(target, "Is a directory") from error
        else:
            return
        if not files.replaces:
            raise self._cannot_replace(target, _DENIED, "remove it first")
        temporary = self._temporary(target)
        try:
            await files.symlink(entry.target, temporary, target)
            await files.replace(temporary, target)
        except CopyError as error:
            better = await self._without_temporary(temporary, target, error)
            raise better from _cause(better, error)

    async def _set_directory_times(self, root: bytes, count: int) -> None:
        """Set directories' times and modes last, from the bottom up: new files change them."""
        for index in range(count - 1, -1, -1):
            entry = self._source.entry(index)
            if (
                entry is None
                or entry.kind is not Kind.DIRECTORY
                or (entry.relative in self._failed_directories or self._is_below_a_failure(entry))
            ):
                continue
            # Windows has no modes: a directory keeps the one that the server's umask left.
            mode = entry.mode & _DIRECTORY_MODE if platform.POSIX_FILES else None
            try:
                await self._files.setstat(
                    names.join(root, entry.relative),
                    Attributes(mode=mode, atime=entry.atime, mtime=entry.mtime),
                )
            except CopyError as error:
                self._report(error)

    # -- files --

    async def _copy_file(self, entry: Entry, target: bytes) -> None:
        found = await self._look_at(entry, target)
        if await self._is_unchanged(entry, found):
            self.skipped.append(target)
            self._session.copied += entry.size
            return
        existing = found.existing
        if existing is not None and existing.is_directory:
            raise self._session.error(target, "Is a directory")
        # Write to a device or a pipe, as scp does; to replace it with a file would be worse.
        if self._options.inplace or (existing is not None and existing.is_special):
            await self._write(entry, found, found.path, codec.OPEN_TRUNCATE)
            return
        may_be_new = existing is None or existing.mode is None
        refusal = _DENIED
        if self._files.renames if may_be_new else self._files.replaces:
            refusal = await self._write_and_rename(entry, found)
            if not refusal:
                return
        if not may_be_new:
            raise self._cannot_replace(found.path, refusal)
        await self._write_new(entry, found, refusal)

    async def _write_and_rename(self, entry: Entry, found: _Target) -> str:
        """Write a file under a temporary name, and give it its own.

        Returns:
            ''; or the server's reason not to rename the file, which has been removed again.
        """
        temporary = self._temporary(found.path)
        try:
            await self._write(entry, found, temporary, codec.OPEN_EXCLUSIVE)
        except CopyError as error:
            better = await self._without_temporary(temporary, found.path, error)
            raise better from _cause(better, error)
        try:
            await self._files.replace(temporary, found.path)
        except CopyError as error:
            if error.status is None:
                better = await self._without_temporary(temporary, found.path, error)
                raise better from _cause(better, error)
            if found.existing is None and error.status in DENIALS:
                # There was nothing to replace: do not try it with the other files.
                self._files.renames = self._files.replaces = False
            left = await self._without_temporary(temporary, found.path, error)
            if left is not error:
                raise left from error
            return _reason(error)
        return ""

    async def _write_new(self, entry: Entry, found: _Target, refusal: str) -> None:
        """Write a file that does not exist yet under its own name, as no file can be renamed.

        Nothing is lost if this fails: the part that was written is removed.
        """
        path = found.path
        try:
            await self._write(entry, found, path, codec.OPEN_EXCLUSIVE)
        except CopyError as error:
            if path in self._session.temporaries:
                better = await self._without_temporary(path, path, error)
                raise better from _cause(better, error)
            if found.existing is None or error.status in (*DENIALS, codec.NO_SUCH_FILE):
                raise
            # Something else than a denial: the file exists. Version 3 has no status for that.
            raise self._cannot_replace(path, refusal) from error
        self._session.temporaries.discard(path)

    def _cannot_replace(
        self,
        path: bytes,
        reason: str,
        advice: str = "inplace=True writes over the file under its own name",
    ) -> CopyError:
        return self._session.error(
            path,
            f"the server does not rename another file to this name ({reason}), so nothing was "
            f"changed; {advice}",
            codec.PERMISSION_DENIED,
        )

    def _keeps_links(self, entry: Entry) -> bool:
        """True if a link with the name of this entry must not be followed.

        If links are copied as links, an earlier copy may have made it, and it may lead anywhere.
        """
        return not self._options.follow_symlinks and bool(entry.relative)

    async def _look_at(self, entry: Entry, target: bytes) -> _Target:
        """Look up the file at a path, and follow a link."""
        files = self._files
        if target.rpartition(b"/")[0] in self._made:
            return _Target(target, None)
        existing = await self._look_at_name(target)
        if existing is None:
            return _Target(target, None)
        if existing.mode is None:
            # It may be a link.
            try:
                path = await files.realpath(target)
            except CopyError:
                path = target
            return _Target(path, await files.look(path))
        if not existing.is_link:
            return _Target(target, existing)
        if self._keeps_links(entry):
            if self._options.inplace:
                raise self._session.error(target, _IS_LINK)
            return _Target(target, codec.NO_ATTRIBUTES)  # a file replaces the link
        # The link stays, and its target is replaced.
        path = await files.realpath(target)
        return _Target(path, await files.look(path))

    async def _look_at_name(self, path: bytes) -> Optional[Attributes]:
        """Get the attributes of a path, without following a link.

        Returns:
            The attributes; None if nothing has this path; attributes without a mode if the server
            does not tell.
        """
        try:
            return await self._files.lstat(path)
        except CopyError as error:
            if error.status == codec.NO_SUCH_FILE:
                return None
        with suppress(CopyError):
            await self._files.readlink(path)
            return Attributes(mode=stat.S_IFLNK | 0o777)
        return codec.NO_ATTRIBUTES

    async def _is_unchanged(self, entry: Entry, found: _Target) -> bool:
        options, existing = self._options, found.existing
        if not options.skip_unchanged or existing is None or existing.size != entry.size:
            return False
        if not options.checksum:
            return existing.mtime == entry.mtime
        return not existing.is_special and await self._has_contents(entry, found.path)

    async def _has_contents(self, entry: Entry, path: bytes) -> bool:
        """Read a remote file, and compare its contents with the source's.

        No hash is requested: few servers offer one, and OpenSSH's does not.
        """
        files = self._files
        same = True

        def compare(offset: int, data: memoryview) -> None:
            nonlocal same
            same = same and self._block(entry, offset, len(data)) == data

        handle = await files.open(path, codec.OPEN_READ)
        end = await files.read_all(handle, entry.size, compare, path)
        await files.close(handle, path)
        return same and not self._block(entry, end, 1)

    async def _write(self, entry: Entry, found: _Target, path: bytes, flag: int) -> None:
        """Write a file's contents and attributes, under its own or a temporary name.

        Args:
            entry: the local file.
            found: the remote one.
            path: the path to write to.
            flag: OPEN_TRUNCATE to write over a file; OPEN_EXCLUSIVE for a new one, which is a
                temporary file of the session from then on.
        """
        files, about = self._files, found.path
        in_place = path == about
        flags = codec.OPEN_WRITE | codec.OPEN_CREATE | flag
        mode = Attributes(mode=self._first_mode(entry, found.existing))
        try:
            handle = await files.open(path, flags, mode, about)
        except CopyError:
            if path in self._session.temporaries:
                await succeeded(files.remove(path))
                self._session.temporaries.discard(path)
            raise
        if flag == codec.OPEN_EXCLUSIVE:
            self._session.temporaries.add(path)
        try:
            await files.write_all(
                handle, lambda offset, size: self._block(entry, offset, size), about
            )
        except CopyError as error:
            await succeeded(files.close(handle, about))
            better = await self._explain(error, entry, about)
            raise better from _cause(better, error)
        # Send these together: a server processes requests for one file in order (filexfer-02, 6.1).
        owner = None if in_place else self._owner(found.existing)
        owned = None if owner is None else files.fsetstat(handle, owner, about)
        change = self._change(entry, found.existing, in_place)
        if change is not None and change.mode is not None:
            bits = change.mode
            # Set-uid bits are only for the owner that they were set for; so are a group's rights,
            # if the mode is that of the file which is replaced.
            if bits & ~_DIRECTORY_MODE or (owner and not self._options.preserve and _favours(bits)):
                if owned is None or not await succeeded(owned):
                    bits &= _FILE_MODE
                    if owner and not await self._keep_group(handle, owner, about):
                        bits &= ~stat.S_IRWXG | (bits & stat.S_IRWXO) << 3
                    change = change._replace(mode=bits)
                owned = None
        changed = None if change is None else files.fsetstat(handle, change, about)
        failed_sync = None
        if self._options.fsync:
            try:
                await files.fsync(handle, about)
            except CopyError as error:
                failed_sync = error
        closed = files.close(handle, about)
        if owned is not None:
            await succeeded(owned)  # only root may change the owner
        refused = changed is not None and not await succeeded(changed)
        try:
            await closed
        except CopyError as error:
            # With quotas and network file systems, close() may be the first call to fail.
            better = await self._explain(error, entry, about)
            raise better from _cause(better, error)
        if failed_sync is not None:
            raise failed_sync
        if refused and change is not None:
            await self._set_by_path(path, change, about)

    async def _set_by_path(self, path: bytes, change: Attributes, about: bytes) -> None:
        """Set the attributes of a closed file, as the server does not set those of an open one.

        Raises:
            CopyError: the server refuses this as well, and the file has not got its mode from the
                request that opened it.
        """
        try:
            await self._files.setstat(path, change)
        except CopyError as error:
            if self._options.preserve:
                raise self._session.error(
                    about,
                    f"the server does not set times and modes ({_reason(error)}): copy it without "
                    "preserve",
                    error.status,
                ) from error
            found = await self._files.look(path)
            if found is None or found.mode is None or found.mode & _MODE != change.mode:
                raise self._session.error(
                    about,
                    f"the server does not set modes ({_reason(error)}), and a new file would not "
                    "have the mode of this one; inplace=True writes over the file",
                    error.status,
                ) from error

    def _first_mode(self, entry: Entry, existing: Optional[Attributes]) -> int:
        """Return the mode of the new file: never more permissive than the final mode."""
        if existing is not None and existing.mode is not None:
            return existing.mode & entry.mode & 0o777
        return entry.mode & 0o777

    async def _keep_group(self, handle: bytes, owner: Attributes, about: bytes) -> bool:
        """Give a new file the group of the one that it replaces, whose owner cannot be kept.

        Returns:
            False if it has another group.
        """
        try:
            found = await self._files.fstat(handle, about)
        except CopyError:
            return False
        if found.gid == owner.gid or found.uid is None:
            return found.gid == owner.gid
        kept = Attributes(uid=found.uid, gid=owner.gid)
        return await succeeded(self._files.fsetstat(handle, kept, about))

    @staticmethod
    def _owner(existing: Optional[Attributes]) -> Optional[Attributes]:
        """Return the owner of the file to be replaced: the new file gets the same owner."""
        if existing is None or existing.uid is None or existing.gid is None:
            return None
        return Attributes(uid=existing.uid, gid=existing.gid)

    def _change(
        self, entry: Entry, existing: Optional[Attributes], in_place: bool
    ) -> Optional[Attributes]:
        """Return the attributes to set on the complete file; None for none."""
        if existing is not None and existing.is_special:
            return None
        mode = None
        if self._options.preserve and platform.POSIX_FILES:
            mode = entry.mode & _FILE_MODE
        elif not in_place and existing is not None and existing.mode is not None:
            mode = existing.mode & _MODE
        if self._options.preserve:
            return Attributes(mode=mode, atime=entry.atime, mtime=entry.mtime)
        return None if mode is None else Attributes(mode=mode)

    def _block(self, entry: Entry, offset: int, size: int) -> memoryview:
        try:
            return self._source.block(entry, offset, size)
        except SourceError as error:
            raise self._local_error(entry.local, str(error)) from error

    # -- failures --

    async def _explain(self, error: CopyError, entry: Entry, path: bytes) -> CopyError:
        """Find a better reason than 'Failure', version 3's only status for a full disk."""
        if error.status != codec.FAILURE:
            return error
        found = await self._files.file_system(path)
        if found is None or found.free > entry.size:
            return self._session.error(
                path,
                f"{_reason(error)}; the server gives no reason, a quota may be used up",
                error.status,
            )
        return self._session.error(
            path, f"No space left on device ({found.free} bytes free)", error.status
        )

    def _report(self, error: CopyError) -> None:
        self._session.report(error)

    def _local_error(self, path: str, reason: str) -> CopyError:
        path = plain(path)
        return CopyError(self._session.settings.node, f"{path}: {reason}", path=path)

    # -- temporary files --

    def _temporary(self, target: bytes) -> bytes:
        directory, slash, name = target.rpartition(b"/")
        temporary = directory + slash + names.temporary_name(name, token_hex(6))
        self._session.temporaries.add(temporary)
        return temporary

    async def _without_temporary(self, path: bytes, target: bytes, error: CopyError) -> CopyError:
        """Remove a temporary file; return the error to raise.

        Args:
            path: its path.
            target: the path that it was for.
            error: the reason why it is not needed.

        Returns:
            ``error``; or one that says that the file stays.
        """
        if path not in self._session.temporaries:
            return error
        try:
            await self._files.remove(path)
        except CopyError as removal:
            if removal.status != codec.NO_SUCH_FILE:
                part = (
                    "the part that was written" if path == target else "a temporary file beside it"
                )
                error = self._session.error(
                    target,
                    f"{_reason(error)}; {part} stays, as the server does not remove files "
                    f"({_reason(removal)})",
                    error.status,
                )
        self._session.temporaries.discard(path)
        return error


def _favours(mode: int) -> bool:
    """True if a mode gives a group rights that not everybody has."""
    return bool(mode >> 3 & ~mode & stat.S_IRWXO)


def _cause(better: CopyError, error: CopyError) -> Optional[CopyError]:
    """The cause of an error that may be better explained: none if it is the same error.

    An error that were its own cause would wait for the garbage collector.
    """
    return None if better is error else error


def _reason(error: CopyError) -> str:
    """Return the cause of an error without the path at its beginning."""
    prefix = f"{error.path}: "
    return error.cause[len(prefix) :] if error.cause.startswith(prefix) else error.cause


def _with_slashes(path: str) -> bytes:
    """Convert a local path to one with '/', to take its last part."""
    text = path.replace(os.sep, "/") if os.sep != "/" else path
    return os.fsencode(text)
