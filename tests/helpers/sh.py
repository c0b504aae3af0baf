"""Commands of a POSIX shell for tests that also run on Windows, whose shell is cmd.exe.

``sh("echo out; exit 3")`` is the command itself on POSIX. On Windows it is a command for cmd.exe
that starts Python with this file, which is a very small shell. Nodes of a loopback cluster have it
with ``LoopbackCluster(nodes, shell=SHELL)``. It knows


- lists with ``;``, ``&&``, ``||`` and line ends; pipelines; ``>&2``, ``2>&1``, and ``<``, ``>`` and
  ``>>`` with a file, ``>&-``, ``2>&-`` and ``<&-``;
- quotes, ``$NAME``, ``${NAME}``, ``${NAME#PREFIX}``, ``$$`` and ``$?``;
- the programs and builtins of :data:`BUILTINS`, with the few options that the tests use; ``exec``
  and ``:``.

Anything else is an error with status 127, as in a shell. A test that needs more of a shell is
marked with ``posix_only("its commands are for a POSIX shell")``.

This file imports the standard library only: Python starts it without site-packages.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from io import BytesIO
from typing import IO, Any, Callable

Words = list[str]


#: The argument vector of the shell, to which a command is appended: for LoopbackCluster.
SHELL = ("/bin/sh", "-c")
if sys.platform == "win32":
    SHELL = (sys.executable, "-I", "-S", os.path.abspath(__file__), "-c")


#: Seconds in which a command has surely begun and printed, for timeouts that come later.
BEGUN = 0.5 if sys.platform != "win32" else 5.0


def sh(command: str) -> str:
    """A command of a POSIX shell as the shell of this system takes it.

    Args:
        command: a command within the limits above.
    """
    if sys.platform != "win32":
        return command
    program = [sys.executable, "-I", "-S", os.path.abspath(__file__), _encode(command)]
    return subprocess.list2cmdline(program)


def _encode(command: str) -> str:
    """One word without a character that is special to cmd.exe: other bytes are =XX.

    Percent and dollar signs stay: commands have placeholders, such as %h and $GROUP.
    """
    data = command.encode("utf-8", "surrogateescape")
    return re.sub(rb"[^\w./%$-]", lambda match: b"=%02X" % ord(match[0]), data).decode("ascii")


def _decode(word: str) -> str:
    data = re.sub(rb"=(..)", lambda match: bytes.fromhex(match[1].decode()), word.encode())
    return data.decode("utf-8", "surrogateescape")


# -- builtins: words, standard input, standard output; they return a status --


class Exit(Exception):
    """The shell ends."""


def _echo(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    end = "\n"
    if words[:1] == ["-n"]:
        words, end = words[1:], ""
    write((" ".join(words) + end).encode("utf-8", "surrogateescape"))
    return 0


def _printf(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    data = words[0].encode("utf-8", "surrogateescape")
    data = re.sub(rb"\\([0-7]{1,3})", lambda m: bytes([int(m[1], 8)]), data)
    data = data.replace(rb"\n", b"\n").replace(rb"\r", b"\r").replace(rb"\t", b"\t")
    for word in words[1:]:
        data = data.replace(b"%s", word.encode("utf-8", "surrogateescape"), 1)
    write(data)
    return 0


ZEROS = "/dev/zero"  # the one device that tests read


def _cat(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    for name in words or ["-"]:
        while name == ZEROS:
            write(bytes(65536))
        if name == "-":
            # As it comes: a test may wait for each piece.
            read = getattr(stdin, "read1", stdin.read)
            while data := read(65536):
                write(data)
        else:
            with open(name, "rb") as file:
                write(file.read())
    return 0


def _head(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    assert words[0] == "-c"
    size = int(words[1])
    write(bytes(size) if words[2:] == [ZEROS] else stdin.read(size))
    return 0


def _md5sum(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    import hashlib

    data = stdin.read()
    write(hashlib.md5(data, usedforsecurity=False).hexdigest().encode() + b"  -\n")
    return 0


def _mkdir(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    os.mkdir(words[0])
    return 0


def _rmdir(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    os.rmdir(words[0])
    return 0


def _test(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    left, operator, right = words
    return int((left == right) is not (operator == "="))


def _wc(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    data = stdin.read()
    write(b"%d\n" % (len(data) if words == ["-c"] else data.count(b"\n")))
    return 0


def _seq(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    form = "%d"
    if words[0] == "-f":
        form, words = words[1], words[2:]
    first, last = [1, *map(int, words)][-2:]
    write("".join(f"{form}\n" % number for number in range(first, last + 1)).encode())
    return 0


def _sleep(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    time.sleep(float(words[0]))
    return 0


def _exit(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    raise Exit(int(words[0]) if words else 0)


def _read(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    line = stdin.readline().decode("utf-8", "surrogateescape")
    os.environ[words[0]] = line.rstrip("\r\n")
    return int(not line)


def _touch(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    for name in words:
        with open(name, "ab"):
            pass
    return 0


def _pwd(words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> int:
    write(os.getcwd().encode() + b"\n")
    return 0


BUILTINS: dict[str, Callable[[Words, IO[bytes], Callable[[bytes], Any]], int]] = {
    ":": lambda *_: 0,
    "cat": _cat,
    "echo": _echo,
    "exit": _exit,
    "false": lambda *_: 1,
    "head": _head,
    "md5sum": _md5sum,
    "mkdir": _mkdir,
    "printf": _printf,
    "pwd": _pwd,
    "read": _read,
    "rmdir": _rmdir,
    "seq": _seq,
    "sleep": _sleep,
    "test": _test,
    "touch": _touch,
    "trap": lambda *_: 0,  # Windows has no signals
    "true": lambda *_: 0,
    "wc": _wc,
}

# -- the shell ---------------------------------------------------------------------------------


TOKEN = re.compile(
    r"""[ \t]*(?:(?P<operator>&&|2>&-|>&-|<&-|\|\||2>&1|>&2|1>&2|;|\||\n|>>|>|<)
    |(?P<word>(?:[^\s;|&<>'"`()$\\]|\\.|\$\{?[\w?$]+(?:\#\w+)?\}?
        |'[^']*'|"(?:[^"\\`]|\\.)*")+))[ \t]*""",
    re.VERBOSE,
)
REDIRECTIONS = {">&-", "2>&-", "<&-", ">&2", "1>&2", "2>&1", ">", ">>", "<"}
VARIABLE = re.compile(r"\$\{?(\w+|[?$])(?:#(\w+))?\}?")


def _tokens(command: str) -> list[tuple[str, str]]:
    found, position = [], 0
    command = command.strip(" \t")
    while position < len(command):
        match = TOKEN.match(command, position)
        if match is None:
            raise SyntaxError(f"tests/helpers/sh.py cannot run {command[position:]!r}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return found


class Shell:
    """Runs one command line."""

    def __init__(self) -> None:
        self.status = 0

    def _expand(self, word: str) -> str:
        special = {"$": str(os.getpid()), "?": str(self.status)}

        def value(match: re.Match[str]) -> str:
            found = special.get(match[1]) or os.environ.get(match[1], "")
            prefix = match[2] or ""
            return found[len(prefix) :] if found.startswith(prefix) else found

        parts = re.findall(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.|[^'\"\\]+", word)
        shown = ""
        for part in parts:
            if part[0] == "'":
                shown += part[1:-1]
            elif part[0] == '"':
                shown += re.sub(r'\\(["\\$])', r"\1", VARIABLE.sub(value, part[1:-1]))
            elif part[0] == "\\":
                shown += part[1]
            else:
                shown += VARIABLE.sub(value, part)
        return shown

    def run(self, command: str) -> int:
        """Run a command; return its status."""
        pipeline: list[list[tuple[str, str]]] = [[]]
        skip = False
        try:
            for kind, text in [*_tokens(command), ("operator", ";")]:
                if kind == "word" or text in REDIRECTIONS:
                    pipeline[-1].append((kind, text))
                elif text == "|":
                    pipeline.append([])
                else:
                    if not skip and pipeline != [[]]:
                        self._run_pipeline(pipeline)
                    skip = text in {"&&", "||"} and (self.status == 0) is (text == "||")
                    pipeline = [[]]
        except Exit as end:
            self.status = end.args[0]
        return self.status

    def _run_pipeline(self, pipeline: list[list[tuple[str, str]]]) -> None:
        stdin: IO[bytes] = sys.stdin.buffer
        for number, tokens in enumerate(pipeline):
            output = BytesIO()
            last = number == len(pipeline) - 1
            write: Callable[[bytes], Any]
            write = self._writer(sys.stdout.buffer) if last else output.write
            words = []
            with contextlib.ExitStack() as files:
                following = iter(tokens)
                for kind, text in following:
                    if kind == "word":
                        words.append(self._expand(text))
                    elif text in {">&2", "1>&2"}:
                        write = self._writer(sys.stderr.buffer)
                    elif text.endswith("&-"):
                        os.close({">": 1, "2": 2, "<": 0}[text[0]])
                    elif text == "2>&1":
                        sys.stderr = sys.stdout
                    else:
                        name = self._expand(next(following)[1]).replace("/dev/null", os.devnull)
                        mode = {"<": "rb", ">": "wb", ">>": "ab"}[text]
                        file = files.enter_context(open(name, mode))
                        if text == "<":
                            stdin = file
                        else:
                            write = file.write
                self._run(words, stdin, write)
            output.seek(0)
            stdin = output

    @staticmethod
    def _writer(stream: IO[bytes]) -> Callable[[bytes], Any]:
        def write(data: bytes) -> None:
            stream.write(data)
            stream.flush()

        return write

    def _run(self, words: Words, stdin: IO[bytes], write: Callable[[bytes], Any]) -> None:
        if words[:1] == ["exec"]:
            if words[1:]:
                self._run(words[1:], stdin, write)
                raise Exit(self.status)
            return
        name, *arguments = words
        if "=" in name and not arguments:
            variable, _, value = name.partition("=")
            os.environ[variable] = value
        elif name in BUILTINS:
            try:
                self.status = BUILTINS[name](arguments, stdin, write)
            except OSError as error:
                sys.stderr.write(f"{name}: {error}\n")
                sys.stderr.flush()
                self.status = 1
        else:
            sys.stderr.write(f"{name}: not found\n")
            sys.stderr.flush()
            self.status = 127


if __name__ == "__main__":
    status = Shell().run(sys.argv[2] if sys.argv[1] == "-c" else _decode(sys.argv[1]))
    os._exit(status)  # Python's own end would flush streams that the command has closed
