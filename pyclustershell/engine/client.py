"""What the engine's loop asks of a client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .engine import Engine


class EngineClient(ABC):
    """One job that the engine starts when its turn has come: a command on one node, mostly.

    A client registers its file descriptors and timers with the engine itself, and says
    :meth:`Engine.finished` when it is done, once. Every method is called on the engine's thread.

    Attributes:
        autoclose: whether the loop may end although this client has not finished.
        delayable: whether the client counts for the fanout.
        timeout: seconds from start to :meth:`on_timeout`; None for no limit.
        descriptors: how many file descriptors it holds at the most, about.
    """

    autoclose: bool = False
    delayable: bool = True
    timeout: Optional[float] = None
    descriptors: int = 3  # a process's pipes, for example

    @abstractmethod
    def start(self, engine: Engine) -> None:
        """Begin: the client's turn has come.

        What fails is delivered as a result of this client; nothing is raised.
        """

    @abstractmethod
    def on_timeout(self) -> None:
        """End now, and deliver that time ran out."""

    @abstractmethod
    def abort(self, timed_out: bool = False) -> None:
        """End now, because the run ends. The client may not have been started.

        Args:
            timed_out: whether the run ends because its time ran out.
        """
