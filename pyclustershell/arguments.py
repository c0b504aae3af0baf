"""Checks of arguments: an error names the argument, the value and what was expected."""

from __future__ import annotations

import functools
import inspect
import math
import os
import weakref
from collections.abc import Iterable
from typing import Any, Optional, Union

from .event import EventHandler

#: The names of all events, and of those that only older scripts have.
EVENTS = (*(name for name in dir(EventHandler) if name.startswith("ev_")), "ev_timeout")

# The classes of handlers that have no coroutine functions as events.
_plain_classes: weakref.WeakSet[type] = weakref.WeakSet()


def check_limit(name: str, value: Any) -> Optional[float]:
    """Check a time limit.

    Args:
        name: the argument's name.
        value: seconds; None, infinity or less than 0 for no limit.

    Returns:
        The seconds; None for no limit.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is not a number of seconds (NaN).
    """
    if value is None:
        return None
    limit = _number(name, value, "a number of seconds, or None")
    return None if limit < 0 or math.isinf(limit) else limit


def check_delay(name: str, value: Any) -> float:
    """Check the delay of a timer.

    Args:
        name: the argument's name.
        value: seconds, not less than 0.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is negative, infinite or NaN.
    """
    delay = _number(name, value, "a number of seconds")
    if delay < 0 or math.isinf(delay):
        raise ValueError(f"a timer cannot fire in {value} seconds: use {name}=0 or more")
    return delay


def check_interval(name: str, value: Any) -> float:
    """Check the interval of a timer: seconds; 0 or less for a single firing.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is infinite or NaN.
    """
    interval = _number(name, value, "a number of seconds")
    if math.isinf(interval):
        raise ValueError(f"{name}={value!r} never ends: use -1 for a timer that fires once")
    return interval


def check_number(name: str, value: Any) -> float:
    """Check a number of seconds, which may be negative.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is NaN.
    """
    return _number(name, value, "a number of seconds")


def _number(name: str, value: Any, expected: str) -> float:
    # True is an integer in Python, but not a number of seconds that anybody means.
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name}={value!r} is {_kind(value)}: use {expected}")
    number = float(value)
    if math.isnan(number):
        raise ValueError(f"{name}={value!r}: use {expected}")
    return number


def check_flags(**values: Any) -> None:
    """Check arguments that are true or false. None stands for a default.

    Raises:
        TypeError: a value is a string, which would be true whatever it says.
    """
    for name, value in values.items():
        if isinstance(value, (str, bytes)):
            raise TypeError(f"{name}={value!r} is {_kind(value)}: use True or False")


def is_coroutine_function(value: Any) -> bool:
    """Return True if a call only makes a coroutine (or an asynchronous iterator), and runs nothing.

    Also for methods, for partial functions, and for objects whose ``__call__`` is one.
    """
    while isinstance(value, functools.partial):
        value = value.func
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in (value, getattr(type(value), "__call__", None))  # noqa: B004
    )


def check_function(name: str, value: Any) -> None:
    """Check a function that this package calls, and whose end it waits for.

    Args:
        name: the argument's name, or how the error names the function.
        value: the function, or another object that can be called.

    Raises:
        TypeError: it cannot be called, or it is a coroutine function.
    """
    if not callable(value):
        # The value may be a secret.
        raise TypeError(f"{name} takes a function, not {_kind(value)}")
    if is_coroutine_function(value):
        raise TypeError(
            f"{name} takes a plain function, and {_name(value)} is a coroutine function: use a "
            "function that calls asyncio.run_coroutine_threadsafe()"
        )


def check_handler(handler: Any) -> None:
    """Check an event handler; None is one.

    Raises:
        TypeError: it is a class in place of an instance, it has no event, or an event is a
            coroutine function.
    """
    if handler is None:
        return
    if type(handler) not in _plain_classes:
        _check_events(type(handler), EVENTS)
        _plain_classes.add(type(handler))
    _check_events(handler, [name for name in getattr(handler, "__dict__", ()) if name in EVENTS])
    if isinstance(handler, EventHandler):
        return
    if isinstance(handler, type) and any(
        inspect.isfunction(inspect.getattr_static(handler, name, None)) for name in EVENTS
    ):
        raise TypeError(
            f"handler={handler.__name__} is a class: use an instance of it, {handler.__name__}()"
        )
    if not any(hasattr(handler, name) for name in EVENTS):
        raise TypeError(
            f"handler={handler!r} has no event, such as ev_read(): use an instance of a class "
            "derived from EventHandler"
        )


def _check_events(owner: Any, names: Iterable[str]) -> None:
    for name in names:
        event = getattr(owner, name, None)
        if is_coroutine_function(event):
            raise TypeError(
                f"{_name(event)}() is a coroutine function, and events are plain functions: use "
                "pyclustershell.aio.Session, or call asyncio.run_coroutine_threadsafe() in the "
                "event"
            )


def check_command(command: Any) -> Union[str, bytes, None]:
    """Check a command for a shell; None is one.

    Raises:
        TypeError: the command is neither a string nor bytes.
    """
    if command is None or isinstance(command, (str, bytes)):
        return command
    hint = " (shlex.join() makes one of a list)" if isinstance(command, (list, tuple)) else ""
    raise TypeError(f"command={command!r} is {_kind(command)}: use a string{hint}")


def check_path(name: str, value: Any) -> None:
    """Check the path of a file; None is one.

    Raises:
        TypeError: it is no path.
        ValueError: it has a zero byte, or characters that no path can have.
    """
    if value is None:
        return
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name}={value!r} is {_kind(value)}: use a path")
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}={value!r} cannot be the path of a file: {error.reason}") from None
    check_no_zero_byte(name, encoded)


def check_no_zero_byte(name: str, value: bytes) -> None:
    """Check a text that C programs read: a zero byte ends it for them.

    Raises:
        ValueError: it has one.
    """
    if b"\0" in value:
        raise ValueError(
            f"{name}={value!r} has a zero byte, which ends it for the programs of a node: leave "
            "it out"
        )


def check_input(data: Any) -> bytes:
    """Check bytes that a program writes to commands.

    Raises:
        TypeError: it is text, or something else than bytes.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    hint = ", such as text.encode()" if isinstance(data, str) else ""
    raise TypeError(f"write() takes bytes{hint}, not {_kind(data)}")


def check_key(key: Any) -> None:
    """Check the key of a local command.

    Raises:
        TypeError: it cannot be a key of a dictionary.
    """
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"key={key!r} is {_kind(key)}: use a key of a dictionary, such as a string or a tuple"
        ) from None


def _name(function: Any) -> str:
    """Return the name of a function, or that of the class of another object."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _kind(value: Any) -> str:
    """Return 'a str', 'an int'."""
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"
