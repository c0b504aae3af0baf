"""Forked children: they give up the objects that they inherit.

A child process that was forked (``os.fork()``, multiprocessing, a daemon) has a copy of every
object, and the same descriptors, but only the thread that called fork. It must not use things
that it shares with its parent:

- Two processes that encrypt with one key use its nonces and counters twice. That reveals the text
  and lets packets be forged (RFC 5647 section 7.1).
- ``epoll_ctl`` and ``shutdown`` act on the parent's selector and sockets. ``close`` does not.
- A signal to a local command, or the removal of a temporary file, takes it away from the parent.
- A lock that another thread held at the fork is never released in the child.

So each object with such a share registers itself, and its :meth:`Inheritable.abandon` is called in
the child before ``fork()`` returns there. The object then does nothing any more, or works like a
new one. Objects that only hold a descriptor need no call: nothing writes to it, and the garbage
collector closes it.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Protocol

logger = logging.getLogger("pyclustershell.engine")


class Inheritable(Protocol):
    """An object that a forked child inherits as a copy."""

    def abandon(self) -> None:
        """Close this process's descriptors, and nothing else; drop the work; renew the locks.

        Called in the child, on its only thread. Other inherited objects may have been abandoned, or
        not yet. Another thread of the parent may have been in the middle of any method.
        """
        ...


_inheritable: weakref.WeakSet[Inheritable] = weakref.WeakSet()


def abandon_in_child(thing: Inheritable) -> None:
    """Have ``thing.abandon()`` called in each child that is forked while the object lives."""
    _inheritable.add(thing)


def _after_fork_in_child() -> None:
    for thing in list(_inheritable):
        try:
            thing.abandon()
        except Exception:
            # The other objects must be given up in any case.
            logger.exception("%r could not be given up in a forked child", type(thing))


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
