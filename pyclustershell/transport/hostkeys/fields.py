"""The data types of RFC 4251 section 5, read with care."""

from __future__ import annotations


class Fields:
    """Reads one field after another. paramiko's Message makes up what is missing; this raises."""

    def __init__(self, data: bytes, what: str = "the certificate") -> None:
        """Begin at the first field.

        Args:
            data: the encoded fields.
            what: what they are, for messages.
        """
        self._data = data
        self._what = what
        self._position = 0

    def take(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            ValueError: there are not so many left; the other methods raise it, too.
        """
        taken = self._data[self._position : self._position + size]
        if len(taken) < size:
            raise ValueError(f"{self._what} is damaged")
        self._position += size
        return taken

    def number(self, size: int) -> int:
        """Return an unsigned number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """Return a string: its length, and then so many bytes."""
        return self.take(self.number(4))

    def inner(self) -> Fields:
        """Return the fields that are encoded in a string."""
        return Fields(self.string(), self._what)

    def so_far(self) -> bytes:
        """Return all that has been read."""
        return self._data[: self._position]

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self._position == len(self._data)
