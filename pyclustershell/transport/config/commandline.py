"""Options in the form of an ssh(1) command line, as ``ssh_options`` has them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ... import platform
from ...exceptions import ConfigurationError
from .keywords import Treatment, find_keyword
from .sshconfig import COMMAND_LINE, Setting, parse_line

_SILENT_FLAGS = frozenset("fgkMNnqvxy")
_SILENT_WITH_VALUE = frozenset("EeS")
_UNSUPPORTED_FLAGS = frozenset("GKsVXY")
_UNSUPPORTED_WITH_VALUE = frozenset("BDILOPQRWw")

_FLAGS = {
    "1": "Protocol 1",
    "2": "Protocol 2",
    "4": "AddressFamily inet",
    "6": "AddressFamily inet6",
    "A": "ForwardAgent yes",
    "a": "ForwardAgent no",
    "C": "Compression yes",
    "T": "RequestTTY no",
    "t": "RequestTTY yes",
}
_WITH_VALUE = {
    "b": "BindAddress",
    "c": "Ciphers",
    "i": "IdentityFile",
    "J": "ProxyJump",
    "l": "User",
    "m": "MACs",
    "p": "Port",
}
_ALL_FLAGS = _SILENT_FLAGS | _UNSUPPORTED_FLAGS | _FLAGS.keys()
_ALL_WITH_VALUE = _SILENT_WITH_VALUE | _UNSUPPORTED_WITH_VALUE | _WITH_VALUE.keys() | {"F", "o"}


def parse_options(line: str) -> tuple[list[Setting], list[str]]:
    """Read options such as ``-F my_config -o Port=2222 -l root``, in their order.

    Args:
        line: the options, quoted as for a shell.

    Returns:
        The settings, and the configuration files of ``-F``.

    Raises:
        ConfigurationError: an option that is unknown, unsupported or has a wrong value.
    """
    settings: list[Setting] = []
    files: list[str] = []
    for letter, value in _options(_split(line)):
        if letter == "F":
            files = [value]
            continue
        if letter in _SILENT_FLAGS | _SILENT_WITH_VALUE:
            continue
        if letter in _UNSUPPORTED_FLAGS | _UNSUPPORTED_WITH_VALUE:
            raise ConfigurationError(f"SSH option -{letter} is not supported")
        if letter == "o":
            text = value
        elif letter in _FLAGS:
            text = _FLAGS[letter]
        else:
            # A value may hold spaces, and quotes mean nothing in it any more.
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            text = f"{_WITH_VALUE[letter]} " + (value if letter == "J" else f'"{escaped}"')
        try:
            setting = parse_line(text, COMMAND_LINE, 0)
        except ConfigurationError as error:
            raise ConfigurationError(f"SSH option -{letter}: {error.args[0]}") from None
        if setting is None or setting.keyword in ("Host", "Match", "Include"):
            raise ConfigurationError(f"SSH option -{letter}: {text!r} is no setting")
        keyword = find_keyword(setting.keyword)
        if keyword is not None and keyword.treatment is not Treatment.SILENT:
            settings.append(setting)
    return settings, files


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if platform.WINDOWS_PATHS:
        lexer.escape = ""  # Paths have backslashes there.
    try:
        return list(lexer)
    except ValueError as error:
        raise ConfigurationError(f"SSH options {line!r}: {error}") from None


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Go through words as getopt(3) does: letters may be joined, a value may follow its letter."""
    pending = iter(words)
    for word in pending:
        if not word.startswith("-") or word == "-":
            raise ConfigurationError(f"SSH options: unexpected argument {word!r}")
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _ALL_FLAGS:
                yield letter, ""
            elif letter in _ALL_WITH_VALUE:
                value = letters or next(pending, None)
                if value is None:
                    raise ConfigurationError(f"SSH option -{letter} lacks its value")
                yield letter, value
                letters = ""
            else:
                raise ConfigurationError(f"unknown SSH option -{letter} in {word!r}")
