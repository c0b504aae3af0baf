"""Every exception of this package: one root, one leaf per cause.

The names under TaskError, NodeSetException and RangeSetException are those of ClusterShell, so that
a script's ``except`` clauses keep their meaning. A failure of one node, while others go on, is a
:class:`NodeError`: it has the node, the phase, and the cause in the words of the ``ssh`` program.
"""

from __future__ import annotations

from typing import Any, Optional


class PyClusterShellError(Exception):
    """Root of all exceptions of this package."""


# -- tasks, workers and the engine --


class TaskError(PyClusterShellError):
    """Root of the errors of tasks."""


class TimeoutError(TaskError):
    """``Task.resume(timeout)`` or ``Task.run(timeout)`` did not end within its timeout."""


class AlreadyRunningError(TaskError):
    """``Task.resume()`` was called while the task was running."""


class TaskMsgTreeError(TaskError):
    """Output was requested although ``stdout_msgtree`` or ``stderr_msgtree`` is off."""


class TaskAbortedError(TaskError):
    """The task was aborted or closed while a submitted command had not ended."""


class NodesFailedError(TaskError):
    """A command failed on some nodes: ``Results.check()``.

    Attributes:
        results: the results of all nodes, a :class:`~.results.Results`.
    """

    def __init__(self, message: str, results: Any) -> None:
        super().__init__(message)
        self.results = results

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.results)


class WorkerError(PyClusterShellError):
    """The state of a worker does not allow the operation."""


class EngineError(PyClusterShellError):
    """The state of the engine, of a timer or of a port does not allow the operation."""


class EngineIllegalOperationError(EngineError):
    """A timer or a port was used that is no longer valid."""


class EngineCapacityError(EngineError):
    """The operating system allows fewer open files than the fanout needs."""


class EngineNotSupportedError(EngineError):
    """The platform lacks a polling method. Never raised; scripts for ClusterShell may catch it."""


# -- node sets and range sets --


class _PatternError(PyClusterShellError):
    """A pattern could not be parsed.

    Attributes:
        part: the part of the pattern with the error.
        pattern: the whole pattern, if it is known, or None.
    """

    pattern: Optional[str] = None

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
    """A node group source failed: its command or its file."""


class RangeSetException(PyClusterShellError):
    """Root of the errors of range sets."""


class RangeSetParseError(_PatternError, RangeSetException):
    """A range set pattern could not be parsed."""


class RangeSetPaddingError(RangeSetParseError):
    """The ends of a range have different zero padding. Never raised: RangeSetParseError is."""


# -- node groups -----------------------------------------------------------------------------------


class GroupSourceError(PyClusterShellError):
    """A group source could not answer a query.

    Attributes:
        group_source: the source.
    """

    def __init__(self, message: str, group_source: object = None) -> None:
        super().__init__(message)
        self.group_source = group_source


class GroupSourceNoUpcall(GroupSourceError):
    """The group source does not support this kind of query.

    Attributes:
        query: the query without a command: 'map', 'all', 'list' or 'reverse'; None: the source has
            no commands.
    """

    def __init__(
        self, message: str, group_source: object = None, query: Optional[str] = None
    ) -> None:
        super().__init__(message, group_source)
        self.query = query


class GroupSourceQueryFailed(GroupSourceError):
    """The command of a group source failed or took too long.

    Attributes:
        command: the command that failed, or None.
    """

    def __init__(
        self, message: str, group_source: object = None, command: Optional[str] = None
    ) -> None:
        super().__init__(message, group_source)
        self.command = command


class GroupResolverError(PyClusterShellError):
    """Root of the errors of group resolvers."""


class GroupResolverSourceError(GroupResolverError):
    """There is no group source of this name.

    Attributes:
        source: the name; None: there is no default source.
    """

    def __init__(self, message: str, source: Optional[str] = None) -> None:
        super().__init__(message)
        self.source = source


class GroupResolverIllegalCharError(GroupResolverError):
    """The name of a group has a character with a meaning in patterns.

    Raised by strict resolvers only: others skip such a group with a warning.

    Attributes:
        characters: these characters, separated by blanks.
    """

    def __init__(self, message: str, characters: str = "") -> None:
        super().__init__(message)
        self.characters = characters


class GroupResolverConfigError(GroupResolverError):
    """A configuration file of group sources is invalid.

    Attributes:
        fault: the fault alone, in ClusterShell's words, if these are others; or None.
    """

    def __init__(self, message: str, fault: Optional[str] = None) -> None:
        super().__init__(message)
        self.fault = fault


class TopologyError(PyClusterShellError):
    """A topology file, or a route in it, is invalid."""


# -- configuration --


