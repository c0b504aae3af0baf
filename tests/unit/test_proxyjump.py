"""Jump hosts and proxy commands: their form, and the settings of a node that result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyclustershell.exceptions import ConfigurationError, NodeConfigurationError
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.proxyjump import Hop, parse_chain
from pyclustershell.ssh.config.resolution import JumpHostResolver, resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("none", ()),
        ("gate", (Hop("gate"),)),
        ("bob@gate:2222", (Hop("gate", "bob", 2222),)),
        ("bob@example.org@gate", (Hop("gate", "bob@example.org"),)),
        ("a, b@c:1 ,d", (Hop("a"), Hop("c", "b", 1), Hop("d"))),
        ("ssh://bob@gate:2222", (Hop("gate", "bob", 2222),)),
        ("ssh://gate/", (Hop("gate"),)),
        ("[fe80::1]:22", (Hop("fe80::1", None, 22),)),
        ("bob@2001:db8::1", (Hop("2001:db8::1", "bob"),)),
    ],
)
def test_a_chain_of_jump_hosts(text: str, chain: tuple[Hop, ...]) -> None:
    assert parse_chain(text) == chain


@pytest.mark.parametrize("text", ["", "a,,b", "gate:0", "gate:99999", "gate:x", "@", "-x", "a b"])
def test_what_is_no_jump_host(text: str) -> None:
    with pytest.raises(ValueError, match="not a jump host"):
        parse_chain(text)


@pytest.mark.parametrize("value", [[], ["a", "none"], "gate:x", [1]])
def test_what_is_no_option(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="proxy_jump"):
        SSHOptions(proxy_jump=value)


@pytest.fixture
def cache(tmp_path: Path) -> ConfigCache:
    return ConfigCache(Environment("me", str(tmp_path), "here"))


def settings_of(
    cache: ConfigCache, config: str, node: str = "node1", **options: Any
) -> ConnectionSettings:
    path = Path(cache.environment.home) / "my_config"
    path.write_text(config)
    return resolve(node, SSHOptions(config_files=path, **options), config_cache=cache)


def chain_of(settings: ConnectionSettings) -> list[str]:
    """The hops to a node, the last one first, if there are no alternatives."""
    found = []
    while settings.proxies:
        [settings] = settings.proxies
        found.append(f"{settings.user}@{settings.hostname}:{settings.port}")
    return found


def test_each_hop_has_its_own_settings(cache: ConfigCache) -> None:
    config = """
        Host node*
            User root
            Port 2200
            ProxyJump a,bob@b:2222
        Host a
            HostName 10.0.0.1
            User alice
            ProxyJump z
        Host b
            HostName 10.0.0.2
            User carol
            ProxyCommand never
    """
    settings = settings_of(cache, config)
    assert (settings.user, settings.port) == ("root", 2200)
    # As in OpenSSH, the configuration may name a jump host of the first hop.
    assert chain_of(settings) == ["bob@10.0.0.2:2222", "alice@10.0.0.1:22", "me@z:22"]
    assert settings.proxies[0].proxy_command is None


def test_what_is_said_of_the_nodes_is_not_said_of_their_jump_host(cache: ConfigCache) -> None:
    settings = settings_of(cache, "", proxy_jump="gate", user="root", port=2222, password="secret")
    assert chain_of(settings) == ["me@gate:22"]
    assert settings.proxies[0].password is None


def test_alternatives_and_what_code_says_of_a_jump_host(cache: ConfigCache) -> None:
    said = {"gate1": SSHOptions(user="admin"), "gate2": SSHOptions(port=2222)}
    jump_hosts = JumpHostResolver(lambda name: said.get(name, SSHOptions()))
    options = SSHOptions(config_files="none", proxy_jump=["gate1", "x,gate2"])
    nodes = [
        resolve(node, options, config_cache=cache, jump_hosts=jump_hosts)
        for node in ("node1", "node2")
    ]
    one, two = nodes[0].proxies
    assert (one.user, one.hostname) == ("admin", "gate1")
    assert (two.hostname, two.port, two.proxies[0].hostname) == ("gate2", 2222, "x")
    # Made once: so all nodes behind it share a connection.
    assert nodes[1].proxies[0] is one


def test_a_jump_host_that_leads_back_is_an_error(cache: ConfigCache) -> None:
    config = "Host *\nProxyJump gate\n"
    with pytest.raises(NodeConfigurationError, match=r"leads back to gate.*ProxyJump none"):
        settings_of(cache, config)
    assert chain_of(settings_of(cache, "Host gate\nProxyJump none\n" + config)) == ["me@gate:22"]


def test_an_error_of_a_jump_host_names_it(cache: ConfigCache) -> None:
    with pytest.raises(NodeConfigurationError, match=r"jump host gate: .*line 2.* not supported"):
        settings_of(cache, "Host gate\nBindInterface eth0\n", proxy_jump="gate")


def test_tokens_of_proxy_command_and_proxy_jump(cache: ConfigCache) -> None:
    config = "HostName %h.org\nPort 2200\nUser root\nProxyCommand nc -x '%r' %h %p # %n %%\n"
    settings = settings_of(cache, config)
    assert settings.proxy_command == "nc -x 'root' node1.org 2200 # node1 %"
    assert settings_of(cache, "ProxyCommand none\nProxyJump x\n").proxy_command is None
    config = "Host node1\nProxyJump gate-of-%n\n"
    assert chain_of(settings_of(cache, config)) == ["me@gate-of-node1:22"]


def test_the_command_line(cache: ConfigCache) -> None:
    options = SSHOptions.parse_command_line("-J a,b -F none")
    assert chain_of(resolve("node1", options, config_cache=cache)) == ["me@b:22", "me@a:22"]
    with pytest.raises(ConfigurationError, match="not a jump host"):
        SSHOptions.parse_command_line("-J a:b:c")
