"""Lets ``import ClusterShell`` import this package, so that scripts run unchanged."""

from __future__ import annotations

import os
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

# The package of the programs. Its modules are files in the folder of this name.
_PROGRAMS = "CLI"


def install_as_clustershell() -> None:
    """Let ``import ClusterShell.Task`` and its siblings give this package's classes.

    This lasts until the end of the process, even if ClusterShell is installed. Modules are made
    when they are imported, and their classes imported at first use. Further calls do nothing.

    Raises:
        ImportError: the real ClusterShell has already been imported. Its classes and those of this
            package do not work together.
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
    """Finds and makes the modules of the name ClusterShell."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """The specification of a module of ClusterShell; None for other modules.

        Raises:
            ModuleNotFoundError: this package has no such module of ClusterShell.
        """
        root, _, name = fullname.partition(".")
        if root != _ROOT:
            return None
        if name == _PROGRAMS or name.startswith(f"{_PROGRAMS}."):
            return self._find_program(fullname, name)
        if name not in MODULES:
            raise ModuleNotFoundError(f"{_OURS} has nothing in place of {fullname}", name=fullname)
        is_package = any(module.startswith(f"{name}.".lstrip(".")) for module in MODULES if module)
        return ModuleSpec(fullname, self, origin=_OURS, is_package=is_package)

    @staticmethod
    def _find_program(fullname: str, name: str) -> Optional[ModuleSpec]:
        """The specification of ClusterShell.CLI or of a module in it, which are files here.

        Raises:
            ModuleNotFoundError: there is no such file.
        """
        from importlib.util import spec_from_file_location

        path = os.path.join(os.path.dirname(__file__), *name.split("."))
        if os.path.isdir(path):
            path = os.path.join(path, "__init__")
        path += ".py"
        if not os.path.isfile(path):
            raise ModuleNotFoundError(f"{_OURS} has nothing in place of {fullname}", name=fullname)
        return spec_from_file_location(fullname, path)

    def exec_module(self, module: ModuleType) -> None:
        """Give a new module its names, each of which is imported at first use."""
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
    """Import "module:name" from this package, or ":name" from the builtins."""
    module, _, name = home.partition(":")
    return getattr(import_module(f"{_OURS}.{module}" if module else "builtins"), name)
