"""Every exception of this package: one root, one leaf per cause.

The names under TaskError, NodeSetException and RangeSetException are those of ClusterShell, so that
a script's ``except`` clauses keep their meaning. What goes wrong on one node while others go on is
a :class:`NodeError`: it carries the node, the phase in which it happened, and the cause in the
words that the ``ssh`` program would use.
"""

from __future__ import annotations

from typing import Optional


class PyClusterShellError(Exception):
    """Root of this package's exceptions."""


# -- tasks, workers and the engine --


class TaskError(PyClusterShellError):
    """A task could not do what it was asked."""


class TimeoutError(TaskError):
    """``Task.resume(timeout)`` or ``Task.run(timeout)`` ran out of time."""


class AlreadyRunningError(TaskError):
    """``Task.resume()`` was called while the task was running."""


class TaskMsgTreeError(TaskError):
    """Buffers were asked for although ``stdout_msgtree`` or ``stderr_msgtree`` is off."""


class WorkerError(PyClusterShellError):
    """A worker was used in a way that its state does not allow."""


class EngineError(PyClusterShellError):
    """The engine, a timer or a port was used in a way that its state does not allow."""


class EngineIllegalOperationError(EngineError):
    """An operation on a timer or a port that is no longer valid."""


class EngineCapacityError(EngineError):
    """The operating system does not allow as many open files as the fanout needs."""


class EngineNotSupportedError(EngineError):
    """The platform lacks a way of waiting. Never raised: another way is taken instead."""


# -- node sets and range sets --


class _PatternError(PyClusterShellError):
    """A pattern could not be parsed.

    Attributes:
        part: the piece of the pattern in which the error lies.
    """

    def __init__(self, part: object, message: str) -> None:
        super().__init__(message)
        self.part = part

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {str(self.part)!r}" if self.part else message


class NodeSetException(PyClusterShellError):
    """Root of the errors of node sets."""


class NodeSetError(NodeSetException):
    """A node set operation failed."""


class NodeSetParseError(_PatternError, NodeSetError):
    """A node set pattern could not be parsed."""


class NodeSetParseRangeError(NodeSetParseError):
    """The bracketed range of a node set pattern could not be parsed."""


class NodeSetExternalError(NodeSetError):
    """A node group source (its command or its file) failed."""


class RangeSetException(PyClusterShellError):
    """Root of the errors of range sets."""


class RangeSetParseError(_PatternError, RangeSetException):
    """A range set pattern could not be parsed."""


class RangeSetPaddingError(RangeSetParseError):
    """The zero padding of a range is inconsistent."""


# -- node groups -----------------------------------------------------------------------------------


class GroupSourceError(PyClusterShellError):
    """A group source could not answer.

    Attributes:
        group_source: the source.
    """

    def __init__(self, message: str, group_source: object = None) -> None:
        super().__init__(message)
        self.group_source = group_source


class GroupSourceNoUpcall(GroupSourceError):
    """The group source has no way to answer this kind of question."""


class GroupSourceQueryFailed(GroupSourceError):
    """The group source failed to answer: its command failed, or took too long."""


class GroupResolverError(PyClusterShellError):
    """Root of the errors of group resolvers."""


class GroupResolverSourceError(GroupResolverError):
    """There is no group source of that name."""


class GroupResolverIllegalCharError(GroupResolverError):
    """The name of a group contains a character that means something else in node sets."""


class GroupResolverConfigError(GroupResolverError):
    """A configuration file of group sources is wrong."""


class TopologyError(PyClusterShellError):
    """A topology file or a route in it is wrong."""


# -- configuration --


class ConfigurationError(PyClusterShellError, ValueError):
    """An option, an option string or a configuration file is wrong.

    Attributes:
        filename: the file in which the error lies, or None.
        line: the line in that file, counted from 1, or None.
    """

    def __init__(
        self, message: str, filename: Optional[str] = None, line: Optional[int] = None
    ) -> None:
        super().__init__(message)
        self.filename = filename
        self.line = line

    def __str__(self) -> str:
        message = super().__str__()
        if self.filename is None:
            return message
        return (
            f"{self.filename}: {message}"
            if self.line is None
            else f"{self.filename} line {self.line}: {message}"
        )


