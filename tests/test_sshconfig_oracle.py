"""Generated configurations, as OpenSSH itself understands them: ``ssh -G`` is the oracle.

Known differences, which the files here leave out: a Match criterion that is not supported fails a
host; ``Include`` with tokens is literal in OpenSSH before 9.9; a value of 'none' for an interval
leaves the keyword to later lines there as here, but is not printed; OpenSSH 9.2 takes no '=' behind
a keyword in quotes.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyclustershell.transport.config.lookup import Query, lookup
from pyclustershell.transport.config.settings import select_algorithms
from pyclustershell.transport.config.sshconfig import ConfigCache

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None, reason="no ssh program to compare with"
)

HOSTS = ("node1", "node12", "db.example.org", "NODE1", "x", "10.0.0.1", "web-1.Example.org")


def openssh(path: Path, host: str) -> dict[str, list[str]]:
    """What holds for a host, as ``ssh -G`` prints it, by keyword."""
    done = subprocess.run(
        ["ssh", "-G", "-F", str(path), host], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stderr}\n{path.read_text()}"
    printed: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        printed.setdefault(name.lower(), []).append(value)
    return printed


@cache
def defaults() -> dict[str, list[str]]:
    """What holds where nothing is said."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "empty"
        path.touch()
        return openssh(path, "host")


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


# By keyword: values as they are written, and how ssh prints what was made of them.
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
    """What was said for a host, in ssh's words."""
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
        lines = [*main[:place], f"Include {inner}", *main[place:]]
        path.write_text("\n".join(lines) + "\n")
        cache = ConfigCache()
        for host in hosts:
            ours = as_printed(lookup([cache.load(str(path))], host, (), cache))
            theirs = openssh(path, host)
            assert ours == {name: theirs.get(name) for name in ours}, path.read_text()
