"""How files are copied; without an import of paramiko, so that options cost nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyOptions:
    """How files are copied, either way.

    Attributes:
        preserve: whether copies get the modes, access times and modification times of the source.
            Set-uid and set-gid bits are no part of that.
        follow_symlinks: whether a symbolic link's target is copied; if not, the link is, and no
            link below the destination is followed.
        inplace: whether files are written under their own names, and not under temporary names
            until they are complete.
        skip_unchanged: whether to skip files that exist with the same size and modification time.
        checksum: whether skip_unchanged compares contents, and not times.
        fsync: whether each remote file is flushed to its disk before it gets its name.

    Raises:
        ValueError: checksum is set without skip_unchanged.
    """

    preserve: bool = False
    follow_symlinks: bool = True
    inplace: bool = False
    skip_unchanged: bool = False
    checksum: bool = False
    fsync: bool = False

    def __post_init__(self) -> None:
        if self.checksum and not self.skip_unchanged:
            raise ValueError("checksum=True says how skip_unchanged=True compares: give both")
