"""known_hosts files as OpenSSH's client understands them: ``ssh`` is the oracle.

Each case is a file, a host and a port. ssh(1) talks to a real sshd, which it starts itself, so that
any name and any port will do. No method of authentication is allowed, so that an accepted host key
shows as "Permission denied". The library must accept what ssh accepts and refuse what ssh refuses.
Cases in which it is stricter name the reason.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import paramiko
import pytest

from pyclustershell.exceptions import HostKeyError
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from tests.servers import processes
from tests.servers.processes import node_path
from tests.servers.sshd import find_sshd, make_key

pytestmark = pytest.mark.needs("ssh", "ssh-keygen", "sshd")

CERTIFICATE = "-cert-v01@openssh.com"


class Server(NamedTuple):
    """A server that ssh starts: the sshd command, its host key or certificate, and other keys."""

    command: str
    shown: bytes
    plain: bytes
    words: dict[str, str]


class Case(NamedTuple):
    """A known_hosts file, its lines separated by LF.

    In the text, KEY is the server's key, OTHER another key and CA an authority, each with its type;
    BASE64 is the server's key without its type.
    """

    text: str
    host: str = "node1"
    port: int = 22
    stricter: str = ""
    policy: str = "yes"
    principals: str = ""


def hashed(name: str, salt: bytes = bytes(range(20))) -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))


PORT = 2222
NUL = "a line ends at a NUL byte, also after the names"
SPACE = "only blanks and tabs separate fields, also in the last one"

CASES = [
    # Names.
    Case("node1 KEY"),
    Case("node1 OTHER"),
    Case(""),
    Case("node2 KEY"),
    Case("NODE1 KEY"),
    Case("node1 KEY", "NODE1"),
    Case("node1 KEY", "node1."),
    Case("node1. KEY"),
    Case("node1,node2 KEY"),
    Case("node2,node1 KEY"),
    Case("node2,,node1 KEY"),
    Case(",node1 KEY"),
    Case("node1, KEY"),
    Case("node2, node1 KEY"),
    Case("node KEY"),
    Case("node11 KEY"),
    Case("node1 OTHER\nnode1 KEY"),
    Case("node1 KEY\nnode1 OTHER"),
    Case("node1,node2 OTHER\nnode1 KEY"),
    Case("127.0.0.1 KEY", "127.0.0.1"),
    Case("::1 KEY", "::1"),
    Case("[::1]:2222 KEY", "::1", PORT),
    Case("[::1] KEY", "::1"),
    Case("\u212aey1 KEY", "key1"),
    # Patterns.
    Case("* KEY"),
    Case("node* KEY"),
    Case("node? KEY"),
    Case("node?? KEY"),
    Case("n*1 KEY"),
    Case("*node1* KEY"),
    Case("NODE* KEY"),
    Case("node[12] KEY"),
    Case("*,!node1 KEY"),
    Case("!node1,* KEY"),
    Case("!node2 KEY"),
    Case("*,!node2 KEY"),
    Case("*,!*1 KEY"),
    Case("!!node1,* KEY"),
    Case("*,! KEY"),
    Case("node* OTHER\nnode1 KEY"),
    Case("*,!node1 OTHER\nnode1 KEY"),
    Case("x" * 1022 + ",node1 KEY"),
    Case("x" * 1023 + ",node1 KEY"),
    Case("node1," + "x" * 1023 + " KEY"),
    Case("x" * 1021 + "* KEY\nnode1 KEY"),
    # Ports.
    Case("[node1]:2222 KEY", port=PORT),
    Case("[node1]:2222 OTHER", port=PORT),
    Case("[node1]:2222 KEY"),
    Case("[node1]:22 KEY"),
    Case("[node1]:2223 KEY", port=PORT),
    Case("[NODE1]:2222 KEY", port=PORT),
    Case("node1:2222 KEY", port=PORT),
    Case("node1 KEY", port=PORT),
    Case("node1 OTHER", port=PORT),
    Case("[node1]:2222 OTHER\nnode1 KEY", port=PORT),
    Case("node1 KEY\n[node1]:2222 OTHER", port=PORT),
    Case("[node1]:2222 KEY\nnode1 OTHER", port=PORT),
    Case("[node1]:2222 OTHER\n[node1]:2222 KEY", port=PORT),
    Case("[node1]:2222,node1 KEY\nnode1 OTHER", port=PORT),
    Case("[node?]:2222 OTHER\nnode? KEY", port=PORT),
    Case("[node?]:* OTHER\nnode1 KEY", port=PORT),
    Case("[*]:2222 OTHER\nnode1 KEY", port=PORT),
    Case("* OTHER\nnode1 KEY", port=PORT),
    Case("node* KEY", port=PORT),
    Case("* KEY", port=PORT),
    Case("[node1]:2222,!node1 KEY", port=PORT),
    Case("[node1]:2223 OTHER\nnode1 KEY", port=PORT),
    # Hashed names.
    Case(hashed("node1") + " KEY"),
    Case(hashed("node1") + " OTHER"),
    Case(hashed("node2") + " KEY"),
    Case(hashed("node1") + " KEY", "NODE1"),
    Case(hashed("NODE1") + " KEY"),
    Case(hashed("[node1]:2222") + " KEY", port=PORT),
    Case(hashed("node1") + " KEY", port=PORT),
    Case(hashed("[node1]:2222") + " OTHER\n" + hashed("node1") + " KEY", port=PORT),
    Case(hashed("node1") + " KEY\n" + hashed("[node1]:2222") + " OTHER", port=PORT),
    Case(hashed("node1") + " OTHER\nnode1 KEY"),
    Case(hashed("node1") + ",node1 KEY"),
    Case("node1," + hashed("node1") + " KEY"),
    Case(hashed("node1").replace("|1|", "|2|") + " KEY"),
    Case(hashed("node1") + "= KEY"),
    Case(hashed("node1").rstrip("=") + " KEY"),
    Case(hashed("node1") + "| KEY"),
    Case(hashed("node1", bytes(19)) + " KEY"),
    Case(hashed("node1", bytes(24)) + " KEY"),
    Case(hashed("node1", b"") + " KEY"),
    # Blanks, line ends, comments.
    Case(" \t node1 \t KEY \t "),
    Case("node1\tKEY\ta comment"),
    Case("node1 KEY a comment # with more"),
    Case("# node1 KEY"),
    Case(" # node1 KEY"),
    Case("#node1 KEY"),
    Case("node1 # KEY"),
    Case("node1\fKEY"),
    Case("node1\vKEY"),
    Case("node1\u00a0KEY"),
    Case("node1\u2003KEY"),
    Case("node1\u3000KEY"),
    Case("node1\x1cKEY"),
    Case("node1\x85KEY"),
    Case("\fnode1 KEY"),
    Case("\vnode1 KEY"),
    Case("\u00a0node1 KEY"),
    Case("\ufeffnode1 KEY"),
    Case("node1\f KEY"),
    Case("node2 OTHER\fnode1 KEY"),
    Case("node1 KEY\r"),
    Case("node1 KEY comment\r"),
    Case("node1 KEY\r\nnode2 OTHER\r"),
    Case("# comment\r\nnode1 KEY\r"),
    Case("# comment\rnode1 KEY"),
    Case("node2 OTHER\rnode1 KEY"),
    Case("node1 KEY\rnode1 OTHER"),
    Case("node2 OTHER x\u2028node1 KEY"),
    Case("node2 OTHER x\x85node1 KEY"),
    Case("node2 OTHER x\vnode1 KEY"),
    Case("node1 KEY\f", stricter=SPACE),
    Case("node1 KEY\fcomment"),
    Case("node1 KEY\x00junk"),
    Case("node1\x00 KEY", stricter=NUL),
    Case("node1,node2\x00 KEY", stricter=NUL),
    Case("# comment\x00\nnode1 KEY"),
    Case("node1"),
    Case("node1 ssh-ed25519"),
    Case("node1 OTHER\x00"),
    Case("nonsense\nnode1 KEY"),
    Case("node1 nonsense\nnode1 KEY"),
    Case("node1 1024 35 1234567890\nnode1 KEY"),
    # The key.
    Case("node1 ssh-ed25519 BASE64"),
    Case("node1 SSH-ED25519 BASE64"),
    Case("node1 ed25519 BASE64"),
    Case("node1 ssh-rsa BASE64"),
    Case("node1 ssh-ed25519 BASE64="),
    Case("node1 ssh-ed25519 BASE64=="),
    Case("node1 ssh-ed25519 BASE64===="),
    Case("node1 ssh-ed25519 BASE64AAAA"),
    Case("node1 ssh-ed25519 BASE64A"),
    Case("node1 ssh-ed25519 BASE64!"),
    Case("node1 ssh-ed25519 !BASE64"),
    Case("node1 ssh-ed25519 BASE64=AAAA"),
    Case("node1 ssh-ed25519,ssh-rsa BASE64"),
    Case("node1 ssh-ed25519\fBASE64"),
    Case("node1 ssh-ed25519\u00a0BASE64"),
    Case("node1 ssh-ed25519 \u00a0BASE64"),
    Case("node1 ssh-ed25519 BASE64 BASE64"),
    Case("node1 ssh-ed25519 no BASE64"),
    Case('"node1" KEY'),
    Case("no-pty node1 KEY"),
    # Markers.
    Case("@revoked node1 KEY"),
    Case("node1 KEY\n@revoked node1 KEY"),
    Case("@revoked * KEY\nnode1 KEY"),
    Case("@revoked node2 KEY\nnode1 KEY"),
    Case("@revoked node1 OTHER\nnode1 KEY"),
    Case("@revoked node1 OTHER"),
    Case("@revoked [node1]:2222 OTHER\nnode1 KEY", port=PORT),
    Case("@revoked [node1]:2222 KEY\nnode1 KEY", port=PORT),
    Case("@revoked node1 KEY\nnode1 KEY", port=PORT),
    Case(
        "@revoked node1 KEY\n[node1]:2222 KEY",
        port=PORT,
        stricter="a revoked key is revoked under both names",
    ),
    Case("@revoked " + hashed("node1") + " KEY\nnode1 KEY"),
    Case(
        "@revoked\tnode1 KEY\nnode1 KEY",
        stricter="a revoked key is heeded, whichever blank follows the marker",
    ),
    Case("@revoked\tnode1\tKEY\nnode1 KEY", stricter="as above: KEY has a blank in it"),
    Case("@REVOKED node1 KEY\nnode1 KEY"),
    Case("@revoked @revoked node1 KEY\nnode1 KEY"),
    Case("@nonsense node1 KEY"),
    Case("@ node1 KEY"),
    Case("@cert-authority node1 KEY"),
    Case("@cert-authority node1 OTHER\nnode1 KEY"),
    Case("@cert-authority * OTHER\nnode1 KEY", port=PORT),
    Case("@revoked node1 KEY\n* KEY", policy="accept-new"),
    # Unknown hosts under accept-new.
    Case("", policy="accept-new"),
    Case("node1 OTHER", policy="accept-new"),
    Case("node1 OTHER", port=PORT, policy="accept-new"),
    Case("[node1]:2222 OTHER", port=PORT, policy="accept-new"),
    Case("[node1]:2222 OTHER\nnode1 KEY", port=PORT, policy="accept-new"),
    Case("@cert-authority node1 OTHER", policy="accept-new"),
    Case("@revoked node1 OTHER", policy="accept-new"),
    # Certificates of the authority CA.
    Case("@cert-authority node1 CA", principals="node1"),
    Case("@cert-authority * CA", principals="node1"),
    Case("@cert-authority node1 CA", principals="node2,node1"),
    Case("@cert-authority node1 CA", principals="node2"),
    Case("@cert-authority node1 CA", principals="node*"),
    Case("@cert-authority node1 CA", principals="*"),
    Case("@cert-authority node1 CA", principals="node?"),
    Case("@cert-authority node1 CA", principals="NODE1"),
    Case("@cert-authority node1 CA", "NODE1", principals="node1"),
    Case("@cert-authority node1 CA", principals="!node2,*"),
    Case("@cert-authority node1 CA", principals="*,node1"),
    Case("@cert-authority node1 CA", principals="node1.example.org"),
    Case("@cert-authority node2 CA", principals="node1"),
    Case("@cert-authority node1 OTHER", principals="node1"),
    Case("@cert-authority node1 OTHER\n@cert-authority node1 CA", principals="node1"),
    Case("node1 CA", principals="node1"),
    Case("node1 KEY", principals="node1"),
    Case("@cert-authority node1 CA\nnode1 KEY", principals="node2"),
    Case("@cert-authority node1 CA\nnode1 OTHER", principals="node1"),
    Case("@cert-authority node1 CA\n@revoked node1 CA", principals="node1"),
    Case("@cert-authority node1 CA\n@revoked * CA\nnode1 KEY", principals="node1"),
    Case("@cert-authority node1 CA\n@revoked node1 KEY", principals="node1"),
    Case("@cert-authority\tnode1 CA", principals="node1"),
    Case("@cert-authority\tnode1\tCA", principals="node1"),
    Case("@cert-authority " + hashed("node1") + " CA", principals="node1"),
    Case("@cert-authority [node1]:2222 CA", port=PORT, principals="node1"),
    Case("@cert-authority [node1]:2222 CA", port=PORT, principals="[node1]:2222"),
    Case("@cert-authority node1 CA", port=PORT, principals="node1"),
    Case(
        "@cert-authority [node1]:2222 OTHER\n@cert-authority node1 CA",
        port=PORT,
        principals="node1",
    ),
    Case("[node1]:2222 OTHER\n@cert-authority node1 CA", port=PORT, principals="node1"),
    Case(
        "[node1]:2222 OTHER\nnode1 KEY\n@cert-authority * OTHER",
        port=PORT,
        principals="node1",
        stricter="the lines with the port decide, also about the key of a certificate",
    ),
]


class Servers:
    """Makes servers, one for each list of principals."""

    def __init__(self, directory: Path) -> None:
        if processes.user_id() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd requires it
        self._directory = directory
        self._made: dict[str, Server] = {}
        names = {"KEY": "host", "OTHER": "other", "CA": "authority"}
        self._words = {word: make_key(directory / name) for word, name in names.items()}

    def get(self, principals: str) -> Server:
        """Return the server whose certificate has these principals; '' for no certificate."""
        if principals not in self._made:
            self._made[principals] = self._make(principals)
        return self._made[principals]

    def _make(self, principals: str) -> Server:
        number = len(self._made)
        config = self._directory / f"sshd_config-{number}"
        lines = ["UsePAM no", "LogLevel QUIET", f"HostKey {node_path(self._directory / 'host')}"]
        encoded = self._words["KEY"].split()[1]
        plain = shown = base64.b64decode(encoded)
        if principals:
            public = self._directory / f"host-{number}.pub"
            public.write_text(self._words["KEY"] + "\n")
            signer = self._directory / "authority"
            command = ["ssh-keygen", "-q", "-s", signer, "-h", "-I", "x", "-n", principals, public]
            processes.run(*command)
            certificate = self._directory / f"host-{number}-cert.pub"
            lines.append(f"HostCertificate {node_path(certificate)}")
            shown = base64.b64decode(certificate.read_text().split()[1])
        config.write_text("\n".join(lines) + "\n")
        command = shlex.join([str(find_sshd()), "-i", "-f", node_path(config)])
        return Server(command, shown, plain, {**self._words, "BASE64": encoded})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(tmp_path_factory.mktemp("servers"))


def ssh_accepts(case: Case, server: Server, known_hosts: Path) -> bool:
    """True if ssh accepts the host key."""
    options = {
        "UserKnownHostsFile": node_path(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": case.policy,
        "PreferredAuthentications": "none",
        "BatchMode": "yes",
        "ProxyCommand": server.command.replace("%", "%%"),
        "LogLevel": "INFO",
    }
    arguments = [f"-o{name}={value}" for name, value in options.items()]
    command = ["ssh", "-F", "/dev/null", *arguments, "-p", str(case.port), "--", case.host, "true"]
    done = processes.run(*command, check=False)
    accepted = "Permission denied" in done.stderr
    assert accepted != ("Host key verification failed" in done.stderr), done.stderr
    return accepted


def we_accept(case: Case, server: Server, known_hosts: Path) -> bool:
    """True if the library accepts the host key."""
    policy = {"yes": "strict"}.get(case.policy, case.policy)
    options = SSHOptions(
        config_files="none",
        port=case.port,
        known_hosts=known_hosts,
        host_key_policy=policy,
        overrides=["GlobalKnownHostsFile=none"],
    )
    settings = resolve(case.host, options, config_cache=ConfigCache())
    checker = HostKeyChecker()
    # The server shows its certificate only to a client that prefers one.
    certified = any(name.endswith(CERTIFICATE) for name in checker.known_algorithms(settings))
    blob = server.shown if certified else server.plain
    try:
        return checker.check(settings, paramiko.Message(blob).get_text(), blob)
    except HostKeyError:
        return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.text)[1:50])
def test_the_verdict_is_that_of_ssh(case: Case, servers: Servers, tmp_path: Path) -> None:
    server = servers.get(case.principals)
    # In one pass: a key's base64 text may contain another word by chance.
    words = re.compile("|".join(sorted(server.words, key=len, reverse=True)))
    text = words.sub(lambda match: server.words[match[0]], case.text)
    paths = [tmp_path / name for name in ("ssh", "library")]
    for path in paths:
        path.write_bytes(text.encode())
    theirs = ssh_accepts(case, server, paths[0])
    ours = we_accept(case, server, paths[1])
    if case.stricter:
        assert (theirs, ours) == (True, False), "remove the reason: ssh refuses it as well"
    else:
        assert ours == theirs
