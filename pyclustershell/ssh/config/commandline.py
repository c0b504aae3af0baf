"""Parses options written as on an ssh(1) command line, for ``ssh_options``."""

from __future__ import annotations

from collections.abc import Iterator

from ... import platform
from ...exceptions import ConfigurationError
from .configline import COMMAND_LINE, Setting, parse_line
from .keywords import Treatment, find_keyword

_SILENT_FLAGS = frozenset("fgMNnqvxy")
_SILENT_WITH_VALUE = frozenset("EeS")
_UNSUPPORTED_FLAGS = frozenset("GsVXY")
_UNSUPPORTED_WITH_VALUE = frozenset("BDILOPQRWw")

_FLAGS = {
    "1": "Protocol 1",
    "2": "Protocol 2",
    "4": "AddressFamily inet",
    "6": "AddressFamily inet6",
    "A": "ForwardAgent yes",
    "a": "ForwardAgent no",
    "C": "Compression yes",
    "K": "GSSAPIDelegateCredentials yes",
    "k": "GSSAPIDelegateCredentials no",
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
# ssh assigns these as it reads them (the getopt loop in ssh.c), so that the last one wins. -l, -p
# and -o only set a keyword that has no value yet, so that the first one wins.
_ASSIGNED = frozenset("46AaCKkTtbcm")
_ALL_FLAGS = _SILENT_FLAGS | _UNSUPPORTED_FLAGS | _FLAGS.keys()
_ALL_WITH_VALUE = _SILENT_WITH_VALUE | _UNSUPPORTED_WITH_VALUE | _WITH_VALUE.keys() | {"F", "o"}


def parse_options(line: str) -> tuple[list[Setting], list[str]]:
    """Parse options such as ``-F my_config -o Port=2222 -l root``, in their order.

    Args:
        line: the options, quoted as for a shell.

    Returns:
        The settings, and the configuration file of the last ``-F`` as a list of one, or empty.

    Raises:
        ConfigurationError: an option is unknown or not supported, or its value is wrong.
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
            # The value may contain spaces. The shell's quotes are gone, so its own are literal.
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            text = f"{_WITH_VALUE[letter]} " + (value if letter == "J" else f'"{escaped}"')
        try:
            setting = parse_line(text, COMMAND_LINE, 0)
        except ConfigurationError as error:
            raise ConfigurationError(f"SSH option -{letter}: {error.args[0]}") from None
        if setting is None or setting.keyword in ("Host", "Match", "Include"):
            raise ConfigurationError(
                f"SSH option -{letter}: {text!r} is not a setting such as Port=22"
            )
        if letter == "K":
            _assign(settings, Setting("GSSAPIAuthentication", True, COMMAND_LINE, 0))
        if letter in _ASSIGNED:
            _assign(settings, setting)
            continue
        if letter == "J":
            _refuse_second_proxy(settings)
        keyword = find_keyword(setting.keyword)
        if keyword is not None and keyword.treatment is not Treatment.SILENT:
            settings.append(setting)
    return _with_one_agent(settings), files


def _assign(settings: list[Setting], setting: Setting) -> None:
    """Add a setting in place of those that were given for its keyword before."""
    # -A and -a say whether an agent is forwarded, and keep the path of the agent to forward.
    settings[:] = [
        known
        for known in settings
        if known.keyword != setting.keyword
        or (setting.keyword == "ForwardAgent" and not is_yes_or_no(known.value))
    ]
    settings.insert(0, setting)


def _with_one_agent(settings: list[Setting]) -> list[Setting]:
    """Join the settings of ForwardAgent: the first says whether, the first with a path which."""
    given = [setting for setting in settings if setting.keyword == "ForwardAgent"]
    if len(given) < 2:
        return settings
    paths = [setting for setting in given if not is_yes_or_no(setting.value)]
    off = str(given[0].value).lower() in ("no", "false")
    kept = given[0] if off or not paths else paths[0]
    return [s for s in settings if s.keyword != "ForwardAgent" or s is kept]


def is_yes_or_no(value: object) -> bool:
    """True if a value of ForwardAgent is a switch, and not the path of an agent."""
    return str(value).lower() in ("yes", "no", "true", "false")


def _refuse_second_proxy(settings: list[Setting]) -> None:
    """Refuse -J after another proxy, as ssh does.

    Raises:
        ConfigurationError: a proxy was given before.
    """
    for known in settings:
        if known.keyword in ("ProxyJump", "ProxyCommand"):
            raise ConfigurationError(
                f"SSH option -J: {known.keyword} was given before it: give one of them, and write "
                "several hops as one list, such as -J first,second"
            )


def _split(line: str) -> list[str]:
    try:
        return platform.split_words(line)
    except ValueError as error:
        raise ConfigurationError(f"SSH options {line!r}: {error}") from None


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield options as getopt(3) does: letters may be joined, a value may follow its letter."""
    pending = iter(words)
    for word in pending:
        if not word.startswith("-") or word == "-":
            raise ConfigurationError(
                f"SSH options: unexpected argument {word!r}: options begin with '-'"
            )
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
