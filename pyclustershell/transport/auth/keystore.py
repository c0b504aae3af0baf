"""Private keys and their certificates: each read and decrypted once, for all nodes.

OpenSSH's own format, PEM and PKCS#8 are read, encrypted or not, from files and from memory. The
parsing is that of the cryptography package, on which paramiko stands: paramiko's own covers fewer
ciphers, and knows no PKCS#8.
"""

from __future__ import annotations

import binascii
import copy
import io
import os
import threading
from collections.abc import Hashable
from typing import Callable, Generic, NamedTuple, Optional, TypeVar, Union

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from paramiko.message import Message

from ... import platform
from ..config.context import file_stamp
from ..config.settings import PerNode

T = TypeVar("T")

_CERTIFICATE = "-cert-v01@openssh.com"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # RFC 5656, section 10.1
_OPENSSH_MAGIC = b"openssh-key-v1\0"


class LoadedKey(NamedTuple):
    """What came of reading a private key.

    Attributes:
        pkey: the key, or None if it cannot be used.
        public: the public key where it is known, also without the private one, else b''.
        reason: why the key cannot be used, in words for a message; '' if it can.
        missing: whether there is no such file.
    """

    pkey: Optional[paramiko.PKey]
    public: bytes = b""
    reason: str = ""
    missing: bool = False


class Certificate(NamedTuple):
    """An OpenSSH certificate of a public key: its line, and the blob in it."""

    text: str
    blob: bytes

    def certifies(self, public: bytes) -> bool:
        """Tell whether it is about this public key.

        A certificate (PROTOCOL.certkeys) has the type, a nonce, and then the fields that follow
        the type in the public key.
        """
        certificate, key = Message(self.blob), Message(public)
        kind, plain = certificate.get_text(), key.get_text()
        certificate.get_binary()
        return kind == plain + _CERTIFICATE and certificate.get_remainder().startswith(
            key.get_remainder()
        )

    def attach(self, pkey: paramiko.PKey) -> paramiko.PKey:
        """Return a copy of the key that presents itself with this certificate."""
        # A copy, because the key is shared between connections, and may be tried without, too.
        certified = copy.copy(pkey)
        certified.load_certificate(self.text)
        return certified


class KeyStore:
    """Reads private keys and certificates, each once until its file changes.

    Safe to use from several threads: while one reads a key, others that want the same one wait.

    Attributes:
        prompting: held while a function of the user is called, so that questions come one by one.
    """

    def __init__(self) -> None:
        self.prompting = threading.RLock()
        self._keys: _Memo[LoadedKey] = _Memo()
        self._certificates: _Memo[Union[Certificate, str]] = _Memo()

    def load(
        self,
        source: Union[str, bytes],
        passphrase: Optional[PerNode[str]] = None,
        node: str = "",
    ) -> LoadedKey:
        """Return the private key of a file, or of a PEM text.

        Args:
            source: the file's path, or the text as bytes.
            passphrase: decrypts it; a function is called with the node, once per key.
            node: the node for which the key is wanted.
        """
        stamp = None if isinstance(source, bytes) else file_stamp(source)
        return self._keys.get(
            (source, stamp, passphrase), lambda: self._load(source, passphrase, node)
        )

    def is_read(self, source: Union[str, bytes], passphrase: Optional[PerNode[str]]) -> bool:
        """Whether :meth:`load` would return at once."""
        stamp = None if isinstance(source, bytes) else file_stamp(source)
        return self._keys.has((source, stamp, passphrase))

    def certificate(self, source: str) -> Union[Certificate, str]:
        """Return the certificate of a file or a literal line, or why there is none."""
        stamp = None if " " in source else file_stamp(source)
        return self._certificates.get((source, stamp), lambda: _load_certificate(source))

    def _load(
        self, source: Union[str, bytes], passphrase: Optional[PerNode[str]], node: str
    ) -> LoadedKey:
        name = source if isinstance(source, str) else "key given in code"
        if isinstance(source, bytes):
            data = source
        else:
            try:
                with open(source, "rb") as file:
                    data = file.read()
                    reason = _too_open(file.fileno())
                # An IdentityFile may also be a public key, for the agent to have the private one.
                if reason is not None and b"PRIVATE KEY" in data:
                    return LoadedKey(None, _public_beside(source), f"{name}: {reason}")
            except FileNotFoundError:
                reason = f"{name}: no such identity file"
                return LoadedKey(None, _public_beside(source), reason, missing=True)
            except OSError as error:
                return LoadedKey(None, _public_beside(source), f"{name}: {error.strerror}")
        public = _public_within(data)
        if not public and isinstance(source, str):
            public = _public_beside(source)
        if b"PRIVATE KEY" not in data and _public_of_line(data):
            return LoadedKey(None, _public_of_line(data), f"{name} is a public key")
        try:
            pkey = parse_private_key(data, lambda: self._ask(passphrase, node))
        except ValueError as error:
            return LoadedKey(None, public, f"{name} {error}")
        return LoadedKey(pkey, pkey.asbytes())

    def _ask(self, passphrase: Optional[PerNode[str]], node: str) -> Optional[str]:
        if not callable(passphrase):
            return passphrase
        with self.prompting:
            return passphrase(node)


