"""Write a bcryptprimitives.dll for wine, which has none: ``python forwarder.py PATH``.

Rust's standard library takes random bytes from ``ProcessPrng`` of this library. The file has no
code: its table of exports passes that name on to ``SystemFunction036`` of advapi32.dll, which is
RtlGenRandom and takes the same arguments (a buffer, its size). The loader calls this a forwarder.

The format is Microsoft's "PE Format": a DOS header, the COFF header, the optional header with the
data directories, one section header, one section.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

NAME = b"bcryptprimitives.dll\0"
EXPORT = b"ProcessPrng\0"
TARGET = b"advapi32.SystemFunction036\0"

FILE_ALIGNMENT = 0x200
SECTION = 0x1000  # where the section is in memory, relative to the base
DIRECTORIES = 16


def export_section() -> bytes:
    """The table of exports with its three tables of one entry each, and the texts."""
    directory_size = 40
    functions = SECTION + directory_size
    names = functions + 4
    ordinals = names + 4
    name = ordinals + 2
    export = name + len(NAME)
    target = export + len(EXPORT)
    directory = struct.pack(
        "<LLHHLLLLLLL",
        *(0, 0, 0, 0),  # flags, time, version
        *(name, 1, 1, 1),  # our name, the first ordinal, one function, one name
        *(functions, names, ordinals),
    )
    # The address of a function within the section of exports means: a text that names another one.
    return directory + struct.pack("<LLH", target, export, 0) + NAME + EXPORT + TARGET


def headers(section_size: int) -> bytes:
    """The headers of a 64 bit DLL with nothing but this section.

    Args:
        section_size: bytes of the section, without padding.
    """
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<L", 64)  # where "PE" follows
    optional = struct.pack(
        "<HBBLLLLLQLLHHHHHHLLLLHHQQQQLL",
        *(0x20B, 14, 0),  # PE32+, the linker's version
        *(0, FILE_ALIGNMENT, 0, 0, SECTION),  # code, data, no data without values, no entry, code
        *(0x180000000, SECTION, FILE_ALIGNMENT),  # the base, alignment in memory and in the file
        *(6, 0, 0, 0, 6, 0, 0),  # Windows 6.0
        *(2 * SECTION, FILE_ALIGNMENT, 0),  # bytes in memory, bytes of headers, no checksum
        *(2, 0x160),  # a GUI's subsystem, as libraries have it; may be relocated
        *(0x100000, 0x1000, 0x100000, 0x1000),  # stack and heap
        *(0, DIRECTORIES),
    )
    optional += struct.pack("<LL", SECTION, section_size).ljust(8 * DIRECTORIES, b"\0")
    # x86-64, one section; an executable image, a library, for large addresses.
    coff = struct.pack("<HHLLLHH", 0x8664, 1, 0, 0, 0, len(optional), 0x2022)
    section = struct.pack(
        "<8sLLLLLLHHL",
        b".edata",
        *(section_size, SECTION, FILE_ALIGNMENT, FILE_ALIGNMENT),
        *(0, 0, 0, 0),
        0x40000040,  # data, can be read
    )
    return dos + b"PE\0\0" + coff + optional + section


def main() -> None:
    """Write the file that the command line names."""
    section = export_section()
    parts = headers(len(section)), section
    Path(sys.argv[1]).write_bytes(b"".join(part.ljust(FILE_ALIGNMENT, b"\0") for part in parts))


if __name__ == "__main__":
    main()
