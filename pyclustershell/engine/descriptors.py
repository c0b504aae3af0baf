"""The limit of open files of this process."""

from __future__ import annotations

import errno
from typing import Optional

from ..exceptions import EngineCapacityError

# Descriptors for Python, the engine, the pool's files and the user's own. At least _LEAST_SPARE are
# needed, and one more for each descriptor of the work: so a few nodes at once fit into 64 open
# files, as a container or a service allows.
_SPARE = 64
_LEAST_SPARE = 16


_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def is_shortage(error: BaseException) -> bool:
    """Return True if descriptors or memory were lacking: the operation may succeed later."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES


def ensure_descriptors(work: int, advice: str = "", most: Optional[int] = None) -> None:
    """Raise the soft limit of open files as far as needed, and as the hard limit allows.

    Does nothing on platforms without such a limit (Windows).

    Args:
        work: how many descriptors the coming work will have open at most. Those that the process
            needs besides are added.
        advice: for the error: how the user can need fewer; '' if that is not possible.
        most: a limit in place of the hard limit, if it is lower; None: there is none.

    Raises:
        EngineCapacityError: the hard limit is too low, or ``most`` is.
    """
    try:
        import resource
    except ImportError:
        return
    soft, system = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = system
    if most is not None and (hard == resource.RLIM_INFINITY or most < hard):
        hard = most
    wanted = work + _SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY:
        needed = work + min(_SPARE, _LEAST_SPARE + work)
        if hard < needed:
            raise EngineCapacityError(
                f"about {needed} open files are needed, and this process may open {hard}: "
                + (f"{advice}, or " if advice else "")
                + f"raise the limit (ulimit -n {needed})"
            )
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, system))
