"""One line of ssh_config(5): its words, its keyword, and the setting that it makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ...exceptions import ConfigurationError
from .keywords import find_keyword, nearest_keyword
from .patterns import matches_list

COMMAND_LINE = "command line"
"""Stands for the filename of a setting that was given by ``-o`` or in code."""


@dataclass(frozen=True)
class Setting:
    """One keyword with its value and its place.

    Attributes:
        keyword: the keyword, spelt as in the manual page.
        value: the value that the keyword's parser returned.
        filename: the file, or ``COMMAND_LINE``.
        line: the line in that file, counted from 1.
    """

    keyword: str
    value: object
    filename: str
    line: int

    @property
    def place(self) -> str:
        """The file and line, for messages."""
        if self.filename == COMMAND_LINE:
            return "the command line"
        return f"{self.filename} line {self.line}"


def split_words(text: str) -> list[str]:
    """Split the rest of a configuration line into words, as OpenSSH does since release 8.7.

    Single and double quotes group words. A backslash escapes a quote or a backslash, and a space
    outside of quotes. ``#`` at the beginning of a word begins a comment.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[str] = []
    word: Optional[str] = None
    quote = ""
    position = 0
    while position < len(text):
        letter = text[position]
        following = text[position + 1 : position + 2]
        position += 1
        if word is None:
            if letter in " \t":
                continue
            if letter == "#":
                break
            word = ""
        if (
            letter == "\\"
            and following
            and (following in "'\"\\" or (following == " " and not quote))
        ):
            word += following
            position += 1
        elif letter == quote:
            quote = ""
        elif quote:
            word += letter
        elif letter in "'\"":
            quote = letter
        elif letter in " \t":
            words.append(word)
            word = None
        else:
            word += letter
    if quote:
        raise ValueError(f"the closing quotation mark {quote} is missing")
    if word is not None:
        words.append(word)
    return words


_LINE = re.compile(
    r'[ \t]*(?:"(?P<quoted>[^"]*)"|(?P<plain>[^ \t="]+))[ \t]*=?[ \t]*(?P<rest>.*)', re.DOTALL
)


def parse_line(
    text: str, filename: str, line: int, ignore: Sequence[str] = ()
) -> Optional[Setting]:
    """Read one line of configuration.

    Args:
        text: the line.
        filename: its file, for messages.
        line: its number in that file, counted from 1.
        ignore: patterns of unknown keywords to skip (IgnoreUnknown), in lower case.

    Returns:
        The setting, or None for an empty line, a comment or an ignored keyword. Unsupported
        keywords are returned as well: :func:`.lookup.lookup` warns of them if they apply to a host.

    Raises:
        ConfigurationError: the line is not valid.
    """
    text = text.strip(" \t\r\n\f")
    if not text or text.startswith("#"):
        return None
    parts = _LINE.fullmatch(text)
    if parts is None:
        raise ConfigurationError(f"{text!r} does not begin with a keyword", filename, line)
    name = parts["quoted"] if parts["plain"] is None else parts["plain"]
    keyword = find_keyword(name)
    if keyword is None:
        if matches_list(name.lower(), ignore):
            return None
        near = nearest_keyword(name)
        hint = f" (did you mean {near}?)" if near else ""
        raise ConfigurationError(f"unknown keyword {name!r}{hint}", filename, line)
    try:
        words = [parts["rest"]] if keyword.raw else split_words(parts["rest"])
        if not words or words == [""]:
            raise ValueError("a value is missing")
        return Setting(keyword.name, keyword.parse(words), filename, line)
    except ValueError as error:
        raise ConfigurationError(f"{keyword.name}: {error}", filename, line) from None
