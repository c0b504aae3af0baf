"""The local source of a copy: files are read to their end, and all nodes get the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyclustershell.ssh.sftp import source as source_module
from pyclustershell.ssh.sftp.source import Entry, Source, SourceError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 40)
    return path


@pytest.fixture
def source(file: Path) -> Iterator[Source]:
    found = Source(str(file))
    yield found
    found.close()


def entry_of(source: Source) -> Entry:
    entry = source.entry(0)
    assert entry is not None
    return entry


def read(source: Source, entry: Entry, size: int, most: int = 1000) -> bytes:
    """Read a file in blocks of a size, as a node does; at most so many blocks."""
    found = b""
    for _ in range(most):
        block = source.block(entry, len(found), size)
        if not block:
            break
        found += block
    return found


@pytest.mark.parametrize("block", [1, 999, 1000, 4096, 10_000, 1 << 18])
@pytest.mark.parametrize("said", [0, 1, 4096, 9_999, 10_000])
def test_a_file_is_read_to_its_end(file: Path, source: Source, said: int, block: int) -> None:
    entry = entry_of(source)._replace(size=said)
    assert read(source, entry, block, most=20_000) == file.read_bytes()


def test_a_file_that_is_shorter_than_the_system_says(
    file: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files of /sys: the size is one page before and after."""
    entry = entry_of(source)
    whole = file.read_bytes()
    real = source_module._read_at
    monkeypatch.setattr(
        source_module, "_read_at", lambda fd, offset, size: real(fd, offset, size)[: 30 - offset]
    )
    assert read(source, entry, 4096) == whole[:30]


def test_answers_in_pieces_are_joined(
    file: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files of /proc give them: only an empty answer is the end."""
    entry = entry_of(source)._replace(size=0)
    real = source_module._read_at
    monkeypatch.setattr(
        source_module, "_read_at", lambda fd, offset, size: real(fd, offset, min(size, 77))
    )
    blocks = [bytes(source.block(entry, offset, 4096)) for offset in (0, 4096, 8192, 10_000)]
    assert [len(block) for block in blocks] == [4096, 4096, 1808, 0]
    assert b"".join(blocks) == file.read_bytes()


def test_a_file_that_grows_ends_for_all_nodes_at_the_same_place(
    file: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_KEPT", 0)  # so that blocks are read again
    before = file.read_bytes()
    entry = entry_of(source)
    slow = read(source, entry, 4096, most=1)
    with open(file, "ab") as log:
        log.write(b"more")
        log.flush()
        first = read(source, entry, 4096)
        log.write(b" and more" * 1000)
        log.flush()
        assert first == before + b"more"
        assert read(source, entry, 4096) == first
        assert read(source, entry, 777) == first
        assert slow == first[:4096]
        assert bytes(source.block(entry, 8192, 4096)) == first[8192:]


def test_a_file_that_becomes_shorter_fails(file: Path, source: Source) -> None:
    entry = entry_of(source)
    assert len(source.block(entry, 0, 4096)) == 4096
    os.truncate(file, 5000)
    with pytest.raises(SourceError, match="it became shorter while it was copied"):
        read(source, entry, 1000)


def test_a_file_that_becomes_shorter_for_the_second_node_fails(
    file: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_KEPT", 0)
    entry = entry_of(source)._replace(size=0)
    assert read(source, entry, 4096) == file.read_bytes()
    os.truncate(file, 5000)
    with pytest.raises(SourceError, match="it became shorter while it was copied"):
        read(source, entry, 4096)


def test_a_file_that_is_replaced_fails(file: Path, source: Source) -> None:
    """One half of it could be the new file's."""
    entry = entry_of(source)
    other = file.with_name("other")
    other.write_bytes(bytes(20_000))
    os.replace(other, file)
    with pytest.raises(SourceError, match="another file has its name"):
        source.block(entry, 0, 4096)
