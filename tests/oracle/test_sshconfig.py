"""Generated configurations, as OpenSSH itself understands them: ``ssh -G`` is the oracle.

Known differences, which the files here leave out: a Match criterion that is not supported fails a
host; ``Include`` with tokens is literal in OpenSSH before 9.9; a value of 'none' for an interval
leaves the keyword to later lines there as here, but is not printed; OpenSSH 9.2 takes no '=' behind
a keyword in quotes.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyclustershell.exceptions import ConfigurationError
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.lookup import lookup
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.query import Query
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import select_algorithms
from pyclustershell.ssh.config.sshconfig import ConfigCache
from tests.helpers.programs import openssh_settings, openssh_version
from tests.servers.processes import node_path

pytestmark = pytest.mark.needs("ssh")

HOSTS = ("node1", "node12", "db.example.org", "NODE1", "x", "10.0.0.1", "web-1.Example.org")


@cache
def defaults() -> dict[str, list[str]]:
    """The settings without any configuration."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "empty"
        path.touch()
        return openssh_settings(path, "host")


def yes_no(value: object) -> list[str]:
    return ["yes" if value else "no"]


def true_false(value: object) -> list[str]:
    return [{True: "true", False: "false"}.get(value, str(value))]  # type: ignore[call-overload]


def text(value: object) -> list[str]:
    return [str(value)]


def number(value: Any) -> list[str]:
    return [str(int(value))]


def words(value: Any) -> list[str]:
    return [" ".join(value)]


def algorithms(keyword: str) -> Callable[[Any], list[str]]:
    def show(value: Any) -> list[str]:
        default = defaults()[keyword][0].split(",")
        known = (*default, "3des-cbc", "hmac-md5", "ssh-rsa", "diffie-hellman-group1-sha1")
        return [",".join(select_algorithms(value.split(","), known, default))]

    return show


# By keyword: values as they are written, and as ssh prints them.
KEYWORDS: dict[str, tuple[Sequence[str], Callable[[Any], list[str]]]] = {
    "AddressFamily": (("any", "inet", "INET6"), lambda v: [{0: "any", 2: "inet"}.get(v, "inet6")]),
    "BindAddress": (("127.0.0.1", '"::1"'), text),
    "Ciphers": (
        ("aes128-ctr", "+3des-cbc", "-aes*", "^aes256-ctr,aes128-ctr", "aes256-ctr,aes128-ctr"),
        algorithms("ciphers"),
    ),
    "Compression": (("yes", "no", "YES"), yes_no),
    "ConnectionAttempts": (("3", '"4"'), number),
    "ConnectTimeout": (("5", "1m", "1h30m"), number),
    "ForwardAgent": (
        ("yes", "no", "/run/agent", '"/run/my agent"'),
        lambda v: [v.lower() if v.lower() in ("yes", "no") else v],
    ),
    "GlobalKnownHostsFile": (("/g", "/g /h", "'/g h'"), words),
    "GSSAPIAuthentication": (("yes", "no"), yes_no),
    "HashKnownHosts": (("yes", "no"), yes_no),
    "HostKeyAlgorithms": (
        ("ssh-ed25519", "-ssh-*", "+ssh-rsa", "^rsa-sha2-512"),
        algorithms("hostkeyalgorithms"),
    ),
    "HostKeyAlias": (("alias", "al-2"), text),
    "IdentitiesOnly": (("yes", "NO", "true", "false"), yes_no),
    "IdentityAgent": (("none", "SSH_AUTH_SOCK", "/x/y"), text),
    "KbdInteractiveAuthentication": (("yes", "no"), yes_no),
    "KexAlgorithms": (
        ("curve25519-sha256", "+diffie-hellman-group1-sha1", "-ecdh*,diffie*"),
        algorithms("kexalgorithms"),
    ),
    "MACs": (
        ("hmac-sha2-256", "+hmac-md5", "^hmac-sha2-512", "-*-etm@openssh.com"),
        algorithms("macs"),
    ),
    "PasswordAuthentication": (("yes", "no"), yes_no),
    "Port": (("22", '"2200"', "ssh"), number),
    "PreferredAuthentications": (("publickey,password", "hostbased"), text),
    "PubkeyAcceptedAlgorithms": (
        ("ssh-ed25519", "-ssh-*", "+ssh-rsa", "^rsa-sha2-512"),
        algorithms("pubkeyacceptedalgorithms"),
    ),
    "PubkeyAuthentication": (("yes", "no"), true_false),
    "RekeyLimit": (
        ("1G 1h", "500K 1m", "default 0", "16M 90"),
        lambda v: [f"{v[0]} {int(v[1])}"],
    ),
    "RequestTTY": (("yes", "no", "force"), lambda v: [{True: "true"}.get(v, str(v))]),
    "RevokedHostKeys": (("/r/k", '"/r k"'), text),
    "ServerAliveCountMax": (("5", "0"), number),
    "ServerAliveInterval": (("10", "2m"), number),
    "TCPKeepAlive": (("yes", "no"), yes_no),
    "User": (("root", '"bob smith"', "carol # comment", r"a\ b"), text),
    "UserKnownHostsFile": (("/a /b", '"/a b" /c', r"/a\"b"), words),
}
# ssh -G prints it in a way of its own.
PRINTED_OTHERWISE = {"ForwardAgent", "RequestTTY"}
SEVERAL = {
    "IdentityFile": ("~/.ssh/a", "/k/%r-%p", '"/k/with space"', r"/k/a\ b", "'/k/s q'", "/k/a"),
    "CertificateFile": ("/c/a", "/c/b"),
    "SendEnv": ("LANG", "LC_* X", "-LC_*"),
}
HOST_NAMES = ("10.1.1.1", "%h.cluster", "h%%x", "REAL.Example.ORG", '"quoted"')
PATTERNS = ("*", "node*", "node?", "!node1", "*.example.org", "db*", "!*.org", "x", '"node1"')
CRITERIA = ("host node*", "host *.org,!db*", 'host "real*"', "originalhost node1", "user root")
CRITERIA += ("user alice,!root", "final", "canonical", "host=10.1.1.1", "localuser *")


