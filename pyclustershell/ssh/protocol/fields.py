"""Reads and writes the data types of RFC 4251 section 5, as keys and SFTP packets hold them.

paramiko's Message makes up the bytes that are missing from a field; this reader raises.
"""

from __future__ import annotations

import struct

_LENGTH = struct.Struct(">I")


def ssh_string(data: bytes) -> bytes:
    """Encode a string: its length as a uint32, then its bytes."""
    return _LENGTH.pack(len(data)) + data


class Fields:
    """Reads one field after another.

    Attributes:
        error: the exception that every method raises if fewer bytes are left than it reads.
    """

    __slots__ = ("_data", "_name", "_position")

    error: type[ValueError] = ValueError

    def __init__(self, data: bytes, name: str = "the packet") -> None:
        """Begin at the first field.

        Args:
            data: the encoded fields.
            name: the subject of error messages, such as 'the certificate'.
        """
        self._data = data
        self._name = name
        self._position = 0

    @property
    def left(self) -> int:
        """The number of bytes that have not been read."""
        return len(self._data) - self._position

    @property
    def consumed(self) -> bytes:
        """The bytes that have been read."""
        return self._data[: self._position]

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes.

        Raises:
            ValueError: fewer bytes are left. Subclasses raise another exception, see ``error``.
        """
        start = self._position
        if size > len(self._data) - start:
            raise self.error(
                f"{self._name} is damaged: a field of {size} bytes, "
                f"but only {len(self._data) - start} bytes are left"
            )
        self._position = start + size
        return self._data[start : start + size]

    def byte(self) -> int:
        """Return a number of 8 bits."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Return a number of 32 bits."""
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        """Return a number of 64 bits."""
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        """Return a string: its length is a uint32, its bytes follow."""
        return self.take(self.uint32())

    def inner(self) -> Fields:
        """Return the fields that are encoded in a string."""
        return Fields(self.string(), self._name)
