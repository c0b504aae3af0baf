"""The getters of a task: output, return codes, timeouts and failures, by node or key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Optional

from ..exceptions import NodeError
from ..msgtree import MsgTreeElem
from ..results import Results
from ..worker.context import WorkerContext
from ..worker.store import RunResults, fold_failures


class TaskGetters:
    """The getters of :class:`~.task.Task`: the results of the last run, of all its workers.

    A key is the name of a node, or the ``key`` of a local command. The getters are for the task's
    thread. Other threads may use them when the task has been joined.

    Args:
        context: the context of the task's workers.
        run_results: the results of the run, which the workers fill.
    """

    def __init__(self, context: WorkerContext, run_results: RunResults) -> None:
        self._context = context
        self._run_results = run_results

    def results(self) -> Results:
        """Return the results of the last run, as a mapping that does not change.

        It has all nodes that have ended, of all workers. A node of several workers has one result:
        the largest return code, and all outputs. ``Worker.results()`` has those of one worker.

        Results of commands that were submitted (:meth:`~.task.Task.submit`) are not included.

        Returns:
            A :class:`~.results.Results`: node name to :class:`~.results.NodeResult`. A local
            command goes by its key, or by 'localhost' if it has none.
        """
        return self._run_results.results()

    def key_buffer(self, key: Any) -> bytes:
        """Return the standard output of a node or key, of all workers; b'' if there is none.

        Raises:
            TaskMsgTreeError: standard output is not kept.
        """
        self._context.check_kept("stdout")
        return self._run_results.buffer("stdout", key)

    node_buffer = key_buffer

    def key_error(self, key: Any) -> bytes:
        """Return the standard error of a node or key, of all workers; b'' if there is none.

        Raises:
            TaskMsgTreeError: standard error is not kept.
        """
        self._context.check_kept("stderr")
        return self._run_results.buffer("stderr", key)

    node_error = key_error

    def key_retcode(self, key: Any) -> int:
        """Return the largest return code of a node or key, of all workers.

        Raises:
            KeyError: the node or key has no return code.
        """
        return self._run_results.retcode(key)

    node_retcode = key_retcode

    def max_retcode(self) -> Optional[int]:
        """Return the largest return code of the run; None if there is none (all timed out)."""
        return self._run_results.max_retcode

    def iter_buffers(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over the different standard outputs, each with its nodes or keys.

        Args:
            match_keys: the nodes or keys to look at; None for all.

        Raises:
            TaskMsgTreeError: standard output is not kept, and was not kept during the run.
        """
        return self._iter_messages("stdout", match_keys)

    def iter_errors(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        """Iterate over the different standard errors, each with its nodes or keys.

        Args:
            match_keys: the nodes or keys to look at; None for all.

        Raises:
            TaskMsgTreeError: standard error is not kept, and was not kept during the run.
        """
        return self._iter_messages("stderr", match_keys)

    def _iter_messages(
        self, sname: str, match_keys: Optional[Collection[Any]]
    ) -> Iterator[tuple[MsgTreeElem, list[Any]]]:
        # A handler may have changed ``*_msgtree`` during the run. Output from before that is kept.
        if not self._run_results.has_kept(sname):
            self._context.check_kept(sname)
        return self._run_results.iter_messages(sname, match_keys)

    def iter_retcodes(
        self, match_keys: Optional[Collection[Any]] = None
    ) -> Iterator[tuple[int, list[Any]]]:
        """Iterate over the different return codes, each with its nodes or keys.

        Args:
            match_keys: the nodes or keys to look at; None for all.
        """
        return self._run_results.iter_retcodes(match_keys)

    def num_timeout(self) -> int:
        """Return the number of nodes or keys that timed out."""
        return len(self._run_results.timeouts())

    def iter_keys_timeout(self) -> Iterator[Any]:
        """Iterate over the nodes or keys that timed out."""
        return iter(self._run_results.timeouts())

    def iter_failures(self) -> Iterator[tuple[NodeError, list[Any]]]:
        """Iterate over the different causes for which a command could not be run or was lost.

        Yields:
            The exception of the cause's first node, and all its nodes.
        """
        return fold_failures(self._run_results.failures())

    def flush_buffers(self) -> None:
        """Drop all standard output."""
        self._run_results.flush("stdout")

    def flush_errors(self) -> None:
        """Drop all standard error."""
        self._run_results.flush("stderr")