@st.composite
def setting_lines(draw: st.DrawFn) -> str:
    keyword = draw(st.sampled_from([*KEYWORDS, *SEVERAL, "HostName"]))
    if keyword == "HostName":
        values: Sequence[str] = HOST_NAMES
    else:
        values = SEVERAL[keyword] if keyword in SEVERAL else KEYWORDS[keyword][0]
    name = draw(st.sampled_from([keyword, keyword.lower(), keyword.upper(), f'"{keyword}"']))
    plain = not name.startswith('"')
    between = draw(st.sampled_from([" ", "=", " = ", "\t", "  "] if plain else [" ", "\t"]))
    begin, end = draw(st.sampled_from(["", "  ", "\t"])), draw(st.sampled_from(["", " ", "\t"]))
    return begin + name + between + draw(st.sampled_from(values)) + end


@st.composite
def condition_lines(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return "Host " + " ".join(draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3)))
    criteria = draw(st.lists(st.sampled_from(CRITERIA), min_size=1, max_size=3, unique=True))
    return "Match " + " ".join(draw(st.sampled_from(["", "!"])) + text for text in criteria)


LINES = st.one_of(
    setting_lines(), setting_lines(), setting_lines(), condition_lines(), st.just(""), st.just("#x")
)
FILES = st.lists(LINES, max_size=20)


def as_printed(query: Query) -> dict[str, list[str]]:
    """The settings that a file gives a host, in the form of ``ssh -G``."""
    printed = {"hostname": [query.target.lower()]}
    for setting in query.settings():
        if setting.keyword in KEYWORDS and setting.keyword not in PRINTED_OTHERWISE:
            first, show = query.get(setting.keyword), KEYWORDS[setting.keyword][1]
            printed[setting.keyword.lower()] = show(first.value if first else None)
        elif setting.keyword == "ForwardAgent":
            said = [str(each.value) for each in query.all("ForwardAgent")]
            paths = [value for value in said if value.lower() not in ("yes", "no")]
            printed["forwardagent"] = paths[:1] or [said[0].lower()]
        elif setting.keyword in ("IdentityFile", "CertificateFile"):
            found = query.all(setting.keyword)
            printed[setting.keyword.lower()] = [str(each.value) for each in found]
    return printed


