"""How files are copied. Whoever asks for a copy does not pay for paramiko by saying so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyOptions:
    """How files are copied, either way.

    Attributes:
        preserve: whether modification times, access times and modes are those of the source.
        follow_symlinks: whether what a symbolic link leads to is copied; if not, the link is.
        inplace: whether files are written under their own names, instead of under temporary ones
            until they are whole.
        skip_unchanged: whether files that are there already, with the same size and modification
            time, are left alone.
        checksum: whether it is their contents that must be the same, not their times.
        fsync: whether each remote file is put on its disk before it gets its name.

    Raises:
        ValueError: they do not fit together.
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
