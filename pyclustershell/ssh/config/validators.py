"""Checks the value of each option and converts it to the option's one form."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Union, cast

from ...arguments import is_coroutine_function
from .configline import COMMAND_LINE, Setting, parse_line
from .proxyjump import parse_chain

#: The options whose functions are called on threads of their own. In an aio.Session, they may be
#: coroutine functions.
ASKING = ("password", "passphrase", "keyboard_interactive")

HOST_KEY_POLICIES = ("strict", "accept-new", "off")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value or any(letter in value for letter in "\0\r\n"):
        raise ValueError(f"{name} must not be empty, and have no line breaks")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{name} has a character that is no text: {value[:100]!r}") from None
    return value


def _secret(name: str, value: object) -> object:
    """Check a string or callable. The message does not repeat a wrong value: it is a secret."""
    if not (isinstance(value, str) or callable(value)):
        raise TypeError(f"{name} must be a string or a callable, not {type(value).__name__}")
    return value


def _per_node(check: Callable[[str, object], object]) -> Callable[[str, object], object]:
    def check_either(name: str, value: object) -> object:
        if not callable(value):
            return check(name, value)
        if is_coroutine_function(value):
            # Nothing waits for an answer here: it is needed before a connection is made.
            raise TypeError(f"{name}= takes no coroutine function, only {', '.join(ASKING)} do")
        return value

    return check_either


def _port(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not 0 < value < 65536:
        raise ValueError(f"{name} must be from 1 to 65535, not {value}")
    return value


def _proxy_jump(name: str, value: object) -> tuple[str, ...]:
    """Check jump hosts: one text or a sequence of alternatives."""
    texts = tuple(_text(name, item) for item in _items(name, value))
    if not texts:
        raise ValueError(f"{name} must name a jump host, or be 'none'")
    for text in texts:
        try:
            if not parse_chain(text) and len(texts) > 1:
                raise ValueError("'none' must stand alone")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return texts


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _seconds(minimum: float) -> Callable[[str, object], float]:
    def check(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if not minimum <= value < float("inf") or (value == 0 and minimum > 0):
            raise ValueError(f"{name} must be a finite number of seconds above 0, not {value}")
        return float(value)

    return check


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, not {value}")
    return value


def _policy(name: str, value: object) -> str:
    if value not in HOST_KEY_POLICIES:
        raise ValueError(f"{name} must be one of {', '.join(HOST_KEY_POLICIES)}, not {value!r}")
    return str(value)


def _items(name: str, value: object) -> Sequence[object]:
    """Return a sequence of one item or several."""
    if isinstance(value, (str, bytes, os.PathLike)) or hasattr(value, "sign_ssh_data"):
        return (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence, not {type(value).__name__}")
    return tuple(value)


def _paths(name: str, value: object) -> tuple[str, ...]:
    paths = []
    for item in _items(name, value):
        if not isinstance(item, (str, os.PathLike)):
            raise TypeError(f"{name} must be paths, not {type(item).__name__}")
        paths.append(_text(name, os.fspath(item)))
    return tuple(paths)


def _pkeys(name: str, value: object) -> tuple[object, ...]:
    """Check private keys: a path becomes a string, a PEM text becomes bytes, a key stays a key."""
    keys: list[object] = []
    for item in _items(name, value):
        if hasattr(item, "sign_ssh_data"):
            try:
                hash(item)
            except TypeError:
                raise TypeError(f"{name}: a key of {type(item).__name__} is not hashable") from None
            keys.append(item)
        elif isinstance(item, (bytes, str)) and "-----BEGIN" in _as_text(item):
            keys.append(item.encode() if isinstance(item, str) else item)
        elif isinstance(item, (str, os.PathLike)):
            keys.append(_text(name, os.fspath(item)))
        else:
            raise TypeError(
                f"{name} must be paramiko keys, paths or PEM texts, not {type(item).__name__}"
            )
    return tuple(keys)


def _as_text(value: Union[str, bytes]) -> str:
    return value if isinstance(value, str) else value.decode("ascii", "replace")


def _certificates(name: str, value: object) -> tuple[str, ...]:
    texts = [_as_text(item) if isinstance(item, bytes) else item for item in _items(name, value)]
    return tuple(
        text.strip() if isinstance(text, str) and " " in text else path
        for text, path in zip(texts, _paths(name, [_one_line(text) for text in texts]))
    )


def _one_line(text: object) -> object:
    return text.strip() if isinstance(text, str) else text


def _known_hosts(name: str, value: object) -> tuple[str, ...]:
    lines: list[str] = []
    for item in _items(name, value):
        # Pasted entries may contain line breaks, and several entries at once.
        pieces = item.strip(" \t\r\n").split("\n") if isinstance(item, str) else [item]
        lines.extend(_paths(name, pieces))
    return tuple(lines)


def _agent(name: str, value: object) -> Union[bool, str]:
    if isinstance(value, bool):
        return value
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be True, False or a path, not {type(value).__name__}")
    return _text(name, os.fspath(value))


def _forwarded_agent(name: str, value: object) -> Union[bool, str]:
    if isinstance(value, str) and value.lower() in ("yes", "no"):
        raise TypeError(f"{name} must be True, False or a path, not {value!r}")
    return _agent(name, value)


def _callable(name: str, value: object) -> object:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value


def _env(name: str, value: object) -> tuple[tuple[str, str], ...]:
    pairs = value.items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, Iterable):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    checked: dict[str, str] = {}
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"{name} must be a mapping or pairs, not {type(pair).__name__} items")
        if not all(isinstance(part, str) for part in pair):
            raise TypeError(f"{name} must map strings to strings")
        variable, content = pair
        if not variable or "=" in variable or "\0" in variable + content:
            raise ValueError(f"{name}: {variable!r} is not the name of an environment variable")
        checked[variable] = content
    return tuple(checked.items())


def _algorithms(name: str, value: object) -> str:
    text = value if isinstance(value, str) else ",".join(map(str, _items(name, value)))
    wrong = any(letter.isspace() or letter > "~" for letter in text)  # RFC 4251 6: US-ASCII
    if wrong or not all(text.lstrip("+-^").split(",")):
        raise ValueError(f"{name} must be a list of algorithms, not {value!r}")
    return text


def _family(name: str, value: object) -> int:
    known = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)
    if value not in known:
        raise ValueError(f"{name} must be AF_UNSPEC, AF_INET or AF_INET6, not {value!r}")
    return int(cast(int, value))


def _overrides(name: str, value: object) -> tuple[Setting, ...]:
    if isinstance(value, Mapping):
        value = [f"{keyword} {content}" for keyword, content in value.items()]
    settings = []
    for item in _items(name, value):
        if isinstance(item, Setting):
            settings.append(item)
            continue
        if not isinstance(item, str):
            raise TypeError(f"{name} must be texts 'keyword=value', not {type(item).__name__}")
        setting = parse_line(item, COMMAND_LINE, 0)
        if setting is None or setting.keyword in ("Host", "Match", "Include"):
            raise ValueError(f"{name}: {item!r} is not a setting 'keyword=value'")
        settings.append(setting)
    return tuple(settings)


VALIDATORS: Mapping[str, Callable[[str, object], object]] = {
    "user": _per_node(_text),
    "port": _per_node(_port),
    "hostname": _per_node(_text),
    "password": _secret,
    "passphrase": _secret,
    "pkeys": _pkeys,
    "certificates": _certificates,
    "agent": _agent,
    "keyboard_interactive": _callable,
    "config_files": _paths,
    "known_hosts": _known_hosts,
    "host_key_policy": _policy,
    "proxy_jump": _proxy_jump,
    "forward_agent": _forwarded_agent,
    "env": _env,
    "pty": _flag,
    "compression": _flag,
    "keepalive": _seconds(0.0),
    "connect_timeout": _seconds(1e-6),
    "auth_timeout": _seconds(1e-6),
    "connect_retries": _count,
    "ciphers": _algorithms,
    "macs": _algorithms,
    "kex": _algorithms,
    "host_key_algorithms": _algorithms,
    "identity_files": _paths,
    "identities_only": _flag,
    "address_family": _family,
    "bind_address": _text,
    "allow_match_exec": _flag,
    "overrides": _overrides,
}
"""The check of each option, by name: takes the name and a value that is not None."""
