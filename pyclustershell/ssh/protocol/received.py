"""Messages of a server, read exactly: no byte may be missing, and none may be left over."""

from __future__ import annotations

from paramiko import SSHException
from paramiko.message import Message


class ReceivedMessage(Message):
    """A message whose fields end the connection if they are cut short.

    ``paramiko.Message`` makes up zero bytes for those that are missing: a status that is cut short
    would be 0, a success. OpenSSH ends the connection, so this class raises.

    Args:
        content: the bytes after the type.

    Attributes:
        kind: the message's type, for the error (RFC 4250 4.1.2); the caller sets it.
    """

    kind = 0

    def get_bytes(self, n: int) -> bytes:
        """Return the next ``n`` bytes. paramiko's methods for all types of fields call this.

        Raises:
            SSHException: fewer bytes are left.
        """
        data: bytes = self.packet.read(n)
        if len(data) < n:
            raise cut_short(self.kind)
        return data

    def check_end(self) -> None:
        """Check that all bytes have been read: call it before the message has any effect.

        Raises:
            SSHException: some are left.
        """
        rest = self.packet.read()
        if rest:
            raise too_long(self.kind, len(rest))


def check_end(message: Message) -> None:
    """Check a message that paramiko's code passes on; see :meth:`ReceivedMessage.check_end`."""
    if isinstance(message, ReceivedMessage):
        message.check_end()


def cut_short(kind: int) -> SSHException:
    """Return the error of a message that ends before its last field does."""
    return SSHException(f"a message of type {kind} is cut short")


def too_long(kind: int, size: int) -> SSHException:
    """Return the error of a message that has ``size`` bytes after its last field."""
    return SSHException(f"a message of type {kind} has {size} bytes after its end")
