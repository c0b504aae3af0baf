"""Makes text from other machines safe to show on a terminal."""

from __future__ import annotations

import re

# The characters that a terminal may obey: C0 and C1 controls and DEL (ECMA-48), bytes that are C1
# controls in the eight-bit sets (as surrogateescape decodes them), and the controls of the writing
# direction (Unicode Standard Annex 9). Newline and tab are left to the caller.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udc9f]"
)

_NEWLINES_AND_TABS = re.compile("[\n\t]")

# ECMA-48 8.3.117, "select graphic rendition": colours and typefaces.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_NO_COLOUR = "\x1b[0m"


def _name(match: re.Match[str]) -> str:
    """The name of a control, as ``cat -v`` and ``less`` write it: ^[ and <9B>."""
    code = ord(match[0])
    if code < 0x80:
        return f"^{chr(code ^ 0x40)}"
    return f"<{code - 0xDC00 if code >= 0xDC80 and code < 0xDD00 else code:02X}>"


def printable(text: str, colours: bool = False) -> str:
    """Replace each control that a terminal would obey by its name, such as ``^[``.

    Newlines and tabs stay.

    Args:
        text: text from another machine.
        colours: True to keep sequences that only set colours and typefaces; a line with such a
            sequence ends with a reset.
    """
    if not _CONTROLS.search(text):
        return text
    if not colours:
        return _CONTROLS.sub(_name, text)
    return "\n".join(map(_coloured, text.split("\n")))


def _coloured(line: str) -> str:
    sequences = _COLOURS.findall(line)
    if not sequences:
        return _CONTROLS.sub(_name, line)
    plain = [_CONTROLS.sub(_name, part) for part in _COLOURS.split(line)]
    mixed = [piece for pair in zip(plain, sequences) for piece in pair]
    return "".join([*mixed, plain[-1], _NO_COLOUR])


def printable_bytes(data: bytes, colours: bool = False) -> bytes:
    """Like :func:`printable`, for bytes in UTF-8 or in any other encoding."""
    text = data.decode("utf-8", "surrogateescape")
    return printable(text, colours).encode("utf-8", "surrogateescape")


def printable_line(data: bytes, limit: int = 200) -> str:
    """Another machine's text as one line, for messages: newlines and tabs become ^J and ^I.

    Args:
        data: the text; bytes that are not UTF-8 become U+FFFD.
        limit: how many bytes of it to show.
    """
    text = data[:limit].decode("utf-8", "replace").strip()
    return _NEWLINES_AND_TABS.sub(_name, printable(text))


def print_line(text: object) -> None:
    """Print a line on standard output; characters that its encoding lacks become ``\\u20ac``.

    If standard output is a file on Windows, this encoding is a code page with 256 characters.
    """
    try:
        print(text)
    except UnicodeEncodeError as error:
        encoded = str(text).encode(error.encoding, "backslashreplace")
        print(encoded.decode(error.encoding))