class ConfigurationError(PyClusterShellError, ValueError):
    """An option, an option string or a configuration file is invalid.

    Attributes:
        filename: the file with the error, or None.
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


# -- failures of one node --


class NodeError(PyClusterShellError):
    """A failure of one node. Other nodes are not affected.

    Attributes:
        node: the node's name as the user gave it.
        phase: when it happened: 'configuration', 'resolve', 'connect', 'handshake', 'host key',
            'authentication', 'session' or 'copy'.
        cause: the reason, in the same words for every node with the same failure, so that failures
            can be folded by it.
        jump_host: for a node behind a jump host that failed, this jump host; else None.
    """

    phase = "session"
    jump_host: Optional[str] = None

    def __init__(self, node: str, cause: str, sentence: Optional[str] = None) -> None:
        """Make a failure of one node.

        Args:
            node: the node's name as the user gave it.
            cause: the reason, without the names of the node and of its address.
            sentence: the message as the ssh program words it; by default, the cause.
        """
        super().__init__(sentence or cause)
        self.node = node
        self.cause = cause

    @property
    def sentence(self) -> str:
        """The message as the ssh program words it. The node's 'stderr' gets it."""
        return str(self.args[0])

    @property
    def encoded_sentence(self) -> bytes:
        """The sentence as bytes. A name or path in it may have bytes that are not UTF-8."""
        return self.sentence.encode("utf-8", "surrogateescape")

    def _data(self) -> tuple[object, ...]:
        """Return what two equal failures have in common."""
        return (type(self), self.node, self.cause, self.sentence, self.jump_host)

    # A failure is data of a result: the copy that another process gets is equal.

    def __eq__(self, other: object) -> bool:
        return self._data() == other._data() if isinstance(other, NodeError) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._data())

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.node, self.cause, self.sentence), self.__dict__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(node={self.node!r}, phase={self.phase!r}, {self.sentence!r})"


class NodeConfigurationError(NodeError):
    """This node's options or configuration files are invalid or not supported."""

    phase = "configuration"


class ResolveError(NodeError):
    """No address was found for the node's host name."""

    phase = "resolve"


class ConnectError(NodeError):
    """No TCP connection could be made: refused, unreachable, or no answer in time."""

    phase = "connect"


class RouteResolvingError(ConnectError):
    """None of the gateways that lead to the node can be used; the cause names each one's failure.

    ClusterShell raises an exception of this name from ``Task.run()``, and the whole run is lost.
    """


class HandshakeError(NodeError):
    """The SSH handshake failed: no banner, no common algorithm, closed, or too slow.

    Attributes:
        transient: True if another attempt may help: the server closed or reset the connection, as
            a server with too many unauthenticated clients does (MaxStartups in sshd_config(5)).
    """

    phase = "handshake"
    transient = False


class HostKeyError(NodeError):
    """The server's host key is refused. Root of the errors of host keys."""

    phase = "host key"


class UnknownHostKeyError(HostKeyError):
    """The server's host key is in no known_hosts file and the policy is 'strict'."""


class HostKeyChangedError(HostKeyError):
    """known_hosts has another key for this host: this may be another server."""


class KnownHostsUnreadableError(HostKeyError):
    """A known_hosts file exists but cannot be opened now, so the host key cannot be checked."""


class HostKeyRevokedError(HostKeyError):
    """The host key is revoked, by known_hosts or by a list of revoked keys."""


class AuthenticationError(NodeError):
    """The server accepted none of the offered keys, passwords and answers."""

    phase = "authentication"


class SessionError(NodeError):
    """The server refused a channel or the command, or ended it without an exit status."""

    phase = "session"


class LineTooLongError(SessionError):
    """A command printed a line longer than the info key ``line_limit`` allows."""

    @classmethod
    def of(cls, node: str, sname: str, limit: int) -> LineTooLongError:
        """The failure of one node.

        Args:
            node: the node's name, or the key of a local command.
            sname: the stream: 'stdout' or 'stderr'.
            limit: the most bytes of a line.
        """
        cause = f"A line of {sname} is longer than {limit} bytes"
        return cls(node, cause, f"{cause} (the info key 'line_limit'): the command was ended.")


class StatusLostError(SessionError):
    """A local command has ended, and another part of the program has taken its exit status."""


class ConnectionLostError(SessionError):
    """The connection broke while the command may have been running. It is not run again."""


# -- copies --


class CopyError(NodeError):
    """A file could not be copied to or from a node.

    Attributes:
        path: the path of the file: the remote one, or the local one if the failure is local.
        status: the server's SFTP status code (draft-ietf-secsh-filexfer-02, 7), or None.
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

    def _data(self) -> tuple[object, ...]:
        return (*super()._data(), self.path, self.status)

    def __reduce__(self) -> tuple[object, ...]:
        details = (self.node, self.cause, self.sentence, self.path, self.status)
        return (type(self), details, self.__dict__)


class UnsafeCopyError(CopyError):
    """The server offered files that would leave the destination, or that never end.

    Examples: a name with a '/', a link that leads out, a listing without end, a wrong size.
    """


class SFTPProtocolError(CopyError):
    """The server did not speak SFTP; it mostly sent the output of a login script."""


class MalformedPacketError(PyClusterShellError, ValueError):
    """An SFTP packet is cut short, too long, or of an unknown type."""