class _Slot(Generic[T]):
    """One value to be made, and the lock that whoever makes it holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: list[T] = []


class _Memo(Generic[T]):
    """Values made once per key; different keys do not wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slot[T]] = {}

    def has(self, key: Hashable) -> bool:
        """Whether the value of this key has been made."""
        slot = self._slots.get(key)
        return slot is not None and bool(slot.values)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of this key, made now if nobody has yet."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if not slot.values:
                slot.values.append(make())
            return slot.values[0]


def _too_open(descriptor: int) -> Optional[str]:
    """Say why a key file cannot be used: others can read it, as ssh(1) has it ("too open")."""
    if not platform.POSIX_FILES:
        return None  # other systems have no such mode
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid() or not status.st_mode & 0o077:
        return None
    mode = status.st_mode & 0o777
    return f"permissions {mode:04o} are too open, others can read the key: chmod 600"


# -- formats ---------------------------------------------------------------------------------------


def parse_private_key(data: bytes, ask: Callable[[], Optional[str]]) -> paramiko.PKey:
    """Read a private key.

    Args:
        data: the contents of the file.
        ask: called if the key is encrypted; returns the passphrase, or None if there is none.

    Raises:
        ValueError: it cannot be used. The message is to be put behind the key's name.
    """
    if data.startswith(b"PuTTY-User-Key-File"):
        raise ValueError("is in PuTTY's format: have puttygen export it in OpenSSH's")
    if b"PRIVATE KEY-----" not in data:
        raise ValueError("is no private key")
    try:
        try:
            return _to_pkey(_read(data, None))
        except TypeError:  # what cryptography raises for an encrypted key without a passphrase
            passphrase = _passphrase(ask)
        try:
            return _to_pkey(_read(data, passphrase))
        except (ValueError, TypeError):
            raise ValueError("is encrypted, and the passphrase is wrong") from None
    except UnsupportedAlgorithm:
        raise ValueError("is of a kind that is not supported") from None


def _passphrase(ask: Callable[[], Optional[str]]) -> bytes:
    try:
        passphrase = ask()
    except Exception as error:
        # The user's function runs on a thread aside: its failure is this key's, no more.
        raise ValueError(
            f"is encrypted, and asking for the passphrase failed: {type(error).__name__}"
        ) from error
    if not passphrase:
        raise ValueError("is encrypted, and no passphrase was given")
    if not isinstance(passphrase, str):
        raise ValueError("is encrypted, and the passphrase given is no string")
    return passphrase.encode()


def _read(data: bytes, passphrase: Optional[bytes]) -> object:
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        return load(data, passphrase)
    except ValueError:
        raise ValueError("is damaged") from None


def _to_pkey(key: object) -> paramiko.PKey:
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in _CURVES:
            raise ValueError("has a curve that SSH does not know")
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        # paramiko takes Ed25519 keys from files only.
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))
    raise ValueError(f"is of a kind that is not supported ({type(key).__name__})")


def _public_within(data: bytes) -> bytes:
    """Return the public key that OpenSSH's private key format holds in the clear, or b''."""
    if b"BEGIN OPENSSH PRIVATE KEY" not in data:
        return b""
    try:
        body = b"".join(line for line in data.split(b"\n") if not line.startswith(b"-----"))
        decoded = binascii.a2b_base64(body)
        if not decoded.startswith(_OPENSSH_MAGIC):
            return b""
        fields = Message(decoded[len(_OPENSSH_MAGIC) :])
        for _ in ("cipher", "key derivation", "its options"):
            fields.get_binary()
        return bytes(fields.get_binary()) if fields.get_int() == 1 else b""
    except (binascii.Error, ValueError):
        return b""


def _public_of_line(data: bytes) -> bytes:
    """Return the blob of a line such as id.pub has it, or b''."""
    words = data.split(None, 2)
    try:
        blob = binascii.a2b_base64(words[1])
        return blob if Message(blob).get_binary() == words[0] else b""
    except (IndexError, binascii.Error):
        return b""


def _public_beside(path: str) -> bytes:
    """Return the public key in the ``.pub`` file beside a private one, or b''."""
    try:
        with open(path + ".pub", "rb") as file:
            return _public_of_line(file.read())
    except OSError:
        return b""


def _load_certificate(source: str) -> Union[Certificate, str]:
    if " " in source:
        name, text = "certificate given in code", source
    else:
        name = source
        try:
            with open(source, encoding="utf-8", errors="replace") as file:
                text = file.read().strip()
        except OSError as error:
            return f"{name}: {error.strerror}"
    blob = _public_of_line(text.encode())
    if not blob or not text.split(None, 1)[0].endswith(_CERTIFICATE):
        return f"{name} is no certificate"
    return Certificate(text, blob)
