"""Private keys in every format, encrypted or not, and certificates of ssh-keygen."""

from __future__ import annotations

import base64
import binascii
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from paramiko.message import Message

from pyclustershell.ssh.auth.encryptedkey import parse_openssh_key
from pyclustershell.ssh.auth.keystore import Certificate, KeyStore
from tests.servers import processes

PEM = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8
OPENSSH = serialization.PrivateFormat.OpenSSH

# Made once: an RSA key takes its time.
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PrivateKeyTypes] = {
    "ssh-ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ssh-rsa": RSA,
    "ecdsa-sha2-nistp256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-sha2-nistp384": ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-sha2-nistp521": ec.generate_private_key(ec.SECP521R1()),
}


def private_text(
    key: PrivateKeyTypes, form: serialization.PrivateFormat, passphrase: str = ""
) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
        if form is OPENSSH:  # few rounds, to be quick
            encryption = form.encryption_builder().kdf_rounds(1).build(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def write_private(path: Path, text: bytes) -> None:
    """Write a file that no other user can read, as ssh(1) requires of private keys."""
    path.touch(mode=0o600)
    path.write_bytes(text)


def public_line(key: PrivateKeyTypes) -> bytes:
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return bytes(key.public_key().public_bytes(encoding, form))  # type: ignore[union-attr]


def public_blob(key: PrivateKeyTypes) -> bytes:
    return base64.b64decode(public_line(key).split()[1])


@pytest.mark.parametrize("passphrase", ["", "geheim"])
@pytest.mark.parametrize("form", [OPENSSH, PKCS8, PEM], ids=["OpenSSH", "PKCS8", "PEM"])
@pytest.mark.parametrize("name", KEYS)
def test_every_format_and_kind(
    tmp_path: Path, name: str, form: serialization.PrivateFormat, passphrase: str
) -> None:
    if name == "ssh-ed25519" and form is PEM:
        form = PKCS8  # there is no PEM format of its own for it
    path = tmp_path / "key"
    write_private(path, private_text(KEYS[name], form, passphrase))
    loaded = KeyStore().load(str(path), passphrase or None)
    assert loaded.reason == ""
    assert loaded.pkey is not None
    assert loaded.pkey.get_name() == name
    assert loaded.pkey.asbytes() == loaded.public == public_blob(KEYS[name])
    algorithm = "rsa-sha2-256" if name == "ssh-rsa" else name
    signature = loaded.pkey.sign_ssh_data(b"data", algorithm)
    public = paramiko.PKey.from_type_string(name, loaded.public)
    assert public.verify_ssh_sig(b"data", Message(signature.asbytes()))


def test_a_passphrase_may_have_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    encryption = serialization.BestAvailableEncryption(b"gr\xfcn")
    key = ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(serialization.Encoding.PEM, PKCS8, encryption)
    write_private(tmp_path / "key", text)
    assert KeyStore().load(str(tmp_path / "key"), "gr\udcfcn").reason == ""
    reason = KeyStore().load(str(tmp_path / "key"), "gr\ud800n").reason
    assert reason.endswith("and the passphrase has characters that UTF-8 does not have")


@pytest.mark.needs("ssh-keygen")
@pytest.mark.parametrize(
    "cipher",
    [
        "3des-cbc",
        "aes128-cbc",
        "aes128-ctr",
        "aes128-gcm@openssh.com",
        "aes192-cbc",
        "aes192-ctr",
        "aes256-cbc",
        "aes256-ctr",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
    ],
)
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_that_ssh_keygen_encrypts(tmp_path: Path, cipher: str, kind: str) -> None:
    path = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", kind, "-a", "2", "-Z", cipher, "-N", "geheim"]
    processes.run(*command, "-f", path)
    line = path.with_name("key.pub").read_bytes()
    loaded = KeyStore().load(str(path), "geheim")
    assert loaded.reason == ""
    assert loaded.public == binascii.a2b_base64(line.split()[1])
    assert KeyStore().load(str(path), "wrong").reason.endswith("and the passphrase is wrong")
    assert KeyStore().load(str(path), None).reason.endswith("and no passphrase was given")


def test_a_damaged_encrypted_key_says_so(tmp_path: Path) -> None:
    text = private_text(KEYS["ssh-ed25519"], OPENSSH, "geheim")
    lines = text.split(b"\n")
    for damaged in (lines[:1], lines[:2], [*lines[:2], b"AAAA", *lines[-2:]]):
        path = tmp_path / "key"
        write_private(path, b"\n".join(damaged))
        assert KeyStore().load(str(path), "geheim").reason == f"{path} is damaged"
    unknown = parse_openssh_key(text)._replace(cipher="rot13")
    with pytest.raises(ValueError, match="'rot13', which is not supported"):
        unknown.decrypted(b"geheim")
    assert "private" not in repr(unknown)


def test_text_in_memory_and_the_passphrase_of_a_function() -> None:
    asked = []

    def passphrase(node: str) -> str:
        asked.append(node)
        return "geheim"

    text = private_text(KEYS["ssh-ed25519"], OPENSSH, "geheim")
    store = KeyStore()
    first = store.load(text, passphrase, "node1")
    assert first.pkey is not None
    assert store.load(text, passphrase, "node2") is first
    assert asked == ["node1"]


def test_a_function_is_not_asked_for_a_key_that_is_not_encrypted() -> None:
    def passphrase(_node: str) -> str:
        raise AssertionError("not needed")

    text = private_text(KEYS["ssh-ed25519"], OPENSSH)
    assert KeyStore().load(text, passphrase, "node1").pkey is not None


def test_a_key_is_read_once_by_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, private_text(KEYS["ssh-ed25519"], OPENSSH, "geheim"))
    asked = []
    gate = threading.Barrier(8)

    def passphrase(node: str) -> str:
        asked.append(node)
        return "geheim"

    store = KeyStore()

    def load(number: int) -> object:
        gate.wait(10)
        return store.load(str(path), passphrase, f"node{number}").pkey

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load, range(8)))
    assert len(asked) == 1
    assert all(key is keys[0] for key in keys)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    store = KeyStore()
    assert store.load(str(path)).missing
    write_private(path, private_text(KEYS["ssh-ed25519"], OPENSSH))
    assert store.load(str(path)).pkey is not None


