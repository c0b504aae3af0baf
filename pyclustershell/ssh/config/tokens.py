"""Replaces tokens (ssh_config(5), TOKENS) and environment variables in values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ...exceptions import ConfigurationError
from .names import check_hostname, check_user

# Tokens that contain names which may come from elsewhere: an inventory, a web form. The others
# contain numbers, a hash, or names of this machine and its user.
_CHECKS = {
    "h": check_hostname,
    "j": check_hostname,
    "k": check_hostname,
    "n": check_hostname,
    "r": check_user,
}


def expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Replace the tokens of ssh_config(5) TOKENS, such as ``%h``.

    Args:
        text: the text; ``%%`` becomes one percent sign.
        tokens: the replacement for each letter.

    Raises:
        ValueError: the text contains an unknown token.
    """
    if "%" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        if letter not in tokens:
            raise ValueError(f"unknown token %{letter} in {text!r}: write %% for a percent sign")
        return tokens[letter]

    return re.sub(r"%(.?)", replace, text, flags=re.DOTALL)


def expand_shell_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Replace tokens in a command for a shell; see :func:`expand_tokens`.

    Raises:
        ValueError: the text contains an unknown token, or the shell would not read the value of one
            as a name.
    """
    for letter in set(re.findall(r"%(.?)", text, flags=re.DOTALL)):
        if letter in _CHECKS and letter in tokens:
            _CHECKS[letter](tokens[letter])
    return expand_tokens(text, tokens)


def expand_environment(text: str) -> str:
    """Replace ``${NAME}`` by the environment variable of that name.

    Raises:
        ValueError: the variable is not set.
    """
    if "${" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ValueError(f"environment variable {found[1]} is not set, in {text!r}")
        return os.environ[found[1]]

    return re.sub(r"\$\{([^}]*)\}", replace, text)


def expand_hostname(hostname: str, host: str) -> str:
    """Replace ``%h`` in a HostName by ``host``.

    Raises:
        ConfigurationError: the HostName contains another token.
    """
    try:
        return expand_tokens(hostname, {"h": host})
    except ValueError as error:
        raise ConfigurationError(f"HostName: {error}") from None
