"""Decrypts private keys of OpenSSH's own format (PROTOCOL.key, "openssh-key-v1").

cryptography reads this format, but not with every cipher that ``ssh-keygen -Z`` uses. So the cipher
is removed here, and cryptography reads the result, a key without a passphrase.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ..protocol.fields import Fields, ssh_string

_MAGIC = b"openssh-key-v1\0"
_BEGIN, _END = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
_TAG = 16  # bytes


class WrongPassphraseError(ValueError):
    """The passphrase is wrong, or the key is damaged."""


class EncryptedKey(NamedTuple):
    """The parts of a key file.

    Attributes:
        cipher: the name of the cipher; 'none' if the key is not encrypted.
        kdf: the name of the function that derives the cipher's key; 'none' or 'bcrypt'.
        kdf_options: the options of that function, encoded.
        public: the public key.
        private: the private part.
        tag: the authentication tag, empty for a cipher without one.
    """

    cipher: str
    kdf: str
    kdf_options: bytes
    public: bytes
    private: bytes
    tag: bytes

    def __repr__(self) -> str:
        return f"<EncryptedKey {self.cipher}>"  # The private part may not be encrypted.

    def decrypted(self, passphrase: bytes) -> bytes:
        """Return the text of the key without encryption, as ssh-keygen writes it.

        Raises:
            WrongPassphraseError: the passphrase is wrong.
            ValueError: the cipher or its key derivation is unknown, or the file is damaged.
        """
        found = _CIPHERS.get(self.cipher)
        if found is None:
            raise ValueError(f"is encrypted with {self.cipher!r}, which is not supported")
        if self.kdf != "bcrypt":
            raise ValueError(f"is encrypted with a key of {self.kdf!r}, which is not supported")
        options = Fields(self.kdf_options, "the key")
        salt, rounds = options.string(), options.uint32()
        # paramiko requires bcrypt.
        derived = import_module("bcrypt").kdf(
            passphrase, salt, found.key_size + found.iv_size, rounds, ignore_few_rounds=True
        )
        key, iv = derived[: found.key_size], derived[found.key_size :]
        if len(self.private) % found.block_size or len(self.tag) != found.tag_size:
            raise ValueError("is damaged")
        try:
            plain = found.decrypt(key, iv, self.private, self.tag)
        except InvalidTag:
            raise WrongPassphraseError("is encrypted, and the passphrase is wrong") from None
        if plain[:4] != plain[4:8]:  # a random number, twice
            raise WrongPassphraseError("is encrypted, and the passphrase is wrong")
        parts = (b"none", b"none", b"", b"\0\0\0\1", self.public, plain)
        body = b"".join(
            part if index == 3 else ssh_string(part) for index, part in enumerate(parts)
        )
        return b"\n".join([_BEGIN, base64.encodebytes(_MAGIC + body).rstrip(), _END, b""])


def parse_openssh_key(data: bytes) -> EncryptedKey:
    """Parse the contents of a key file.

    Raises:
        ValueError: it is damaged, or contains several keys, which ssh-keygen never writes.
    """
    start, end = data.find(_BEGIN), data.find(_END)
    if not 0 <= start < end:
        raise ValueError("is damaged")
    try:
        body = binascii.a2b_base64(data[start + len(_BEGIN) : end])
        fields = Fields(body, "the key")
        if fields.take(len(_MAGIC)) != _MAGIC:
            raise ValueError
        cipher, kdf, options = fields.string(), fields.string(), fields.string()
        if fields.uint32() != 1:
            raise ValueError
        public, private = fields.string(), fields.string()
        return EncryptedKey(
            cipher.decode(), kdf.decode(), options, public, private, fields.take(fields.left)
        )
    except ValueError:
        raise ValueError("is damaged") from None


# -- ciphers: each takes the key, the initialization vector, the encrypted bytes and the tag --

_Decrypt = Callable[[bytes, bytes, bytes, bytes], bytes]


class _Cipher(NamedTuple):
    """A cipher; all sizes are in bytes."""

    key_size: int
    iv_size: int
    block_size: int
    tag_size: int
    decrypt: _Decrypt


def _decrypt_cbc(key: bytes, iv: bytes, data: bytes, _tag: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _decrypt_ctr(key: bytes, iv: bytes, data: bytes, _tag: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _decrypt_gcm(key: bytes, iv: bytes, data: bytes, tag: bytes) -> bytes:
    return AESGCM(key).decrypt(iv, data + tag, None)


def _decrypt_3des(key: bytes, iv: bytes, data: bytes, _tag: bytes) -> bytes:
    try:
        module = import_module("cryptography.hazmat.decrepit.ciphers.algorithms")
    except ImportError:  # cryptography before 43
        module = algorithms
    decryptor = Cipher(module.TripleDES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _decrypt_chacha20(key: bytes, _iv: bytes, data: bytes, tag: bytes) -> bytes:
    """Decrypt as for a packet with the number 0 (PROTOCOL.chacha20poly1305), without a length.

    The second half of the key encrypts the packets' lengths only.
    """

    def chacha(counter: int, text: bytes) -> bytes:
        # A counter of 64 bits, little-endian, and the packet's number.
        nonce = counter.to_bytes(8, "little") + bytes(8)
        return Cipher(algorithms.ChaCha20(key[:32], nonce), None).decryptor().update(text)

    try:
        Poly1305.verify_tag(chacha(0, bytes(32)), data, tag)
    except InvalidSignature:
        raise InvalidTag from None
    return chacha(1, data)


_CIPHERS = {
    **{
        f"aes{bits}-{mode}": _Cipher(bits // 8, 16, 16, 0, decrypt)
        for bits in (128, 192, 256)
        for mode, decrypt in (("cbc", _decrypt_cbc), ("ctr", _decrypt_ctr))
    },
    **{
        f"aes{bits}-gcm@openssh.com": _Cipher(bits // 8, 12, 16, _TAG, _decrypt_gcm)
        for bits in (128, 256)
    },
    "3des-cbc": _Cipher(24, 8, 8, 0, _decrypt_3des),
    "chacha20-poly1305@openssh.com": _Cipher(64, 0, 8, _TAG, _decrypt_chacha20),
}
"""The ciphers of OpenSSH's cipher.c that encrypt a key, with the sizes given there."""