def test_another_passphrase_is_another_try(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, private_text(KEYS["ssh-ed25519"], OPENSSH, "geheim"))
    store = KeyStore()
    assert store.load(str(path)).pkey is None
    assert store.load(str(path), "wrong").pkey is None
    assert store.load(str(path), "geheim").pkey is not None


def _raise(_node: str) -> str:
    raise RuntimeError("geheim")


ENCRYPTED = private_text(KEYS["ssh-ed25519"], OPENSSH, "x")
ODD_CURVE = ec.generate_private_key(ec.SECP256K1())
OPENSSH_BEGIN, OPENSSH_END = (
    b"-----%s OPENSSH PRIVATE KEY-----\n" % word for word in (b"BEGIN", b"END")
)
UNUSABLE = {
    "PEM": (private_text(RSA, PEM, "x"), None, "is encrypted, and no passphrase was given"),
    "PKCS8": (private_text(RSA, PKCS8, "x"), "y", "is encrypted, and the passphrase is wrong"),
    "OpenSSH": (ENCRYPTED, "y", "is encrypted, and the passphrase is wrong"),
    "empty passphrase": (ENCRYPTED, "", "is encrypted, and no passphrase was given"),
    "no answer": (ENCRYPTED, lambda _: None, "is encrypted, and no passphrase was given"),
    "wrong answer": (ENCRYPTED, lambda _: 5, "is encrypted, and the passphrase given is no"),
    "error": (ENCRYPTED, _raise, "asking for the passphrase failed: RuntimeError"),
    "ed448": (private_text(ed448.Ed448PrivateKey.generate(), PKCS8), None, "is of a type"),
    "curve": (
        private_text(ODD_CURVE, PKCS8),
        None,
        "has the curve secp256k1, which SSH does not support",
    ),
    "dsa": (private_text(dsa.generate_private_key(2048), PKCS8), None, "is of a type that"),
    "empty": (b"", None, "is not a private key"),
    "text": (b"hello\0world", None, "is not a private key"),
    "putty": (b"PuTTY-User-Key-File-2: ssh-rsa\n", None, "is in PuTTY's format"),
    "no end": (OPENSSH_BEGIN + b"AAAA\n", None, "is damaged"),
    "no base64": (OPENSSH_BEGIN + b"!\n" + OPENSSH_END, None, "is damaged"),
    "cut off": (private_text(RSA, PEM)[:-200], None, "is damaged"),
}


