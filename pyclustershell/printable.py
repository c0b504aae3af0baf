"""Text of other machines that a terminal can show without obeying it."""

from __future__ import annotations

import re

# What a terminal may take for an order, in Unicode: C0 and C1 controls and DEL (ECMA-48), bytes
# that are C1 controls in the eight-bit sets (as surrogateescape holds them), and what turns the
# direction of writing. Newline and tab are for the caller.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udc9f]"
)

# ECMA-48 8.3.117, "select graphic rendition": colours and typefaces.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_NO_COLOUR = "\x1b[0m"


def _name(match: re.Match[str]) -> str:
    """A control as ``cat -v`` and ``less`` name them: ^[ and <9B>."""
    code = ord(match[0])
    if code < 0x80:
        return f"^{chr(code ^ 0x40)}"
    return f"<{code - 0xDC00 if code >= 0xDC80 and code < 0xDD00 else code:02X}>"


def printable(text: str, colours: bool = False) -> str:
    r"""Replace what a terminal would obey with its name, such as ``^[``.

    Newlines and tabs stay.

    Args:
        text: what another machine has said.
        colours: whether sequences that only set colours and typefaces stay; each line that has any
            ends with their reset.
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
    """As :func:`printable`, for bytes that are UTF-8 or may be anything else."""
    text = data.decode("utf-8", "surrogateescape")
    return printable(text, colours).encode("utf-8", "surrogateescape")