# -- what can go wrong on one node --


class NodeError(PyClusterShellError):
    """What went wrong on one node. Other nodes are not affected.

    Attributes:
        node: the node's name as the user gave it.
        phase: where it happened: 'configuration', 'resolve', 'connect', 'handshake', 'host key',
            'authentication', 'session' or 'copy'.
        cause: why, in words that hold for every node with the same trouble, so that failures can
            be folded by it.
        jump_host: the jump host whose failure it is, for a node behind one; else None.
    """

    phase = "session"
    jump_host: Optional[str] = None

    def __init__(self, node: str, cause: str, sentence: Optional[str] = None) -> None:
        """Make a failure of one node.

        Args:
            node: the node's name as the user gave it.
            cause: why, in words that name neither node nor address.
            sentence: the message as the ssh program words it; by default, the cause.
        """
        super().__init__(sentence or cause)
        self.node = node
        self.cause = cause

    @property
    def sentence(self) -> str:
        """The message as the ssh program words it: what reaches the node's 'stderr'."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.node, self.cause, self.sentence), self.__dict__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(node={self.node!r}, phase={self.phase!r}, {self.sentence!r})"


class NodeConfigurationError(NodeError):
    """This node's options or configuration files are wrong, or ask for what is not supported."""

    phase = "configuration"


class ResolveError(NodeError):
    """The node's host name has no address."""

    phase = "resolve"


class ConnectError(NodeError):
    """No TCP connection: refused, unreachable, or no answer in time."""

    phase = "connect"


class HandshakeError(NodeError):
    """A TCP connection, but no SSH over it: no banner, no common algorithms, closed, too slow.

    Attributes:
        transient: whether another attempt may help: the server closed or reset the connection, as
            one does that has too many unauthenticated clients (MaxStartups in sshd_config(5)).
    """

    phase = "handshake"
    transient = False


class HostKeyError(NodeError):
    """Root of the reasons for which a server's host key is refused."""

    phase = "host key"


class UnknownHostKeyError(HostKeyError):
    """The server's host key is in no known_hosts file and the policy is 'strict'."""


class HostKeyChangedError(HostKeyError):
    """known_hosts holds another key for this host: the server is not the one that was known."""


class HostKeyRevokedError(HostKeyError):
    """known_hosts marks this host key as revoked."""


class AuthenticationError(NodeError):
    """The server accepted none of the keys, passwords and answers offered."""

    phase = "authentication"


class SessionError(NodeError):
    """The server refused a channel or the command, or ended it without an exit status."""

    phase = "session"


class LineTooLongError(SessionError):
    """A command printed a line that is longer than the info key ``line_limit`` allows."""

    @classmethod
    def of(cls, node: str, sname: str, limit: int) -> LineTooLongError:
        """The failure of one node.

        Args:
            node: the node's name, or the key of a local command.
            sname: the stream: 'stdout' or 'stderr'.
            limit: how many bytes a line may have.
        """
        cause = f"A line of {sname} is longer than {limit} bytes"
        return cls(node, cause, f"{cause} (the info key 'line_limit'): the command was ended.")


class ConnectionLostError(SessionError):
    """The connection broke while the command may have been running. It is not run again."""


# -- copies --


class CopyError(NodeError):
    """A file could not be copied to or from a node.

    Attributes:
        path: which one: the remote path, or the local one where this host is to blame.
        status: the SFTP status code (draft-ietf-secsh-filexfer-02, 7) that the server gave, or
            None.
    """

    phase = "copy"

    def __init__(
        self,
        node: str,
        cause: str,
        sentence: Optional[str] = None,
        path: str = "",
        status: Optional[int] = None,
    ) -> None:
        super().__init__(node, cause, sentence)
        self.path = path
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.node, self.cause, self.sentence, self.path, self.status))


class UnsafeCopyError(CopyError):
    """The server offered what would have been written outside of the destination, or without end.

    A name with a '/', a link that leads out, a listing without end, a size that is not true.
    """


class SFTPProtocolError(CopyError):
    """What the server sent is no SFTP; mostly the output of a login script."""


class MalformedPacketError(PyClusterShellError, ValueError):
    """A packet of SFTP is cut short, too long, or of no known type."""
