"""``import ClusterShell`` gives this package: scripts written for ClusterShell run unchanged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

from .names import MODULES

__all__ = ["install_as_clustershell"]

_ROOT = "ClusterShell"
_OURS = __name__.partition(".")[0]


def install_as_clustershell() -> None:
    """Let ``import ClusterShell.Task`` and its siblings give this package's classes.

    It lasts until the end of the process, and wins over a ClusterShell that is installed. The
    modules are made when they are imported, and the classes fetched when they are first used.
    Calling it again changes nothing.

    Raises:
        ImportError: the real ClusterShell has been imported already: whoever did holds its classes,
            and the two do not mix.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in (_ROOT, *(f"{_ROOT}.{module}" for module in MODULES)):
        if name in sys.modules:
            raise ImportError(
                f"{name} has already been imported from "
                f"{getattr(sys.modules[name], '__file__', None)}: call install_as_clustershell() "
                "before anything imports ClusterShell",
                name=name,
            )
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds and makes the modules under the name ClusterShell."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """Where a module comes from: from here, if it is ClusterShell or below."""
        root, _, name = fullname.partition(".")
        if root != _ROOT:
            return None
        if name not in MODULES:
            raise ModuleNotFoundError(f"{_OURS} has nothing in place of {fullname}", name=fullname)
        is_package = any(module.startswith(f"{name}.".lstrip(".")) for module in MODULES if module)
        return ModuleSpec(fullname, self, origin=_OURS, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Give a new module its names, each fetched when it is first asked for."""
        homes = MODULES[module.__name__.partition(".")[2]]

        def fetch(name: str) -> Any:
            home = homes.get(name)
            if home is None:
                raise AttributeError(
                    f"module {module.__name__!r} of {_OURS} has no attribute {name!r}"
                )
            value = home() if callable(home) else _import(home)
            setattr(module, name, value)
            return value

        module.__doc__ = f"{_OURS} under ClusterShell's names."
        module.__dict__.update(
            __getattr__=fetch,
            __dir__=lambda: sorted({*module.__dict__, *homes}),
            __all__=[name for name in homes if not name.startswith("_")],
        )


def _import(home: str) -> Any:
    """What "module:name" stands for: a module of this package, or (":name") of the builtins."""
    module, _, name = home.partition(":")
    return getattr(import_module(f"{_OURS}.{module}" if module else "builtins"), name)
