"""Private keys and their certificates, each read and decrypted once for all nodes.

Supports OpenSSH's own format, PEM and PKCS#8, encrypted or not, in files and in memory. The
cryptography package, which paramiko requires, parses them: paramiko's own parser supports fewer
ciphers, and no PKCS#8.
"""

from __future__ import annotations

import binascii
import copy
import io
import os
import threading
from typing import Callable, NamedTuple, Optional, Union, cast

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ... import platform
from ...engine.descriptors import is_shortage
from ..config.filestamp import file_stamp
from ..config.memo import Memo, Passing
from ..config.settings import PerNode
from ..protocol.algorithms import CERTIFICATE_SUFFIX
from ..protocol.fields import Fields
from .encryptedkey import parse_openssh_key

_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # RFC 5656, section 10.1
_OPENSSH_BEGIN = b"BEGIN OPENSSH PRIVATE KEY"


class LoadedKey(NamedTuple):
    """The outcome of reading a private key.

    Attributes:
        pkey: the key, or None if it cannot be used.
        public: the public key, known even without the private key in some formats; b'' if unknown.
        reason: the reason why the key cannot be used, for a message; '' if it can.
        missing: True if there is no such file.
    """

    pkey: Optional[paramiko.PKey]
    public: bytes = b""
    reason: str = ""
    missing: bool = False


class Certificate(NamedTuple):
    """An OpenSSH certificate of a public key (PROTOCOL.certkeys), as it is sent to servers."""

    blob: bytes

    def certifies(self, public: bytes) -> bool:
        """True if this is a certificate of this public key.

        A certificate (PROTOCOL.certkeys) contains its type, a nonce, and then the fields that
        follow the type in the public key.
        """
        certificate, key = Fields(self.blob), Fields(public)
        try:
            kind, plain = certificate.string(), key.string()
            certificate.string()  # the nonce
        except ValueError:
            return False
        follows = self.blob[len(certificate.consumed) :]
        return kind == plain + CERTIFICATE_SUFFIX.encode() and follows.startswith(
            public[len(key.consumed) :]
        )

    def attach(self, pkey: paramiko.PKey) -> paramiko.PKey:
        """Return a copy of the key that offers this certificate to servers."""
        # A copy, because connections share the key, and may also try it without its certificate.
        certified = copy.copy(pkey)
        # A message, because paramiko asks the disk whether a text is the path of a file.
        certified.load_certificate(paramiko.Message(self.blob))
        return certified


class KeyStore:
    """Reads private keys and certificates; each is read again only after a change of its file.

    Safe to use from several threads: while one thread reads a key, others wait for the same key.

    Attributes:
        prompt_lock: held while a function of the user is called, so that it asks one question at
            a time.
    """

    def __init__(self) -> None:
        self.prompt_lock = threading.RLock()
        self._keys = Memo()
        self._certificates = Memo()

    def load(
        self,
        source: Union[str, bytes],
        passphrase: Optional[PerNode[str]] = None,
        node: str = "",
        wait: bool = True,
    ) -> LoadedKey:
        """Return the private key of a file or of a PEM text.

        Args:
            source: the file's path, or the text as bytes.
            passphrase: the passphrase, or a function of the node, called once per key.
            node: the node that needs the key.
            wait: True if the calling thread may wait for a disk, the user and the decryption.

        Raises:
            LookupPending: the calling thread may not wait.
        """
        stamp = None if isinstance(source, bytes) else file_stamp(source, wait)
        key: LoadedKey = self._keys.get(
            (source, stamp, passphrase), lambda: self._load(source, passphrase, node), wait
        )
        return key

    def certificate(self, source: str, wait: bool = True) -> Union[Certificate, str]:
        """Return the certificate of a file or a literal line, or the reason why there is none.

        Args:
            source: the file's path, or the line.
            wait: True if the calling thread may wait for a disk.

        Raises:
            LookupPending: the calling thread may not wait.
        """
        stamp = None if " " in source else file_stamp(source, wait)
        return cast(
            "Union[Certificate, str]",
            self._certificates.get((source, stamp), lambda: _load_certificate(source), wait),
        )

    def _load(
        self, source: Union[str, bytes], passphrase: Optional[PerNode[str]], node: str
    ) -> Union[LoadedKey, Passing]:
        name = source if isinstance(source, str) else "key given in code"
        if isinstance(source, bytes):
            data = source
        else:
            try:
                with open(source, "rb") as file:
                    data = file.read()
                    reason = _too_open(file.fileno())
                # An IdentityFile may also be a public key: then the agent has the private key.
                if reason is not None and b"PRIVATE KEY" in data:
                    return LoadedKey(None, _public_beside(source), f"{name}: {reason}")
            except FileNotFoundError:
                reason = f"{name}: no such identity file"
                return LoadedKey(None, _public_beside(source), reason, missing=True)
            except OSError as error:
                failed = LoadedKey(None, _public_beside(source), f"{name}: {error.strerror}")
                return Passing(failed) if is_shortage(error) else failed
        public = _public_within(data)
        if not public and isinstance(source, str):
            public = _public_beside(source)
        if b"PRIVATE KEY" not in data and _public_of_line(data):
            return LoadedKey(
                None,
                _public_of_line(data),
                f"{name} is a public key, and no agent has its private key",
            )
        try:
            pkey = parse_private_key(data, lambda: self._ask(passphrase, node))
        except ValueError as error:
            return LoadedKey(None, public, f"{name} {error}")
        return LoadedKey(pkey, pkey.asbytes())

    def _ask(self, passphrase: Optional[PerNode[str]], node: str) -> Optional[str]:
        if not callable(passphrase):
            return passphrase
        with self.prompt_lock:
            return passphrase(node)


