"""Checks of a server's names before they are used on this host."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyclustershell.ssh.sftp import names


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("name", [b"", b".", b"..", b"/", b"a/b", b"/etc", b"../x", b"a\0b"])
def test_refused_everywhere(name: bytes, windows: bool) -> None:
    assert names.why_unsafe(name, windows) is not None


@pytest.mark.parametrize(
    "name",
    [
        *(b"C:", b"C:x", b"..\\x", b"a\\b", b"file:stream"),
        *(b"CON", b"con.txt", b"COM1", b"lpt9.log", b"nul", b"NUL .txt", b"CONIN$"),
        *(b"Aux.", b"dot.", b"blank ", b"a?b", b"a*b", b'a"b', b"a<b", b"a|b", b"a\nb"),
        *(b"\xff", "com\u00b9".encode()),
    ],
)
def test_refused_on_windows_only(name: bytes) -> None:
    assert names.why_unsafe(name, windows=True) is not None
    assert names.why_unsafe(name, windows=False) is None


@pytest.mark.parametrize("name", [b"a", b".hidden", b"console", b"com", b"a b", b"nulls.x"])
@pytest.mark.parametrize("windows", [False, True])
def test_good_names(name: bytes, windows: bool) -> None:
    assert names.why_unsafe(name, windows) is None


@given(st.binary(max_size=12))
def test_what_is_safe_stays_in_its_directory(name: bytes) -> None:
    if names.why_unsafe(name, windows=False) is None:
        path = posixpath.normpath(posixpath.join(b"/dest/dir", name))
        assert posixpath.dirname(path) == b"/dest/dir"


@pytest.mark.parametrize(
    ("target", "depth", "safe"),
    [
        (b"file", 0, True),
        (b"./a/../b", 0, True),
        (b"../b", 1, True),
        (b"../../x/y", 2, True),
        (b"a/../../b", 1, True),
        (b"..", 0, False),
        (b"a/../../b", 0, False),
        (b"../../..", 2, False),
        (b"/etc/passwd", 5, False),
        (b"", 0, False),
        (b"a\0b", 0, False),
    ],
)
def test_links_stay_in_the_copied_tree(target: bytes, depth: int, safe: bool) -> None:
    assert (names.why_link_leads_out(target, depth, windows=False) is None) is safe


@given(st.lists(st.sampled_from([b"..", b".", b"a", b""]), max_size=8), st.integers(0, 3))
def test_a_link_that_is_allowed_leads_nowhere_else(parts: list[bytes], depth: int) -> None:
    target = b"/".join(parts)
    if names.why_link_leads_out(target, depth, windows=False) is None:
        place = b"/".join([b"/top", *[b"d"] * depth])
        reached = posixpath.normpath(posixpath.join(place, target))
        assert reached == b"/top" or reached.startswith(b"/top/")


def test_links_on_windows_hosts_have_windows_names() -> None:
    assert names.why_link_leads_out(b"..\\..\\x", 0, windows=True) is not None


@pytest.mark.parametrize(
    ("path", "base"),
    [(b"a/b", b"b"), (b"a/b/", b"b"), (b".", b""), (b"..", b""), (b"/", b""), (b"a/.", b"")],
)
def test_base_names(path: bytes, base: bytes) -> None:
    assert names.base_name(path) == base


def test_paths_are_joined() -> None:
    assert names.join(b"/a", b"b") == b"/a/b"
    assert names.join(b"/", b"b") == b"/b"
    assert names.join(b"", b"b") == b"b"
    assert names.join(b"/a", b"") == b"/a"


def test_a_temporary_name_is_no_longer_than_names_can_be() -> None:
    name = names.temporary_name(b"x" * 255, "0123456789ab")
    assert len(name) <= 255
    assert names.why_unsafe(name, windows=True) is None


@given(st.text("a\u00e9\u20ac\U0001f600", max_size=300))
def test_a_temporary_name_is_text_where_the_name_is(name: str) -> None:
    assert names.temporary_name(name.encode(), "0").decode().startswith(f".{name[:50]}")
