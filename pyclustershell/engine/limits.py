"""How many files this process may open."""

from __future__ import annotations

from ..exceptions import EngineCapacityError


def ensure_descriptors(needed: int, advice: str) -> None:
    """Raise the soft limit of open files as far as needed, and as the hard limit allows.

    Does nothing on platforms without such a limit (Windows).

    Args:
        needed: how many descriptors the process will have open at the most.
        advice: what the user can do, for the error.

    Raises:
        EngineCapacityError: the hard limit is lower than what is needed.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise EngineCapacityError(
            f"about {needed} open files are needed, and this process may open {hard}: {advice}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