def _too_open(descriptor: int) -> Optional[str]:
    """Return a reason if other users can read a key file: ssh(1) refuses it as "too open"."""
    if not platform.POSIX_FILES:
        return None  # Other systems have no file mode.
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
        ask: called if the key is encrypted; returns the passphrase, or None.

    Raises:
        ValueError: the key cannot be used. The message continues a sentence after the key's name.
    """
    if data.startswith(b"PuTTY-User-Key-File"):
        raise ValueError("is in PuTTY's format: export it in OpenSSH's format with puttygen")
    if b"PRIVATE KEY-----" not in data:
        raise ValueError("is not a private key")
    try:
        if _OPENSSH_BEGIN in data and parse_openssh_key(data).cipher != "none":
            passphrase = _passphrase(ask)
        else:
            try:
                return _to_pkey(_read(data, None))
            except TypeError:  # cryptography: the key is encrypted, and there is no passphrase
                passphrase = _passphrase(ask)
        if _OPENSSH_BEGIN in data:
            return _to_pkey(_read(parse_openssh_key(data).decrypted(passphrase), None))
        try:
            return _to_pkey(_read(data, passphrase))
        except (ValueError, TypeError):
            raise ValueError("is encrypted, and the passphrase is wrong") from None
    except UnsupportedAlgorithm:
        raise ValueError("is of a type that is not supported: use Ed25519, ECDSA or RSA") from None


def _passphrase(ask: Callable[[], Optional[str]]) -> bytes:
    try:
        passphrase = ask()
    except Exception as error:
        # An exception of the user's function only makes this key unusable.
        raise ValueError(
            f"is encrypted, and asking for the passphrase failed: {type(error).__name__}"
        ) from error
    if not passphrase:
        raise ValueError("is encrypted, and no passphrase was given")
    if not isinstance(passphrase, str):
        raise ValueError("is encrypted, and the passphrase given is no string")
    try:
        return passphrase.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # its repr() has the passphrase
        raise ValueError(
            "is encrypted, and the passphrase has characters that UTF-8 does not have"
        ) from None


def _read(data: bytes, passphrase: Optional[bytes]) -> object:
    load = (
        serialization.load_ssh_private_key
        if _OPENSSH_BEGIN in data
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
            raise ValueError(f"has the curve {key.curve.name}, which SSH does not support")
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        # paramiko reads Ed25519 keys from files only.
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))
    raise ValueError(
        f"is of a type that is not supported ({type(key).__name__}): use Ed25519, ECDSA or RSA"
    )


def _public_within(data: bytes) -> bytes:
    """Return the unencrypted public key in a private key of OpenSSH's format, or b''."""
    if _OPENSSH_BEGIN not in data:
        return b""
    try:
        return parse_openssh_key(data).public
    except ValueError:
        return b""


def _public_of_line(data: bytes) -> bytes:
    """Return the blob of a public key line, as in id.pub, or b''."""
    words = data.split(None, 2)
    try:
        blob = binascii.a2b_base64(words[1])
        return blob if Fields(blob).string() == words[0] else b""
    except (IndexError, ValueError):
        return b""


def _public_beside(path: str) -> bytes:
    """Return the public key in the ``.pub`` file beside a private key, or b''."""
    try:
        with open(path + ".pub", "rb") as file:
            return _public_of_line(file.read())
    except OSError:
        return b""


def _load_certificate(source: str) -> Union[Certificate, str, Passing]:
    if " " in source:
        name, text = "certificate given in code", source
    else:
        name = source
        try:
            with open(source, encoding="utf-8", errors="replace") as file:
                text = file.read().strip()
        except OSError as error:
            reason = f"{name}: {error.strerror}"
            return Passing(reason) if is_shortage(error) else reason
    blob = _public_of_line(text.encode())
    if not blob or not text.split(None, 1)[0].endswith(CERTIFICATE_SUFFIX):
        return f"{name} is not an OpenSSH certificate"
    return Certificate(blob)
