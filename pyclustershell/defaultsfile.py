"""defaults.conf: the settings of an administrator or a user for all tasks."""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from .exceptions import ConfigurationError

Convert = Callable[[str], Any]


def _boolean(text: str) -> bool:
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError("expected yes or no") from None


def _number(kind: Callable[[str], float], least: float, expected: str) -> Convert:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"expected {expected}") from None
        # Not "value < least": that would accept NaN.
        if not value >= least:
            raise ValueError(f"expected {expected}, at least {least}")
        return value

    return convert


def _optional(convert: Convert) -> Convert:
    return lambda text: None if text.lower() == "none" else convert(text)


def _axes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(axis) for axis in text.split(",") if axis.strip())
    except ValueError:
        raise ValueError("expected numbers of dimensions, with commas between them") from None


def _engine(text: str) -> str:
    if text not in ("auto", "epoll", "poll", "select"):
        raise ValueError("expected auto, epoll, poll or select")
    return text


_COUNT = _number(int, 1, "a whole number")
_QUEUE = _number(int, 0, "a whole number")
_SECONDS = _number(float, 0, "a number of seconds")

#: The keys of each section: those of ClusterShell, and the info keys that are new here.
SECTIONS: Mapping[str, Mapping[str, Convert]] = {
    "task.default": {
        "stderr": _boolean,
        "stdin": _boolean,
        "stdout_msgtree": _boolean,
        "stderr_msgtree": _boolean,
        "engine": _engine,
        "port_qlimit": _QUEUE,  # its section before ClusterShell 1.8
        "auto_tree": _boolean,
        "local_workername": str,
        "distant_workername": str,
    },
    "task.info": {
        "debug": _boolean,
        "fanout": _COUNT,
        "grooming_delay": _SECONDS,
        "connect_timeout": _SECONDS,
        "command_timeout": _SECONDS,
        "ssh_pool_size": _optional(_COUNT),
        "line_limit": _optional(_COUNT),
        "ssh_idle_ttl": _SECONDS,
        "ssh_kill_grace": _optional(_SECONDS),
    },
    "nodeset": {"fold_axis": _axes},
    "engine": {"port_qlimit": _QUEUE},
}


def read_defaults(filenames: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read files of defaults.

    Unknown sections and keys are ignored: ClusterShell reads the same files.

    Args:
        filenames: the files, as ``config_paths("defaults.conf")`` lists them; later ones take
            precedence. Files that are missing or cannot be opened are ignored.

    Returns:
        For each section of SECTIONS, the keys that a file sets, with their values.

    Raises:
        ConfigurationError: a file or a value in it is invalid; the error names file and line.
    """
    defaults: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for filename in filenames:
        try:
            with open(filename, encoding="utf-8-sig") as file:
                text = file.read()
        except OSError:
            continue
        except UnicodeDecodeError as error:
            raise ConfigurationError(str(error), filename) from error
        for section, values in _parse(filename, text).items():
            defaults[section].update(values)
    if "port_qlimit" in defaults["task.default"]:
        old = defaults["task.default"].pop("port_qlimit")
        defaults["engine"].setdefault("port_qlimit", old)
    return defaults


def _parse(filename: str, text: str) -> dict[str, dict[str, Any]]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, filename)
    except configparser.Error as error:
        # Each class of error has its line number in a different attribute.
        line: Optional[int] = getattr(error, "lineno", None)
        if isinstance(error, configparser.ParsingError) and line is None and error.errors:
            line = error.errors[0][0]
        raise ConfigurationError("this is no section, key or value", filename, line) from error
    found: dict[str, dict[str, Any]] = {}
    for section, converters in SECTIONS.items():
        if not parser.has_section(section):
            continue
        found[section] = {}
        for key, convert in converters.items():
            if not parser.has_option(section, key):
                continue
            value = parser.get(section, key)
            try:
                found[section][key] = convert(value)
            except ValueError as error:
                raise ConfigurationError(
                    f"{key} = {value}: {error}", filename, _line(text, section, key)
                ) from error
    return found


def _line(text: str, section: str, key: str) -> Optional[int]:
    """The line that sets a key, counted from 1; configparser does not store it."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            current = line[1:].partition("]")[0]
        elif current == section and line.replace(":", "=").partition("=")[0].strip().lower() == key:
            return number
    return None
