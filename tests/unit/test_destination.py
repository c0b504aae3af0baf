"""Names of nodes that give a user or a port, and the settings that result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyclustershell.exceptions import NodeConfigurationError
from pyclustershell.ssh.config.destination import Destination, destination_of
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache


@pytest.mark.parametrize(
    ("name", "destination"),
    [
        ("node1", Destination("node1")),
        ("alice@node1", Destination("node1", "alice")),
        ("a@b@node1", Destination("node1", "a@b")),
        ("node1:2222", Destination("node1", None, 2222)),
        ("alice@node1:2222", Destination("node1", "alice", 2222)),
        ("ssh://node1", Destination("node1")),
        ("ssh://alice@node1:2222", Destination("node1", "alice", 2222)),
        ("ssh://alice@node1:2222/", Destination("node1", "alice", 2222)),
        ("ssh://a%40b@node1", Destination("node1", "a@b")),
        ("a%40b@node1", Destination("node1", "a%40b")),
        ("::1", Destination("::1")),
        ("fe80::1%eth0", Destination("fe80::1%eth0")),
        ("[::1]", Destination("::1")),
        ("[::1]:2222", Destination("::1", None, 2222)),
        ("alice@::1", Destination("::1", "alice")),
        ("alice@[fe80::1%eth0]:22", Destination("fe80::1%eth0", "alice", 22)),
        ("ssh://alice@[::1]:2222", Destination("::1", "alice", 2222)),
    ],
)
def test_the_destination_of_a_name(name: str, destination: Destination) -> None:
    assert destination_of(name) == destination


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alice@", r"write \[user@\]host\[:port\]"),
        ("node1:", r"write \[user@\]host\[:port\]"),
        ("node1:ssh", r"write \[user@\]host\[:port\]"),
        ("[::1", r"write \[user@\]host\[:port\]"),
        (":22", r"write \[user@\]host\[:port\]"),
        ("ssh://", r"write \[user@\]host\[:port\]"),
        ("http://node1", r"write \[user@\]host\[:port\]"),
        ("a b@node1", r"write \[user@\]host\[:port\]"),
        ("node1:0", "a port is a number from 1 to 65535"),
        ("node1:65536", "a port is a number from 1 to 65535"),
        ("alice@-oProxyCommand=x", "does not begin with '-'"),
    ],
)
def test_a_name_that_is_no_destination(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        destination_of(name)
    assert repr(name) in str(caught.value)


CONFIG = """
Host node1
    User filed
    Port 2200
    HostName %h.example
"""


def settings_of(tmp_path: Path, node: str, **options: Any) -> ConnectionSettings:
    path = tmp_path / "my_config"
    path.write_text(CONFIG)
    cache = ConfigCache(Environment("me", str(tmp_path), "here"))
    return resolve(node, SSHOptions(config_files=path, **options), config_cache=cache)


@pytest.mark.parametrize(
    ("node", "options", "expected"),
    [
        ("node1", {}, "filed@node1.example:2200"),
        ("alice@node1", {}, "alice@node1.example:2200"),
        ("node1:22", {}, "filed@node1.example:22"),
        ("ssh://alice@node1:22", {}, "alice@node1.example:22"),
        # As with ssh -l bob -p 1 alice@node1.
        ("alice@node1:22", {"user": "bob", "port": 1}, "bob@node1.example:1"),
        ("alice@node1", {"overrides": ["User=bob"]}, "bob@node1.example:2200"),
        ("alice@node1", {"user": lambda node: node.upper()}, "ALICE@NODE1@node1.example:2200"),
        ("alice@[::1]:22", {}, "alice@::1:22"),
        ("other:23", {}, "me@other:23"),
    ],
)
def test_options_win_over_the_name_and_the_name_over_files(
    tmp_path: Path, node: str, options: dict[str, Any], expected: str
) -> None:
    found = settings_of(tmp_path, node, **options)
    assert f"{found.user}@{found.hostname}:{found.port}" == expected
    assert found.node == node


def test_a_wrong_name_is_an_error_of_its_node(tmp_path: Path) -> None:
    with pytest.raises(NodeConfigurationError, match="'node1:99999' is not") as caught:
        settings_of(tmp_path, "node1:99999")
    assert caught.value.node == "node1:99999"


def test_a_jump_host_that_leads_back_is_found_by_its_host(tmp_path: Path) -> None:
    with pytest.raises(NodeConfigurationError, match="leads back to node1"):
        settings_of(tmp_path, "alice@node1", proxy_jump="node1")
