"""Opens files that a user names, and refuses those whose reading would not end.

Each function is an opener for ``open(path, opener=...)``. Reading a device such as /dev/zero never
ends, and opening a pipe waits for its writer, perhaps for ever.
"""

from __future__ import annotations

import errno
import os
import stat

from . import platform

#: The largest file that is read, in bytes: the limit of OpenSSH's buffers (SSHBUF_SIZE_MAX).
LARGEST = 128 << 20

# A shell's process substitution, as in: ssh -F <(make_config). ssh reads it as well.
_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")

_NO_WAITING = getattr(os, "O_NONBLOCK", 0)

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def regular_file(path: str, flags: int) -> int:
    """Open a regular file, the null device, or a pipe of the shell (``/dev/fd/N``).

    Args:
        path: its path.
        flags: the flags of os.open().

    Returns:
        The descriptor.

    Raises:
        OSError: it is something else, or too large, or cannot be opened.
    """
    return _opened(path, flags, str(path).startswith(_DESCRIPTORS))


def file_or_pipe(path: str, flags: int) -> int:
    """The same for a file of a command line, where any pipe and the terminal will do as well."""
    return _opened(path, flags, True)


def _opened(path: str, flags: int, pipes: bool) -> int:
    if not platform.POSIX_FILES:
        return os.open(path, flags)
    if pipes and stat.S_ISFIFO(os.stat(path).st_mode):
        return os.open(path, flags)
    # Look at what was opened, and do not wait for it before.
    descriptor = os.open(path, flags | _NO_WAITING)
    try:
        _check(path, descriptor, pipes)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str, descriptor: int, pipes: bool) -> None:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        if status.st_size > LARGEST:
            reason = f"it has {status.st_size} bytes, more than {LARGEST}: name another file"
            raise OSError(errno.EFBIG, reason, path)
        return
    if stat.S_ISCHR(status.st_mode) and (
        status.st_rdev == os.stat(os.devnull).st_rdev or (pipes and os.isatty(descriptor))
    ):
        return
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind}: name a regular file", path)
