"""What a user asks a task for after a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Optional

from .exceptions import NodeError, TaskMsgTreeError
from .msgtree import MsgTreeElem
from .results import Results


class TaskResults:
    """The getters of :class:`~.task.Task`: output, return codes, timeouts and failures by key.

    A key is a node's name, or what was given as ``key`` for a local command.

    Attributes:
        results: where the workers put what they bring.
    """

    results: Results

    def default(self, default_key: str, def_val: Any = None) -> Any:
        """The value of a default key."""
        raise NotImplementedError

    def keeps(self, sname: str) -> bool:
        """Whether a stream's output is kept for the buffers (``stdout_msgtree`` and the like).

        That of streams with other names is not, unless ``<name>_msgtree`` is set.
        """
        return bool(self.default(f"{sname}_msgtree"))

    def check_kept(self, sname: str) -> None:
        """Refuse to look for what is not kept.

        Raises:
            TaskMsgTreeError: the stream's output is not kept.
        """
        if not self.keeps(sname):
            raise TaskMsgTreeError(
                f"{sname} is not kept: set_default('{sname}_msgtree', True) before the run"
            )

    def key_buffer(self, key: Any) -> bytes:
        """The standard output of a node or key, of all workers; b'' if there is none.

        Raises:
            TaskMsgTreeError: it is not kept.
        """
        self.check_kept("stdout")
        return self.results.buffer("stdout", key)

    node_buffer = key_buffer

    def key_error(self, key: Any) -> bytes:
        """The standard error of a node or key, of all workers; b'' if there is none.

        Raises:
            TaskMsgTreeError: it is not kept.
        """
        self.check_kept("stderr")
        return self.results.buffer("stderr", key)

    node_error = key_error

    def key_retcode(self, key: Any) -> int:
        """The return code of a node or key; the largest one of all workers.

        Raises:
            KeyError: it has none.
        """
        return self.results.retcode(key)

    node_retcode = key_retcode

    def max_retcode(self) -> Optional[int]:
        """The largest return code of the run, None if there is none (all timed out)."""
        return self.results.max_retcode

    def iter_buffers(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Each different standard output, with the nodes or keys that gave it.

        Raises:
            TaskMsgTreeError: it is not kept, and none was.
        """
        return self._iter_messages("stdout", match_keys)

    def iter_errors(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Each different standard error, with the nodes or keys that gave it.

        Raises:
            TaskMsgTreeError: it is not kept, and none was.
        """
        return self._iter_messages("stderr", match_keys)

    def _iter_messages(
        self, sname: str, match_keys: Optional[Collection[Any]]
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        # What was kept until a handler had it no longer kept is there.
        if not self.results.has_kept(sname):
            self.check_kept(sname)
        return self.results.iter_messages(sname, None, match_keys)

    def iter_retcodes(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[int, list[Any]]]:
        """Each different return code, with its nodes or keys."""
        return self.results.iter_retcodes(None, match_keys)

    def num_timeout(self) -> int:
        """How many nodes or keys timed out."""
        return len(self.results.timeouts())

    def iter_keys_timeout(self) -> Iterator[Any]:
        """The nodes or keys that timed out."""
        return iter(self.results.timeouts())

    def iter_failures(self) -> Iterator[tuple[NodeError, list[Any]]]:
        """Each different cause for which no command could be run (or one was lost).

        Yields:
            The exception of the cause's first node, and all its nodes.
        """
        return self.results.iter_failures()

    def flush_buffers(self) -> None:
        """Forget all standard output."""
        self.results.flush("stdout")

    def flush_errors(self) -> None:
        """Forget all standard error."""
        self.results.flush("stderr")
