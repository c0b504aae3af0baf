"""The functions of clush that programs replace, and its errors in ClusterShell's form."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from .program import Failure


class PlainError(Failure):
    """An error that ClusterShell's clush prints without its name, as ``ERROR: text``."""


def ask_password() -> str:
    """Ask for a password on the terminal, without an echo."""
    from getpass import getpass

    return getpass()


def ask(prompt: str) -> str:
    """Ask for a secret on the terminal, without an echo.

    Raises:
        Failure: there is no answer.
    """
    from getpass import getpass

    try:
        return getpass(prompt)
    except EOFError:
        raise Failure(f"{prompt!r} has no answer: run this in a terminal, and type it") from None


def load_worker(name: str) -> Any:
    """The worker class of this name. Raises ImportError or AttributeError if there is none."""
    from ..worker.registry import worker_class

    return worker_class(name)


class Hooks(NamedTuple):
    """The functions that programs replace in the module ClusterShell.CLI.Clush.

    Attributes:
        read_line: prints a prompt and returns the line that the user types; raises EOFError.
        ask_password: returns the password that the user types.
        load_worker: returns the worker class of this name; raises ImportError or AttributeError.
        interaction: True to treat standard input and output as a terminal.
    """

    read_line: Callable[[str], str] = input
    ask_password: Callable[[], str] = ask_password
    load_worker: Callable[[str], Any] = load_worker
    interaction: bool = False