@pytest.mark.parametrize(("text", "passphrase", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_that_cannot_be_used_says_why(
    tmp_path: Path, text: bytes, passphrase: object, reason: str
) -> None:
    path = tmp_path / "some_key"
    write_private(path, text)
    loaded = KeyStore().load(str(path), passphrase)  # type: ignore[arg-type]
    assert loaded.pkey is None
    assert loaded.reason.startswith(f"{path} ")
    assert reason in loaded.reason
    assert "geheim" not in loaded.reason


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    loaded = KeyStore().load(str(tmp_path))
    assert (loaded.pkey, loaded.missing) == (None, False)
    # Windows says the latter of every directory.
    assert loaded.reason in {f"{tmp_path}: Is a directory", f"{tmp_path}: Permission denied"}
    loaded = KeyStore().load(str(tmp_path / "no"))
    assert (loaded.missing, loaded.reason) == (True, f"{tmp_path / 'no'}: no such identity file")


def test_the_public_key_is_known_without_the_private_one(tmp_path: Path) -> None:
    key = KEYS["ssh-ed25519"]
    public = public_blob(key)
    line = public_line(key)
    encrypted, pem, only = (tmp_path / name for name in ("encrypted", "pem", "only"))
    write_private(encrypted, private_text(key, OPENSSH, "x"))
    write_private(pem, private_text(key, PKCS8, "x"))
    (tmp_path / "pem.pub").write_bytes(line)
    (tmp_path / "only.pub").write_bytes(line + b" comment\n")
    store = KeyStore()
    for path in (encrypted, pem, only, tmp_path / "only.pub"):
        loaded = store.load(str(path))
        assert (loaded.pkey, loaded.public) == (None, public), path


@pytest.mark.needs("ssh-keygen")
@pytest.mark.parametrize("name", KEYS)
def test_certificates(tmp_path: Path, name: str) -> None:
    path = tmp_path / "key"
    write_private(path, private_text(KEYS[name], OPENSSH))
    path.chmod(0o600)
    authority = tmp_path / "ca"
    processes.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority)
    (tmp_path / "key.pub").write_bytes(public_line(KEYS[name]))
    command = ["ssh-keygen", "-q", "-s", authority, "-I", "id", "-n", "root", tmp_path / "key.pub"]
    processes.run(*command)
    store = KeyStore()
    certificate = store.certificate(f"{path}-cert.pub")
    assert isinstance(certificate, Certificate)
    assert store.certificate(f"{path}-cert.pub") is certificate
    line = Path(f"{path}-cert.pub").read_text().strip()
    assert store.certificate(line) == certificate
    for other, key in KEYS.items():
        assert certificate.certifies(public_blob(key)) is (other == name)
    pkey = store.load(str(path)).pkey
    assert pkey is not None
    certified = certificate.attach(pkey)
    assert certified.public_blob.key_blob == certificate.blob  # type: ignore[attr-defined]
    assert pkey.public_blob is None  # type: ignore[attr-defined] # the shared one is left alone


def test_what_is_no_certificate_says_so(tmp_path: Path) -> None:
    path = tmp_path / "id.pub"
    path.write_bytes(public_line(KEYS["ssh-ed25519"]))
    store = KeyStore()
    assert store.certificate(str(path)) == f"{path} is not an OpenSSH certificate"
    assert store.certificate(f"{path}x") == f"{path}x: No such file or directory"
    assert (
        store.certificate("no certificate")
        == "certificate given in code is not an OpenSSH certificate"
    )
