"""The small shell of the tests does what sh does, for the commands that it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import sh

COMMANDS = [
    ("echo one; echo two >&2; exit 4", b""),
    ("echo $NAME \"$NAME x\" '$NAME' ${NAME}y ${NAME#no} x${NAME#z}", b""),
    ("false || echo no && echo yes", b""),
    ("true && false; echo $?", b""),
    (r"printf '\377\376\000\n\200'", b""),
    (": ; printf 'a %s\\n' \"b c\" >&2", b""),
    ("cat", b"a\nb"),
    ("echo question; read answer; echo got $answer", b"answer\n"),
    ("wc -c; echo end", b"x" * 100_000),
    ("head -c 10; wc -c", b"x" * 100_000),
    ("head -c 5 /dev/zero", b""),
    ("echo a | cat; exec echo b; echo never", b""),
    ("seq 3\nseq 5 7", b""),
    ("A=5; echo $A", b""),
    ("echo a >file; echo b >>file; cat <file; cat file | wc -c; touch file other", b""),
    ("mkdir d && rmdir d; test a = a && echo 1; test a != a || echo 2", b""),
    ('echo \'a b\' %h "x\\"y" a\\ b', b""),
    ("md5sum", b"some data"),
    ("echo lost >/dev/null; exec >&- 2>&-; exit 3", b""),
]


@pytest.mark.posix_only("there is no sh to compare it with")
@pytest.mark.parametrize(("command", "given"), COMMANDS)
def test_it_does_what_sh_does(
    command: str, given: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outcomes = [
        subprocess.run(
            arguments,
            input=given,
            capture_output=True,
            cwd=tmp_path_factory.mktemp("directory"),
            env={"NAME": "node"},
            check=False,
        )
        for arguments in (
            ["/bin/sh", "-c", command],
            [sys.executable, "-I", "-S", sh.__file__, "-c", command],
            [sys.executable, "-I", "-S", sh.__file__, sh._encode(command)],
        )
    ]
    expected, *found = [(done.returncode, done.stdout, done.stderr) for done in outcomes]
    assert found == [expected, expected]


def test_a_command_has_nothing_that_is_special_to_cmd() -> None:
    assert sh._encode('echo "50 %h" | cat >&2') == "echo=20=2250=20%h=22=20=7C=20cat=20=3E=262"


def test_what_it_does_not_know_is_an_error() -> None:
    with pytest.raises(SyntaxError, match="cannot run"):
        sh._tokens("(echo x)")
    assert sh.Shell().run("no-such-program") == 127
