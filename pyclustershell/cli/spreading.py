"""``pyclush --processes``: the commands and copies of a call, by several processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..nodeset import NodeSet
from ..spread.plaindata import check_options, pack
from ..spread.shard import make_worker
from ..spread.slots import Processes
from ..spread.spread import usable_cores
from ..spread.worker import SpreadWorker
from .program import UsageError

if TYPE_CHECKING:
    import optparse

    from ..task import Task


def check_processes(options: optparse.Values, interactive: bool) -> None:
    """Check the value of --processes, and what cannot go together with it.

    Args:
        options: the options.
        interactive: True if commands are read from a prompt.

    Raises:
        UsageError: the message names the option, the cause and what to do.
    """
    text = options.processes
    if text is None:
        return
    if text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(
            f"--processes {text!r}: write a number, or auto for one for each core, such as: "
            "--processes 4"
        )
    place = f"--processes {text}"
    if interactive:
        raise UsageError(f"{place} is for one command: write it, or leave out --processes")
    if options.worker not in (None, "ssh"):
        raise UsageError(f"{place} is for SSH: leave out --processes, or -R {options.worker}")
    if options.remote == "no":
        raise UsageError(f"{place} is for SSH: leave out --processes, or --remote no")


class Spreading:
    """The worker processes of one call of the program.

    Args:
        task: the task, which has been set up. Its settings are those of the processes.
        processes: the number of processes, or 'auto' for one for each core.
    """

    def __init__(self, task: Task, processes: str) -> None:
        count = usable_cores() if processes == "auto" else int(processes)
        self._task = task
        self._processes = Processes(count, task.info("fanout"), task.info("ssh_pool_size"), None)

    def make_worker(self, nodes: NodeSet, handler: Any, job: Mapping[str, Any]) -> SpreadWorker:
        """Make the worker of a command or copy, and start the processes for it.

        Args:
            nodes: the nodes.
            handler: the event handler.
            job: the arguments of the worker that would do the same in this process.

        Raises:
            ValueError, TypeError: an argument is wrong.
            TaskError: a process cannot be started.
        """
        check_options(job, same_program=True)
        plain = make_worker(self._task, nodes, job)
        settings = pack(self._task.settings_snapshot(), same_program=True)
        share_out = self._processes.share_out
        slots = dict.fromkeys(slot for slot, _ in share_out(list(plain.nodes)))
        self._processes.start(list(slots))
        return SpreadWorker(plain, job, settings, share_out, handler)

    def close(self) -> None:
        """End the processes, and wait for the commands that are being killed."""
        self._processes.close(self._task.info("ssh_kill_grace") or 0.0)

    def left_running(self) -> Iterator[tuple[str, list[str]]]:
        """Iterate over the nodes on which a command may still run, by reason."""
        return self._processes.left_running()
