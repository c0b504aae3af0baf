"""Parsers of any input raise documented errors only, in time proportional to the input.

Operations are counted in place of time: a clock on a busy machine shows noise.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyclustershell.buffers import LineBuffer
from pyclustershell.exceptions import (
    ConfigurationError,
    GroupResolverError,
    NodeConfigurationError,
    NodeSetException,
    RangeSetException,
    RangeSetParseError,
)
from pyclustershell.nodeset import NodeSet
from pyclustershell.nodeset.groups import GroupResolver
from pyclustershell.rangeset import RangeSet
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.knownhosts import KnownHosts

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIIIGVHPwG9vMzDZgZ+nDrNjIXDVRJ1bMEWXBHQ4WBeCd"

NO_GROUPS = GroupResolver()

# Texts that are nearly right go deeper than those that are not.
NODES = st.lists(
    st.sampled_from(
        ["node", "n", "[", "]", "-", ",", "/", "!", "&", "^", "1", "09", "2", "007", "%", "*", " "]
    ),
    max_size=25,
).map("".join)
CONFIG = st.lists(
    st.sampled_from(
        (
            *("Host ", "Match ", "all", "host ", "user ", "*", "!", "\n", "=", " ", '"', "'", "#"),
            *("\\", "Port 22", "Port ", "IdentityFile ", "~", "%h", "%", "${HOME}", "${", "a,b"),
            *("Include ", "HostName ", "ConnectTimeout ", "1m", "-1", "yes", "Ciphers +", "\t"),
            *("\x00", "\xff"),
        )
    ),
    max_size=40,
).map("".join)
KNOWN = st.lists(
    st.sampled_from(
        (
            *("host", ",", "*", "?", "!", " ", "ssh-ed25519 ", KEY, KEY[:20], "@revoked ", "\n"),
            *("#", "[", "@cert-authority ", "]:22", "|1|", "|", "AAAA", "=", "\t", "\x00"),
        )
    ),
    max_size=40,
).map("".join)


@given(NODES | st.text(max_size=40))
def test_node_sets(text: str) -> None:
    try:
        nodes = NodeSet(text, resolver=NO_GROUPS)
    except (NodeSetException, RangeSetException, GroupResolverError):
        return
    if len(nodes) < 10_000:
        assert NodeSet(str(nodes)) == nodes


@given(st.text(alphabet="0123456789-,/ab", max_size=30))
def test_range_sets(text: str) -> None:
    try:
        ranges = RangeSet(text)
    except RangeSetParseError:
        return
    assert RangeSet(str(ranges)) == ranges


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONFIG | st.text(max_size=100))
def test_client_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    options = SSHOptions(config_files=[str(path)])
    with contextlib.suppress(NodeConfigurationError, ConfigurationError):
        resolve("node1", options, config_cache=ConfigCache())


@given(KNOWN | st.text(max_size=100))
def test_known_hosts(text: str) -> None:
    hosts = KnownHosts.parse(text.splitlines(), "known_hosts")
    hosts.key_types("host")
    list(hosts.authorities("host"))
    list(hosts.of_host("[host]:22"))


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"a", b"\r\n"))))
def test_lines(pieces: list[bytes]) -> None:
    buffer = LineBuffer()
    lines = [line for piece in pieces for line in buffer.feed(piece)]
    rest = buffer.flush()
    whole = b"".join(pieces)
    expected = [line[:-1] if line.endswith(b"\r") else line for line in whole.split(b"\n")[:-1]]
    assert lines == expected
    assert (rest or b"") == whole.rpartition(b"\n")[2]


# -- how the time grows ----------------------------------------------------------------------------


def operations(function: Callable[[], Any]) -> int:
    """How many lines of Python a call runs."""
    count = 0

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def feed_lines(size: int) -> Callable[[], Any]:
    buffer = LineBuffer()
    return lambda: [buffer.feed(b"x" * 10) for _ in range(size)] + [buffer.flush()]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: lambda: NodeSet(",".join(f"node{i}" for i in range(n))),
        lambda n: lambda: NodeSet(",".join(f"rack{i}-n[1-4]" for i in range(n))),
        lambda n: lambda: NodeSet("node[" + ",".join(str(2 * i) for i in range(n)) + "]"),
        lambda n: lambda: KnownHosts.parse([f"h{i} ssh-ed25519 {KEY}" for i in range(n)], "file"),
        feed_lines,
    ],
    ids=["names", "racks", "ranges", "known_hosts", "lines"],
)
def test_the_work_grows_with_the_input(make: Callable[[int], Callable[[], Any]]) -> None:
    small, large = operations(make(200)), operations(make(1600))
    # Eight times the input: a quadratic algorithm would have 64 times the work.
    assert large < 16 * small
