"""SSHOptions: checks, precedence, secrets; and the settings of one node."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import paramiko
import pytest

from pyclustershell.exceptions import ConfigurationError, NodeConfigurationError
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import (
    ConnectionSettings,
    is_known_hosts_entry,
    select_algorithms,
)
from pyclustershell.ssh.config.sshconfig import ConfigCache

KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3NzaC1lZDI1NTE5AAAAIJ3NzaC1lZDI1NTE5AAAA"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nnever to be shown\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def cache(tmp_path: Path) -> ConfigCache:
    """A cache for a user 'me' whose home is empty, on a machine without SSH configuration."""

    class Context(Environment):
        system_directory = str(tmp_path / "etc")

    return ConfigCache(Context("me", str(tmp_path), "here.example.org"))


def settings_of(
    cache: ConfigCache, config: str = "", node: str = "node1", **options: Any
) -> ConnectionSettings:
    """Resolve a node with a configuration text and options."""
    path = Path(cache.environment.home) / "my_config"
    path.write_text(config)
    return resolve(node, SSHOptions(config_files=path, **options), config_cache=cache)


# -- options ---------------------------------------------------------------------------------------


def test_nothing_is_set_unless_it_is_said() -> None:
    assert repr(SSHOptions()) == "SSHOptions()"


@pytest.mark.parametrize(
    ("name", "near"),
    [("pasword", "password"), ("timeout", None), ("hostkey_policy", "host_key_policy")],
)
def test_an_unknown_option_is_named_with_its_neighbour(name: str, near: str | None) -> None:
    with pytest.raises(TypeError, match=f"unknown SSH option '{name}'") as raised:
        SSHOptions(**{name: "x"})
    if near:
        assert f"did you mean '{near}'" in str(raised.value)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="keyword arguments only"):
        SSHOptions("root")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", 5),
        ("user", b"root"),
        ("port", "22"),
        ("port", True),
        ("hostname", ["a"]),
        ("password", b"x"),
        ("passphrase", 1),
        ("pkeys", 7),
        ("pkeys", [None]),
        ("certificates", [3]),
        ("agent", 1),
        ("keyboard_interactive", "answer"),
        ("config_files", 1),
        ("known_hosts", [b"a"]),
        ("forward_agent", "yes"),
        ("env", 1),
        ("env", {"A": 1}),
        ("env", [("A", "1", "2")]),
        ("env", ["AB"]),
        ("pty", "yes"),
        ("compression", 1),
        ("keepalive", "10"),
        ("connect_timeout", "5"),
        ("connect_timeout", True),
        ("auth_timeout", None.__class__),
        ("connect_retries", 1.5),
        ("ciphers", 1),
        ("identities_only", "no"),
        ("overrides", [1]),
    ],
)
def test_a_value_of_the_wrong_type_names_the_option(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        SSHOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", ""),
        ("user", "a\nb"),
        ("port", 0),
        ("port", 65536),
        ("host_key_policy", "yes"),
        ("connect_timeout", 0),
        ("connect_timeout", -1),
        ("connect_timeout", float("nan")),
        ("auth_timeout", float("inf")),
        ("keepalive", -1),
        ("connect_retries", -1),
        ("ciphers", "a,,b"),
        ("ciphers", "\ud800"),
        ("proxy_jump", "gate\ud800"),
        ("hostname", "\ud800"),
        ("ciphers", ""),
        ("env", {"": "1"}),
        ("env", {"A=B": "1"}),
        ("address_family", 99),
        ("overrides", ["Prot=22"]),
        ("overrides", ["Host x"]),
        ("overrides", ["# nothing"]),
    ],
)
def test_a_wrong_value_names_the_option(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}|Prot"):
        SSHOptions(**{name: value})


def test_a_wrong_secret_is_not_repeated() -> None:
    with pytest.raises(TypeError) as raised:
        SSHOptions(password=["geheim"])  # type: ignore[arg-type]
    assert "geheim" not in str(raised.value)


def test_repr_shows_no_secret() -> None:
    key = paramiko.ECDSAKey.generate()
    options = SSHOptions(
        user="bob",
        password="geheim",
        passphrase="geheim2",
        pkeys=[PEM, "/path/to/key", key],
        env={"TOKEN": "geheim3"},
        keyboard_interactive=lambda *_: ["geheim4"],
    )
    shown = repr(options)
    assert "geheim" not in shown
    assert "never to be shown" not in shown
    for expected in ("user='bob'", "/path/to/key", "'TOKEN'", "SHA256:"):
        assert expected in shown


def test_options_are_values() -> None:
    options = SSHOptions(user="a", env={"A": "1"}, pkeys=["k"], overrides={"HostKeyAlias": "x"})
    again = SSHOptions(user="a", env={"A": "1"}, pkeys=("k",), overrides=["HostKeyAlias x"])
    assert options == again
    assert hash(options) == hash(again)
    assert copy.deepcopy(options) == options
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301 - our own


def test_over_keeps_what_is_set_and_takes_the_rest() -> None:
    strong = SSHOptions(user="a", overrides=["HostKeyAlias=1"])
    weak = SSHOptions(user="b", port=5, overrides=["HostKeyAlias=2", "PasswordAuthentication=no"])
    both = strong.over(weak)
    assert (both.user, both.port) == ("a", 5)
    assert [setting.value for setting in both.overrides] == ["1", "2", False]


def test_the_first_of_jump_host_and_proxy_command_wins() -> None:
    command, jump = ["ProxyCommand=x"], ["ProxyJump=a"]
    assert SSHOptions(overrides=command + jump).proxy_jump is None
    assert SSHOptions(overrides=jump + command).proxy_jump == ("a",)
    assert SSHOptions(overrides=command).over(SSHOptions(proxy_jump="a")).proxy_jump is None
    assert SSHOptions(proxy_jump="a").over(SSHOptions(overrides=command)).proxy_jump == ("a",)


def test_an_override_becomes_the_option_of_its_own() -> None:
    line = SSHOptions.parse_command_line("-o User=a -o User=b -o ConnectTimeout=3")
    assert (line.user, line.connect_timeout, line.overrides) == ("a", 3.0, ())
    assert line.over(SSHOptions(user="weak", connect_timeout=10)).connect_timeout == 3.0


# -- the command line ------------------------------------------------------------------------------


def test_a_command_line() -> None:
    options = SSHOptions.parse_command_line(
        "-F 'my config' -o 'Port 2222' -oCompression=yes -lroot -i a -i b -A -4 -tt -b 127.0.0.1 "
        "-c aes128-ctr -m hmac-sha2-256 -J gate -p 99"
    )
    assert options == SSHOptions(
        config_files="my config",
        port=2222,
        compression=True,
        user="root",
        identity_files=["a", "b"],
        forward_agent=True,
        address_family=socket.AF_INET,
        pty=True,
        bind_address="127.0.0.1",
        ciphers="aes128-ctr",
        macs="hmac-sha2-256",
        proxy_jump="gate",
    )


def test_values_keep_spaces_quotes_and_backslashes() -> None:
    options = SSHOptions.parse_command_line(r"""-i 'C:\my "keys"\a b' -l "bob smith" """)
    assert options.identity_files == (r'C:\my "keys"\a b',)
    assert options.user == "bob smith"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-q -x -n -v -vvv -N -f -M -S /tmp/socket -e none -E log",
        "-o ControlMaster=auto -o ControlPath=/tmp/x -o ControlPersist=10m -o BatchMode=yes",
        "-oLogLevel=ERROR -o VisualHostKey=no",
    ],
)
def test_what_concerns_the_ssh_program_means_nothing(line: str) -> None:
    assert SSHOptions.parse_command_line(line) == SSHOptions()


def test_flags_can_be_joined() -> None:
    options = SSHOptions.parse_command_line("-qTC4p2222")
    assert (options.pty, options.compression, options.port) == (False, True, 2222)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("-A -a", "forward_agent", False),
        ("-a -A", "forward_agent", True),
        ("-o ForwardAgent=no -A", "forward_agent", True),
        ("-A -o ForwardAgent=no", "forward_agent", True),
        ("-o ForwardAgent=/x -A", "forward_agent", "/x"),
        ("-A -o ForwardAgent=/x", "forward_agent", "/x"),
        ("-o ForwardAgent=/x -a", "forward_agent", False),
        ("-4 -6", "address_family", socket.AF_INET6),
        ("-64", "address_family", socket.AF_INET),
        ("-t -T", "pty", False),
        ("-T -tt", "pty", True),
        ("-c aes128-ctr -c aes256-ctr", "ciphers", "aes256-ctr"),
        ("-m hmac-sha1 -m hmac-sha2-256", "macs", "hmac-sha2-256"),
        ("-b 127.0.0.1 -b 127.0.0.2", "bind_address", "127.0.0.2"),
        ("-o Compression=no -C", "compression", True),
        ("-l a -l b -o User=c", "user", "a"),
        ("-o Port=1 -p 2", "port", 1),
    ],
)
def test_the_last_switch_wins_and_the_first_setting(line: str, name: str, value: object) -> None:
    assert getattr(SSHOptions.parse_command_line(line), name) == value


def test_switches_of_gssapi() -> None:
    def said(line: str) -> dict[str, object]:
        return {s.keyword: s.value for s in SSHOptions.parse_command_line(line).overrides}

    both = {"GSSAPIAuthentication": True, "GSSAPIDelegateCredentials": True}
    assert said("-k -K") == both
    assert said("-K -k") == {**both, "GSSAPIDelegateCredentials": False}
    assert said("-o GSSAPIDelegateCredentials=yes -k") == {"GSSAPIDelegateCredentials": False}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-J a -J b", "-J: ProxyJump was given before it.*-J first,second"),
        ("-o ProxyCommand=x -J b", "-J: ProxyCommand was given before it"),
        ("-Z", "unknown SSH option -Z"),
        ("-qZ", "unknown SSH option -Z"),
        ("--port 22", "unknown SSH option --"),
        ("host", "unexpected argument 'host'"),
        ("-p", "-p lacks its value"),
        ("-p x", "-p: Port: 'x' is not a port"),
        ("-o Prot=22", "-o: unknown keyword 'Prot'"),
        ("-o ''", "-o: '' is not a setting"),
        ("-o 'Host x'", "-o: 'Host x' is not a setting"),
        ("-o Match=all", "is not a setting"),
        ("-L 1:a:2", "-L is not supported"),
        ("-X", "-X is not supported"),
        ("-W a:1", "-W is not supported"),
        ("-o 'User", "No closing quotation"),
        ("-o StrictHostKeyChecking=perhaps", "is not one of"),
    ],
)
def test_a_wrong_command_line_names_the_option(line: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SSHOptions.parse_command_line(line)


# -- settings --------------------------------------------------------------------------------------


def test_defaults(cache: ConfigCache, tmp_path: Path) -> None:
    settings = resolve("Node1", SSHOptions(), config_cache=cache)
    home = tmp_path / ".ssh"
    assert settings == ConnectionSettings(
        node="Node1",
        hostname="node1",
        port=22,
        user="me",
        host_key_alias=None,
        identity_files=tuple(str(home / f"id_{kind}") for kind in ("ed25519", "ecdsa", "rsa")),
        identity_files_given=False,
        identities_only=False,
        pkeys=(),
        certificates=(),
        password=None,
        passphrase=None,
        agent=True,
        identity_agent=None,
        keyboard_interactive=None,
        preferred_authentications=("publickey", "keyboard-interactive", "password"),
        gssapi_host="node1",
        gssapi_delegate=False,
        known_hosts=(str(home / "known_hosts"), str(home / "known_hosts2")),
        global_known_hosts=tuple(
            str(tmp_path / "etc" / name) for name in ("ssh_known_hosts", "ssh_known_hosts2")
        ),
        host_key_policy="strict",
        revoked_host_keys=None,
        hash_known_hosts=False,
        address_family=socket.AF_UNSPEC,
        bind_address=None,
        connect_timeout=10.0,
        auth_timeout=30.0,
        connect_retries=None,
        tcp_keepalive=True,
        keepalive=0.0,
        keepalive_count=3,
        ciphers=None,
        macs=None,
        kex=None,
        host_key_algorithms=None,
        pubkey_algorithms=None,
        compression=False,
        rekey_limit=(0, 0.0),
        forward_agent=False,
        env=(),
        pty=False,
    )
    assert hash(settings) == hash(resolve("Node1", SSHOptions(), config_cache=cache))


def test_a_configuration_file(cache: ConfigCache, tmp_path: Path) -> None:
    settings = settings_of(
        cache,
        """
        Host node*
            HostName %h.Cluster
            User bob
            Port 2222
            IdentityFile ~/.ssh/%r@%n
            IdentityFile ${HERE}/%h
            IdentitiesOnly yes
            CertificateFile %d/cert
            UserKnownHostsFile ~/kh_%k /two
            GlobalKnownHostsFile none
            HostKeyAlias Alias
            StrictHostKeyChecking accept-new
            ConnectTimeout 1m
            ConnectionAttempts 3
            ServerAliveInterval 15
            ServerAliveCountMax 2
            PreferredAuthentications password,hostbased,publickey
            PasswordAuthentication no
            Ciphers ^aes128-ctr,aes256-ctr
            AddressFamily inet6
            SetEnv A=1 B=2
            IdentityAgent %d/agent
            TCPKeepAlive no
            RequestTTY force
        """.replace("${HERE}", str(tmp_path)),
    )
    assert settings.endpoint == "bob@node1.cluster"
    assert settings.port == 2222
    assert settings.identity_files == (f"{tmp_path}/.ssh/bob@node1", f"{tmp_path}/node1.cluster")
    assert settings.identity_files_given
    assert settings.identities_only
    assert settings.certificates == (f"{tmp_path}/cert",)
    assert settings.known_hosts == (f"{tmp_path}/kh_Alias", "/two")
    assert settings.global_known_hosts == ()
    assert settings.host_key_alias == "alias"
    assert settings.host_key_policy == "accept-new"
    assert (settings.connect_timeout, settings.connect_retries) == (60.0, 2)
    assert (settings.keepalive, settings.keepalive_count) == (15.0, 2)
    assert settings.preferred_authentications == ("publickey",)
    assert settings.ciphers == ("^aes128-ctr", "aes256-ctr")
    assert settings.address_family == socket.AF_INET6
    assert settings.env == (("A", "1"), ("B", "2"))
    assert (settings.agent, settings.identity_agent) == (True, f"{tmp_path}/agent")
    assert not settings.tcp_keepalive
    assert settings.pty


def test_code_comes_before_files(cache: ConfigCache) -> None:
    settings = settings_of(
        cache,
        "User file\nPort 1\nIdentityFile /f\nStrictHostKeyChecking no\nConnectTimeout 5\n",
        user="code",
        port=2,
        identity_files="/c",
        host_key_policy="strict",
        connect_timeout=7,
        connect_retries=4,
        agent=False,
        known_hosts=["/kh", f"node1 {KEY_LINE}\n"],
    )
    assert (settings.user, settings.port, settings.identity_files) == ("code", 2, ("/c", "/f"))
    assert (settings.host_key_policy, settings.connect_timeout) == ("strict", 7.0)
    assert (settings.connect_retries, settings.agent) == (4, False)
    assert settings.known_hosts == ("/kh", f"node1 {KEY_LINE}")


def test_functions_are_given_the_node(cache: ConfigCache) -> None:
    def password(_node: str) -> str:
        raise AssertionError("not before it is needed")

    settings = settings_of(
        cache,
        "Match user user-node7 host 10.0.0.7\nCompression yes\n",
        "node7",
        user=lambda node: f"user-{node}",
        port=lambda node: 2000 + int(node[4:]),
        hostname=lambda node: f"10.0.0.{node[4:]}",
        password=password,
    )
    assert (settings.user, settings.port, settings.hostname) == ("user-node7", 2007, "10.0.0.7")
    assert settings.compression
    assert settings.password is password


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": lambda _: "22"}, "port must be an integer"),
        ({"user": lambda _: ""}, "user must not be empty"),
        ({"user": lambda _: {}["no"]}, "the function for user failed: KeyError"),
        ({"config_files": "/no/such/file"}, "no such configuration file"),
        ({"proxy_jump": "%x"}, "ProxyJump: unknown token %x"),
        ({"overrides": ["ProxyCommand=nc %x"]}, "ProxyCommand: unknown token %x"),
        ({"overrides": ["ProxyCommand=nc", "ProxyUseFdpass=yes"]}, "ProxyUseFdpass"),
        ({"proxy_jump": "gate,node1"}, "ProxyJump leads back to node1"),
        ({"overrides": ["VerifyHostKeyDNS=yes"]}, "VerifyHostKeyDNS .* is not supported yet"),
        ({"overrides": ["BindInterface=eth0"]}, "BindInterface .* is not supported yet"),
        ({"overrides": ["RefuseConnection=closed"]}, "refuses the connection: closed"),
        ({"hostname": "%x"}, "HostName: unknown token %x"),
        ({"identity_files": "%x"}, "IdentityFile: unknown token %x"),
        ({"identity_files": "${NO_SUCH_VARIABLE}"}, "NO_SUCH_VARIABLE is not set"),
    ],
)
def test_what_cannot_be_honoured_fails_the_node(
    cache: ConfigCache, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NodeConfigurationError, match=message) as raised:
        resolve("node1", SSHOptions(**{"config_files": "none", **options}), config_cache=cache)
    assert raised.value.node == "node1"
    assert raised.value.phase == "configuration"


def test_only_the_nodes_that_it_applies_to_are_refused(cache: ConfigCache, tmp_path: Path) -> None:
    config = "Host gate\nPort 2222\nHost n*\nBindInterface eth0\n"
    assert settings_of(cache, config, "gate").port == 2222
    with pytest.raises(NodeConfigurationError, match="my_config line 4"):
        settings_of(cache, config, "node1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("yes", True),
        ("No", False),
        ("/run/%r", "/run/me"),
        ("${MY_AGENT}.2", "/run/agent.2"),
        ("$MY_AGENT", "/run/agent"),
        ("$NO_AGENT", False),
        ("yes\nForwardAgent no\nForwardAgent /run/a\nForwardAgent /run/b", "/run/a"),
        ("no\nForwardAgent /run/a", False),
        ("/run/a\nForwardAgent no", "/run/a"),
    ],
)
def test_the_agent_to_forward(
    cache: ConfigCache, monkeypatch: pytest.MonkeyPatch, value: str, expected: bool | str
) -> None:
    monkeypatch.setenv("MY_AGENT", "/run/agent")
    monkeypatch.delenv("NO_AGENT", raising=False)
    assert settings_of(cache, f"ForwardAgent {value}\n").forward_agent == expected
    if "\n" not in value:
        assert settings_of(cache, overrides=f"ForwardAgent={value}").forward_agent == expected
    assert settings_of(cache, f"ForwardAgent {value}\n", forward_agent="/a").forward_agent == "/a"
    # The option says whether, and a file which agent, as with -A.
    named = expected if isinstance(expected, str) else True
    if value != "$NO_AGENT":
        named = "/run/a" if "/run/a" in value else named
        found = settings_of(cache, f"ForwardAgent {value}\n", forward_agent=True)
        assert found.forward_agent == named


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("default none", (0, 0.0)),
        ("1G 1h", (1 << 30, 3600.0)),
        ("500k", (500 << 10, 0.0)),
        ("1048576 none", (1 << 20, 0.0)),
        ("16M 90", (16 << 20, 90.0)),
        ("500K\nRekeyLimit 1G 1h\nRekeyLimit 2G 2h", (500 << 10, 3600.0)),
    ],
)
def test_the_limit_of_session_keys(
    cache: ConfigCache, value: str, expected: tuple[int, float]
) -> None:
    assert settings_of(cache, f"RekeyLimit {value}\n").rekey_limit == expected


def test_revoked_host_keys(cache: ConfigCache) -> None:
    home = cache.environment.home
    assert settings_of(cache, "RevokedHostKeys ~/%h\n").revoked_host_keys == f"{home}/node1"
    assert settings_of(cache, "RevokedHostKeys none\n").revoked_host_keys is None


def test_an_authentication_that_is_not_supported_is_only_noted(cache: ConfigCache) -> None:
    settings = settings_of(cache, "HostbasedAuthentication yes\nPKCS11Provider none\n")
    (note,) = settings.authentication_notes
    assert note.startswith("HostbasedAuthentication (")


def test_gssapi(cache: ConfigCache) -> None:
    settings = settings_of(cache, "HostName %h.org\nGSSAPIAuthentication yes\n")
    assert settings.preferred_authentications[0] == "gssapi-with-mic"
    assert (settings.gssapi_host, settings.gssapi_delegate) == ("node1.org", False)
    lines = "GSSAPIDelegateCredentials yes\nGSSAPIServerIdentity gate.org\n"
    settings = settings_of(cache, lines)
    assert "gssapi-with-mic" not in settings.preferred_authentications
    assert (settings.gssapi_host, settings.gssapi_delegate) == ("gate.org", True)


def test_a_user_without_a_name(cache: ConfigCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> str:
        raise KeyError("no entry for this number")

    monkeypatch.setattr("getpass.getuser", getuser)
    nameless = ConfigCache(Environment(None, cache.environment.home, "here"))
    with pytest.raises(NodeConfigurationError, match="the local user has no name"):
        settings_of(nameless)
    assert settings_of(nameless, user="bob").user == "bob"


def test_keys_in_code_replace_the_default_files(cache: ConfigCache) -> None:
    settings = settings_of(cache, pkeys=[PEM, "~/key"])
    assert settings.pkeys == (PEM.encode(), f"{cache.environment.home}/key")
    assert settings.identity_files == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("none", (False, None)),
        ("SSH_AUTH_SOCK", (True, None)),
        ("$MY_AGENT", (True, "/run/agent")),
        ("$NO_AGENT", (False, None)),
        ("${MY_AGENT}", (True, "/run/agent")),
        ("/a/%r", (True, "/a/me")),
    ],
)
def test_the_agent(
    cache: ConfigCache,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    expected: tuple[bool, str | None],
) -> None:
    monkeypatch.setenv("MY_AGENT", "/run/agent")
    monkeypatch.delenv("NO_AGENT", raising=False)
    settings = settings_of(cache, f"IdentityAgent {value}\n")
    assert (settings.agent, settings.identity_agent) == expected


def test_variables_are_sent(cache: ConfigCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LC_", "MY_")):
            monkeypatch.delenv(name)
    for name in ("LC_A", "LC_B", "MY_A", "MY_B"):
        monkeypatch.setenv(name, f"local {name}")
    config = "SendEnv LC_* MY_A MY_B\nSendEnv -MY_B\nSetEnv LC_B=set MY_C=c\n"
    assert dict(settings_of(cache, config).env) == {
        "LC_A": "local LC_A",
        "LC_B": "set",
        "MY_C": "c",
        "MY_A": "local MY_A",
    }
    assert dict(settings_of(cache, config, env={"X": "1"}).env)["X"] == "1"


def test_settings_show_where_they_lead_and_no_secret(cache: ConfigCache) -> None:
    settings = settings_of(cache, user="bob", port=5, password="geheim")
    assert repr(settings) == "<ConnectionSettings node1: bob@node1 port 5>"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "a b c"),
        (["b", "x", "a", "b"], "b a"),
        (["+d"], "a b c d"),
        (["+d", "x"], "a b c d"),
        (["^c", "d"], "c d a b"),
        (["-a"], "b c"),
        (["-?"], ""),
        (["x"], ""),
    ],
)
def test_algorithms(wanted: list[str] | None, expected: str) -> None:
    assert " ".join(select_algorithms(wanted, "abcd", "abc")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"host {KEY_LINE}", True),
        (f"@revoked * {KEY_LINE} comment", True),
        ("/home/me/known_hosts", False),
        ("C:\\my known hosts\\file", False),
        ("", False),
    ],
)
def test_entries_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_known_hosts_entry(text) is expected


def test_paramiko_is_not_needed() -> None:
    code = (
        "import sys; from pyclustershell.ssh.config.options import SSHOptions; "
        "from pyclustershell.ssh.config.resolution import resolve; "
        "from pyclustershell.ssh.config.sshconfig import ConfigCache; "
        "resolve('node1', SSHOptions(config_files='none'), config_cache=ConfigCache()); "
        "sys.exit('paramiko' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_equal_where_every_one_of_them_is(cache: ConfigCache) -> None:
    first, second = settings_of(cache, "Port 22\n"), settings_of(cache, "Port 22\n")
    assert first is not second
    assert (first == second, hash(first)) == (True, hash(second))
    for field in dataclasses.fields(first):
        other = dataclasses.replace(second, **{field.name: object()})
        assert first != other
    assert first != "a string"
