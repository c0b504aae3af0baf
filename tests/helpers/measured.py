"""Programs of this package whose coverage is measured where that of the tests is."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_module(module: str, *, measured: bool) -> list[str]:
    """Return the beginning of a command that runs a module: arguments may follow.

    The command may run in any directory; its files of coverage are in that of the tests, where
    pytest-cov combines them with its own.

    Args:
        module: the module's name.
        measured: True if the program runs code of this package.
    """
    if not (measured and _is_measured()):
        return [sys.executable, "-m", module]
    return [
        *(sys.executable, "-m", "coverage", "run", "--parallel-mode"),
        *(f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}"),
        *("-m", module),
    ]


def save() -> None:
    """Save what was measured: for a process that ends with ``os._exit()``."""
    if _is_measured():
        import coverage

        current = coverage.Coverage.current()
        if current is not None:
            current.stop()
            current.save()


def _is_measured() -> bool:
    if "coverage" not in sys.modules:
        return False
    import coverage

    return coverage.Coverage.current() is not None
