"""Files of revoked host keys, made by ssh-keygen, which is also the oracle."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from pyclustershell.exceptions import HostKeyRevokedError
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.certificates import parse
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from pyclustershell.ssh.hostkeys.revocation import RevokedKeys, read_revoked_keys
from pyclustershell.ssh.protocol.algorithms import CERTIFICATE_SUFFIX
from tests.servers import processes

pytestmark = pytest.mark.needs("ssh-keygen")

SERIALS = (1, 2, 3, 70, 500, 4000)


def keygen(*arguments: object) -> None:
    processes.run("ssh-keygen", "-q", *(a if isinstance(a, Path) else str(a) for a in arguments))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, two keys, and certificates of the first key with several serial numbers."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("ca", "ca2", "one", "two"):
        keygen("-t", "ed25519", "-N", "", "-f", directory / name)
    for authority in ("ca", "ca2"):
        for serial in SERIALS:
            copy = directory / f"{authority}-{serial}.pub"
            shutil.copy(directory / "one.pub", copy)
            keygen("-s", directory / authority, "-h", "-I", f"id{serial}", "-z", serial, copy)
    return directory


def shown(keys: Path) -> Iterator[Path]:
    """All keys and certificates that a server could show."""
    yield from (keys / "one.pub", keys / "two.pub", *sorted(keys.glob("*-cert.pub")))


def blob(path: Path) -> bytes:
    return base64.b64decode(path.read_text().split()[1])


def is_revoked(revoked: RevokedKeys, path: Path) -> bool:
    if not path.name.endswith("-cert.pub"):
        return revoked.revokes(blob(path))
    certificate = parse(blob(path))
    return revoked.revokes(certificate.public, certificate)


def openssh_says(file: Path, path: Path) -> bool:
    done = processes.run("ssh-keygen", "-Q", "-f", file, path, check=False)
    assert done.returncode == ("REVOKED" in done.stdout), done
    return bool(done.returncode)


SPECIFICATIONS = {
    "key": lambda keys: "key: " + (keys / "two.pub").read_text(),
    "sha1": lambda keys: "sha1: " + (keys / "two.pub").read_text(),
    "sha256": lambda keys: "sha256: " + (keys / "one.pub").read_text(),
    "serials": lambda keys: "serial: 2\nserial: 70\n",
    "bitmap": lambda keys: "".join(f"serial: {n}\n" for n in (1, 3, 5, 9, 11, 17, 70)),
    "range": lambda keys: "serial: 3-600\n",
    "id": lambda keys: "id: id4000\nid: id1\n",
    "mixture": lambda keys: (
        "serial: 1\nid: id3\nserial: 60-80\nkey: " + (keys / "two.pub").read_text()
    ),
    "nothing": lambda keys: "",
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
@pytest.mark.parametrize("any_authority", [False, True])
def test_revocation_lists(keys: Path, tmp_path: Path, name: str, any_authority: bool) -> None:
    specification, file = tmp_path / "specification", tmp_path / "krl"
    specification.write_bytes(SPECIFICATIONS[name](keys).encode())  # no line ends of Windows
    authority = "none" if any_authority else keys / "ca.pub"
    keygen("-k", "-f", file, "-s", authority, "-z", 7, specification)
    revoked = read_revoked_keys(str(file))
    found = {path.name for path in shown(keys) if is_revoked(revoked, path)}
    assert found == {path.name for path in shown(keys) if openssh_says(file, path)}
    assert bool(found) == (name != "nothing")


def test_an_authority_that_is_revoked(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "krl"
    keygen("-k", "-f", file, keys / "ca2.pub")
    revoked = read_revoked_keys(str(file))
    for path in shown(keys):
        assert is_revoked(revoked, path) == path.name.startswith("ca2") == openssh_says(file, path)


def test_a_certificate_given_by_itself(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "krl"
    keygen("-k", "-f", file, keys / "ca-70-cert.pub")
    revoked = read_revoked_keys(str(file))
    assert [p.name for p in shown(keys) if is_revoked(revoked, p)] == ["ca-70-cert.pub"]


def test_a_file_of_public_keys(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "revoked"
    file.write_text("# stolen\n\n" + (keys / "two.pub").read_text() + (keys / "ca.pub").read_text())
    revoked = read_revoked_keys(str(file))
    for path in shown(keys):
        expected = path.name == "two.pub" or path.name.startswith("ca-")
        assert is_revoked(revoked, path) == expected


ED25519_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA" + "A" * 42


def edit(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "is damaged"),
        (lambda data: data[:20], "is damaged"),
        (lambda data: edit(data, 11, 9), "unknown version 9"),
        (lambda data: edit(data, 44, 77), "unknown type 77"),
        (
            lambda data: data + b"\xff\0\0\0\x0a\0\0\0\1x\1\0\0\0\0",
            "unknown critical .* 'x'",
        ),
        (lambda data: b"ssh-ed25519 AAAA\n", "line 1 is not a public key"),
        (lambda data: ED25519_LINE.encode() + b"=\n", "line 1 is not a public key"),
        (lambda data: ED25519_LINE.replace(" ", "\f").encode(), "line 1 is not a public key"),
        (lambda data: b"\n# x\nnonsense\n", "line 3 is not a public key"),
    ],
)
def test_what_cannot_be_understood_is_an_error(
    keys: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    file = tmp_path / "krl"
    keygen("-k", "-f", file, keys / "two.pub")
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_revoked_keys(str(file))


def test_an_extension_that_is_not_critical_is_passed_over(keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "krl"
    keygen("-k", "-f", file, keys / "two.pub")
    file.write_bytes(file.read_bytes() + b"\xff\0\0\0\x0a\0\0\0\1x\0\0\0\0\0")
    assert is_revoked(read_revoked_keys(str(file)), keys / "two.pub")


# -- the check -------------------------------------------------------------------------------------


def settings_for(file: Path, policy: str, *known_hosts: str) -> ConnectionSettings:
    options = SSHOptions(
        config_files="none",
        host_key_policy=policy,
        overrides=["GlobalKnownHostsFile=none", f"RevokedHostKeys={file}"],
    )
    return replace(resolve("node1", options, config_cache=ConfigCache()), known_hosts=known_hosts)


def line(keys: Path, name: str) -> str:
    return " ".join((keys / f"{name}.pub").read_text().split()[:2])


@pytest.mark.parametrize("policy", ["strict", "accept-new", "off"])
def test_a_revoked_key_is_refused_whatever_else_is_said(
    keys: Path, tmp_path: Path, policy: str
) -> None:
    file = tmp_path / "revoked"
    file.write_text("")
    settings = settings_for(file, policy, f"node1 {line(keys, 'one')}")
    checker = HostKeyChecker()
    assert checker.check(settings, "ssh-ed25519", blob(keys / "one.pub"))
    file.write_text(line(keys, "one") + "\n")
    with pytest.raises(HostKeyRevokedError, match=r"ED25519 host key SHA256:.* is revoked by "):
        checker.check(settings, "ssh-ed25519", blob(keys / "one.pub"))


def test_a_revoked_certificate_is_refused(keys: Path, tmp_path: Path) -> None:
    file, kind = tmp_path / "krl", "ssh-ed25519" + CERTIFICATE_SUFFIX
    keygen("-k", "-f", file, keys / "ca-70-cert.pub")
    settings = settings_for(file, "strict", f"@cert-authority * {line(keys, 'ca')}")
    assert HostKeyChecker().check(settings, kind, blob(keys / "ca-3-cert.pub"))
    with pytest.raises(HostKeyRevokedError, match="is revoked by"):
        HostKeyChecker().check(settings, kind, blob(keys / "ca-70-cert.pub"))


@pytest.mark.parametrize("policy", ["strict", "off"])
def test_without_its_list_no_host_is_trusted(keys: Path, tmp_path: Path, policy: str) -> None:
    settings = settings_for(tmp_path / "missing", policy, f"node1 {line(keys, 'one')}")
    with pytest.raises(HostKeyRevokedError, match="missing: No such file") as raised:
        HostKeyChecker().check(settings, "ssh-ed25519", blob(keys / "one.pub"))
    assert raised.value.cause == "the list of revoked host keys cannot be read"
    (tmp_path / "missing").write_bytes(os.urandom(10) + b"\n")
    with pytest.raises(HostKeyRevokedError, match="line 1 is not a public key"):
        HostKeyChecker().check(settings, "ssh-ed25519", blob(keys / "one.pub"))
