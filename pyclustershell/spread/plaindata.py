"""Settings as plain data: what other processes can be sent, and what to use for the rest."""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any, Optional

from ..nodeset import NodeSet
from ..ssh.config.askonce import AskOnce
from ..task.settings import SettingsSnapshot

_PLAIN = (type(None), bool, int, float, str, bytes, os.PathLike, NodeSet)

_FUNCTION = "a function at the top of a module that the other processes can import"

#: What to use in place of a value that cannot be sent, by option.
_INSTEAD = {
    "agent": "True for the agent of the other process, or the path of its socket",
    "env": "a mapping of texts",
    "forward_agent": "True for the agent of the other process, or the path of its socket",
    "hostname": f"a text, or {_FUNCTION}",
    "keyboard_interactive": _FUNCTION,
    "passphrase": f"a text, or {_FUNCTION}",
    "password": f"a text, or {_FUNCTION}",
    "pkeys": "the path of the key, or its PEM text",
    "port": f"a number, or {_FUNCTION}",
    "print_debug": f"logging, or {_FUNCTION}",
    "user": f"a text, or {_FUNCTION}",
}


def pack(snapshot: SettingsSnapshot, *, same_program: bool) -> bytes:
    """Return the settings of a task in a form that any process can read.

    Args:
        snapshot: the settings.
        same_program: True if the other processes import this program's main module.

    Raises:
        TypeError: a setting cannot be sent; the message names it, and what to use instead.
    """
    for kind in (snapshot.info, snapshot.default):
        check_options(kind, same_program=same_program)
    for _, options in snapshot.layers:
        check_options(options, same_program=same_program)
    return pickle.dumps(snapshot)


def check_options(options: Mapping[str, Any], *, same_program: bool) -> None:
    """Check that options can be sent to another process.

    Args:
        options: the values by name.
        same_program: as for :func:`pack`.

    Raises:
        TypeError: one cannot; the message names it, and what to use instead.
    """
    for name, value in options.items():
        what = why_not(value, same_program)
        if what is not None:
            instead = _INSTEAD.get(name, "plain data: texts, numbers, paths, and lists of these")
            # The value is not shown: it may be a secret.
            raise TypeError(f"{name}= {what}, which no other process can be sent: use {instead}")


def why_not(value: Any, same_program: bool) -> Optional[str]:
    """Say what a value is that cannot be sent to another process; None for one that can.

    Args:
        value: the value.
        same_program: as for :func:`pack`.
    """
    if isinstance(value, _PLAIN):
        return None
    if hasattr(value, "sign_ssh_data"):
        return "has a key object"
    parts = _parts(value)
    if parts is not None:
        for part in parts:
            found = why_not(part, same_program)
            if found is not None:
                return found
        return None
    if callable(value):
        return _why_not_imported(value, same_program)
    return _why_not_pickled(value)


def _parts(value: Any) -> Optional[list[Any]]:
    """Return the parts of a value that is made of others; None for another one."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, AskOnce):
        return [value.function]
    return None


def _why_not_imported(value: Any, same_program: bool) -> Optional[str]:
    """Say why a function, a class or a callable object cannot be sent; None if it can."""
    name = getattr(value, "__qualname__", None)
    owner = getattr(value, "__self__", None)
    if name is None or not (owner is None or inspect.ismodule(owner)):
        # A callable object, or a method of an object: the object is sent with it.
        owner = value if owner is None else owner
        return _why_not_pickled(value) or _why_not_imported(type(owner), same_program)
    if "<lambda>" in name:
        return "is a lambda"
    if "<locals>" in name:
        return f"is {name}, a function or class inside of a function"
    module = getattr(value, "__module__", None)
    if module == "__main__" and not (same_program and _main_can_be_imported()):
        return f"is {name} of the main program"
    return _why_not_pickled(value)


def _main_can_be_imported() -> bool:
    main = sys.modules.get("__main__")
    return (
        getattr(main, "__file__", None) is not None or getattr(main, "__spec__", None) is not None
    )


def _why_not_pickled(value: Any) -> Optional[str]:
    try:
        pickle.dumps(value)
    except Exception:  # any object's own: sockets, files, locks ...
        return f"has a {type(value).__name__} object"
    return None
