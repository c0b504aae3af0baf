"""The samples that the laboratory copies, and the check of the copies on both sides.

Every node with SFTP has a home directory of its own. It is on this machine, so that the client's
process can look into it. It holds the samples that are copied from the node, with contents that no
other directory has.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

#: The samples by name: their files with sizes in bytes, '' for a sample that is a file itself.
SAMPLES: Mapping[str, Mapping[str, int]] = {
    "empty": {"": 0},
    "small": {"": 1000},
    "large": {"": 700_000},
    "tree": {
        "a": 10,
        "empty": 0,
        "sub/b": 40_000,
        "sub/below/c": 300_000,
        **{f"many/{index}": 100 for index in range(40)},
    },
}

#: The contents of a file that exists before the copy.
OLD = b"old\n" * 100


def size(sample: str) -> int:
    """How many bytes a sample has."""
    return sum(SAMPLES[sample].values())


def contents(home: Path, sample: str) -> dict[str, bytes]:
    """The files of a directory's sample, by their paths in it."""
    # Every directory has bytes of its own, so that a file from another one is noticed.
    return {
        path: random.Random(f"{home}/{sample}/{path}").randbytes(length)  # noqa: S311
        for path, length in SAMPLES[sample].items()
    }


def make_samples(home: Path) -> None:
    """Put all samples into a directory."""
    for sample in SAMPLES:
        for path, data in contents(home, sample).items():
            file = home / sample / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


class Copied(NamedTuple):
    """One node's copy, after its run.

    Attributes:
        where: a name of the copy for error messages.
        source: the directory whose sample was copied.
        sample: the sample.
        target: its path after the copy.
        done: whether it has succeeded.
        existed: whether there was an OLD file in its place.
        tidy: whether no temporary file may be left.
    """

    where: str
    source: Path
    sample: str
    target: Path
    done: bool
    existed: bool
    tidy: bool

    def temporaries(self) -> list[Path]:
        """The temporary files of this copy that are there now."""
        name = self.target.name
        return [*self.target.parent.glob(f".{name}.*.part"), *self.target.rglob("*.part")]

    def fault(self) -> Optional[str]:
        """The fault of the files that have their final names; None if there is none."""
        wanted = contents(self.source, self.sample)
        found = _files(self.target)
        for path, data in found.items():
            if path not in wanted:
                return f"{self.where}: {path!r} should not be there"
            old = self.existed and not self.done and data == OLD
            if data != wanted[path] and not old:
                return (
                    f"{self.where}: {path!r} is not what it should be: "
                    f"{len(data)} of {len(wanted[path])} bytes"
                )
        missing = sorted(set(wanted) - set(found))
        if self.done and missing:
            return f"{self.where}: missing: {missing}"
        if self.existed and not found:
            return f"{self.where}: what was there before is gone"
        return None


def _files(target: Path) -> dict[str, bytes]:
    """The files in a directory by their paths in it, or one file; temporary ones left out."""
    if target.is_file():
        return {"": target.read_bytes()}
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and path.suffix != ".part"
    }