@given(
    main=FILES,
    included=FILES,
    place=st.integers(0, 20),
    hosts=st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_openssh_finds_the_same(
    main: list[str], included: list[str], place: int, hosts: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        inner, path = Path(directory) / "included", Path(directory) / "config"
        inner.write_text("\n".join(included) + "\n")
        lines = [*main[:place], f"Include {node_path(inner)}", *main[place:]]
        path.write_text("\n".join(lines) + "\n")
        cache = ConfigCache(Environment(_home=directory))
        for host in hosts:
            ours = as_printed(lookup([cache.load(str(path))], host, (), cache))
            theirs = openssh_settings(path, host)
            assert ours == {name: theirs.get(name) for name in ours}, path.read_text()


# -- networks --


@pytest.mark.parametrize(
    "networks",
    [
        *("127.0.0.0/8", "127.0.0.1", "::1", "::1/128", "192.0.2.7,127.0.0.0/8", "0.0.0.0/0"),
        *("224.0.0.0/4", "240.0.0.1", "ff00::/8", "::/0", "fe80::/10", "::ffff:127.0.0.1"),
        *("127.0.0.1/8", "127/8", "127.0.0.0/33", "127.0.0.0/", "127.0.0.0/8,", ",::1", "!::1"),
        *("127.0.0.*", "localhost", "127.0.0.0/255.0.0.0", "::1/129", "fe80::1%lo/64", "::1/ 128"),
    ],
)
def test_openssh_finds_the_same_local_networks(networks: str, tmp_path: Path) -> None:
    if openssh_version() < (9, 4):
        pytest.skip("ssh knows Match localnetwork since OpenSSH 9.4: install a newer one")
    path = tmp_path / "config"
    for sign in ("", "!"):
        path.write_text(f"Match {sign}localnetwork {networks}\nUser somebody\n")
        try:
            expected = "somebody" in openssh_settings(path, "node1")["user"]
        except AssertionError:
            # ssh refuses it, and so do we.
            with pytest.raises(ConfigurationError):
                ConfigCache().load(str(path))
            continue
        query = lookup([ConfigCache().load(str(path))], "node1")
        assert (query.text("User") == "somebody") is expected, sign


# -- destinations --


@pytest.mark.parametrize("options", ["", "-l bob", "-p 5", "-o User=bob -o Port=5"])
@pytest.mark.parametrize(
    "name",
    [
        *("node1", "alice@node1", "a@b@node1", "ssh://node1", "ssh://alice@node1:99", "alice@x"),
        *("ssh://a%41@node1:99", "ssh://node1/", "ssh://node1:99/", "alice@::1", "::1"),
    ],
)
def test_openssh_takes_the_name_of_a_node_in_the_same_way(
    name: str, options: str, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text("Host node1\nUser filed\nPort 7\nHostName %h.example\n")
    theirs = openssh_settings(path, name, *shlex.split(options))
    given_options = SSHOptions.parse_command_line(f"-F '{path}' {options}")
    ours = resolve(name, given_options, config_cache=ConfigCache())
    assert [ours.user] == theirs["user"]
    assert [ours.hostname] == theirs["hostname"]
    assert [str(ours.port)] == theirs["port"]


# -- the command line --

# The options of ssh(1) that are honoured, those that set the same keyword together.
COMPETING_OPTIONS = (
    ("-4", "-6", "-o AddressFamily=inet", "-o AddressFamily=inet6", "-64"),
    ("-A", "-a", "-o ForwardAgent=yes", "-o ForwardAgent=no", "-o ForwardAgent=/run/x", "-aA"),
    ("-b 127.0.0.1", "-b 127.0.0.2", "-o BindAddress=127.0.0.3"),
    ("-C", "-o Compression=no", "-o Compression=yes"),
    ("-c aes128-ctr", "-c aes256-ctr", "-o Ciphers=aes192-ctr"),
    ("-m hmac-sha2-256", "-m hmac-sha2-512", "-o MACs=hmac-sha1"),
    ("-i /dev/null", "-i /dev/zero", "-o IdentityFile=/k/c"),
    ("-K", "-k", "-o GSSAPIAuthentication=no", "-o GSSAPIDelegateCredentials=yes"),
    ("-J gate", "-J other", "-o ProxyJump=third", "-o ProxyCommand=true"),
    ("-l alice", "-l bob", "-o User=carol"),
    ("-p 1", "-p 2", "-o Port=3"),
    ("-t", "-tt", "-T", "-o RequestTTY=no", "-o RequestTTY=force", "-Tt"),
    ("-q", "-v", "-n", "-x", "-2", "-e none", "-S none"),
)
ALL_OPTIONS = tuple(chain.from_iterable(COMPETING_OPTIONS))


def command_line_settings(line: str, path: Path) -> dict[str, list[str]]:
    """The settings that a command line and a file give a host, in the form of ``ssh -G``."""
    options = SSHOptions(config_files=str(path)).over(SSHOptions.parse_command_line(line))
    found = resolve("host", options, config_cache=ConfigCache())
    query = lookup([ConfigCache().load(str(path))], "host", options.settings("host"))
    printed = {
        "user": [found.user],
        "port": [str(found.port)],
        "addressfamily": KEYWORDS["AddressFamily"][1](found.address_family),
        "bindaddress": [found.bind_address] if found.bind_address else [],
        "compression": yes_no(found.compression),
        "requesttty": [str(found.pty)],
        "gssapiauthentication": yes_no(query.flag("GSSAPIAuthentication", False)),
        "gssapidelegatecredentials": yes_no(found.gssapi_delegate),
        "proxyjump": [found.proxies[0].hostname] if found.proxies else [],
        "identityfile": list(found.identity_files) if found.identity_files_given else [],
    }
    for keyword, names in (("ciphers", found.ciphers), ("macs", found.macs)):
        if names:
            printed[keyword] = [",".join(names)]
    if found.forward_agent:
        path_of_agent = found.forward_agent
        printed["forwardagent"] = ["yes" if path_of_agent is True else str(path_of_agent)]
    return printed


def as_openssh_prints(path: Path, words: Sequence[str]) -> dict[str, list[str]]:
    printed = openssh_settings(path, "host", *words)
    # ssh's "auto" needs a terminal, which no command has here.
    printed["requesttty"] = [str(printed["requesttty"][0] in ("yes", "true", "force"))]
    if not any(file.startswith(("/k/", "/dev/")) for file in printed["identityfile"]):
        printed["identityfile"] = []
    return printed


def check_command_line(line: str, path: Path) -> None:
    words = shlex.split(line)
    try:
        expected = as_openssh_prints(path, words)
    except AssertionError:
        # ssh refuses it, and so do we.
        with pytest.raises(ConfigurationError):
            SSHOptions.parse_command_line(line)
        return
    ours = command_line_settings(line, path)
    assert ours == {name: expected.get(name, []) for name in ours}, line


@pytest.mark.posix_only("its paths are those of Linux, as ssh takes them")
@given(
    st.lists(st.sampled_from(ALL_OPTIONS), max_size=8),
    st.sampled_from(["", "ForwardAgent /run/y\n", "ForwardAgent yes\nRequestTTY yes\n"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_openssh_takes_a_command_line_in_the_same_way(words: list[str], config: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config"
        path.write_text(config)
        check_command_line(" ".join(words), path)


@pytest.mark.posix_only("its paths are those of Linux, as ssh takes them")
@pytest.mark.parametrize("options", COMPETING_OPTIONS, ids=lambda options: options[0])
def test_openssh_decides_between_two_options_in_the_same_way(
    options: Sequence[str], tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.touch()
    for first in options:
        for second in options:
            check_command_line(f"{first} {second}", path)
