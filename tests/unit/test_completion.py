"""What completion offers for a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyclustershell.cli import names
from pyclustershell.cli.completion import (
    COMMANDS,
    DIRECTORIES,
    FILES,
    USERS,
    VALUES,
    WORDS,
    complete,
)
from pyclustershell.cli.names import narrowed, node_names
from pyclustershell.cli.options import option_groups
from pyclustershell.cli.shellscripts import main, split_line
from pyclustershell.cli.wrappers import PROGRAMS, parser_of
from pyclustershell.nodeset import NodeSet
from pyclustershell.nodeset.nodeset import _standard

BREAKS = " \t\n\"'@><=;|&(:"

GROUPS = """
default:
  web: node[1-4]
  workers: login
"""

RACKS = """
racks:
  rack1: node1
  rack2: node2
"""


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two group sources and a clush.conf; returns their folder."""
    (tmp_path / "groups.conf").write_text("[Main]\ndefault: default\nautodir: $CFGDIR\n")
    (tmp_path / "a.yaml").write_text(GROUPS)
    (tmp_path / "b.yaml").write_text(RACKS)
    (tmp_path / "clush.conf").write_text("[mode:sudo]\n[mode:sshpass]\n")
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    monkeypatch.setattr(_standard, "chosen", None)
    monkeypatch.setattr(_standard, "configured", None)  # groups.conf is read anew
    return tmp_path


def offered(name: str, *words: str) -> list[str]:
    kind, found = complete(name, words)
    assert kind == WORDS
    return [word for word, _ in found]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_option_is_offered_and_its_value_is_known(name: str) -> None:
    for _, options in option_groups(parser_of(name)):
        for option in options:
            for each in str(option).split("/"):
                assert each in offered(name, each)
            if option.takes_value() and not option.choices:
                assert option.dest in VALUES, f"{option}: add its dest to VALUES"
                complete(name, [str(option).split("/")[0], ""])


def test_values_of_options() -> None:
    assert offered("pyclush", "--color", "a") == ["always", "auto"]
    assert offered("pyclush", "--color=n") == ["--color=never"]
    assert offered("pyclush", "-m", "s") == ["sudo", "sshpass"]
    assert offered("pyclush", "-msu") == ["-msudo"]
    assert offered("pyclush", "-bLmsu") == ["-bLmsudo"]
    assert offered("pyclush", "-O", "ssh_p") == ["ssh_path="]
    assert offered("pyclush", "-R", "") == ["ssh", "exec", "rsh", "pdsh"]
    assert offered("clush", "-s", "") == ["default", "racks", "local"]
    assert offered("pynodeset", "--autostep", "a") == ["auto"]
    assert offered("pyclush", "--pick", "") == []
    assert complete("pyclush", ["--outdir", "x"]) == (DIRECTORIES, [])
    assert complete("pyclush", ["--hostfile=x"]) == (FILES, [])
    assert complete("pyclush", ["-l", ""]) == (USERS, [])


def test_nodes_and_groups(groups: Path) -> None:
    assert offered("pyclush", "-w", "lo") == ["login"]
    assert offered("pyclush", "-w", "node[1-2],@w") == ["node[1-2],@web", "node[1-2],@workers"]
    assert offered("pyclush", "-w", "@web!node") == [f"@web!node{n}" for n in range(1, 5)]
    assert offered("pyclush", "-wlo") == ["-wlogin"]
    assert offered("pyclush", "-w", "node[1-2,") == []
    assert offered("pyclush", "-g", "web,wo") == ["web,workers"]
    assert offered("pyclush", "-s", "racks", "-g", "") == ["rack1", "rack2"]
    assert offered("pyclush", "-w", "@ra") == ["@racks:"]
    assert offered("pyclush", "-w", "@racks:") == ["@racks:rack1", "@racks:rack2"]
    assert offered("pyclush", "-w", "@nosuch:") == []
    assert offered("pyclush", "-s", "nosuch", "-w", "") == []
    assert offered("pynodeset", "-f", "login", "-x", "lo") == ["login"]
    other = groups / "other.conf"
    other.write_text("[Main]\ndefault: own\n[own]\nmap: echo n1\nall: echo n1\nlist: echo own\n")
    assert offered("pyclush", "--groupsconf", str(other), "-w", "@") == ["@own", "@own:"]


def test_operands() -> None:
    assert complete("pyclush", ["-w", "node1", "un"]) == (COMMANDS, [])
    assert complete("pyclush", ["-w", "node1", "ls", "--al"]) == (FILES, [])
    assert complete("pyclush", ["-w", "node1", "-c", "a", "b"]) == (FILES, [])
    assert offered("pyclush", "-w", "node1", "-c", "a", "--des") == ["--dest"]
    assert offered("pynodeset", "-f", "lo") == ["login"]
    assert offered("pynodeset", "-f", "node1", "--ax") == ["--axis"]
    assert offered("pynodeset", "-f", "--", "lo") == ["login"]
    assert offered("pynodeset", "-R", "-f", "") == []
    assert offered("nodeset", "-f", "node1", "--ax") == []  # options end at the first operand
    assert offered("pyclubak", "-b", "") == []


def test_of_many_names_the_next_character_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_OFFERED", 10)
    nodes = NodeSet("rack[1-3]n[1-20]")
    assert node_names("r", nodes) == ["rack1", "rack2", "rack3"]
    assert node_names("rack2n3", nodes) == ["rack2n3"]
    assert narrowed(["a"] + [f"a{n}" for n in range(20)], "") == [
        "a",
        *(f"a{n}" for n in range(10)),
    ]


@pytest.mark.parametrize(
    ("line", "words", "rest"),
    [
        ("pyclush -w ", ["pyclush", "-w", ""], ""),
        ("pyclush -w 'a b", ["pyclush", "-w", "a b"], "a b"),
        ('pyclush -w "n[1-2],@x', ["pyclush", "-w", "n[1-2],@x"], "n[1-2],@x"),
        ("pyclush -w 'a'b", ["pyclush", "-w", "ab"], "b"),
        (r"pyclush a\ b", ["pyclush", "a b"], "a b"),
        ("pyclush --color=al", ["pyclush", "--color=al"], "al"),
        ("pyclush -w n1,@we", ["pyclush", "-w", "n1,@we"], "@we"),
        ("pyclush -w @src:we", ["pyclush", "-w", "@src:we"], "we"),
        ("ls | pyclush -", ["pyclush", "-"], "-"),
        ("pyclush \\", ["pyclush", ""], ""),
    ],
)
def test_lines_of_bash(line: str, words: list[str], rest: str) -> None:
    found, kept = split_line(line, BREAKS)
    assert (found, found[-1][kept:]) == (words, rest)


def test_answers_to_shells(capsys: pytest.CaptureFixture[str]) -> None:
    main(["bash", "/usr/bin/pyclush", "X=1 pyclush -w @racks:", BREAKS])
    assert capsys.readouterr().out == "words\nrack1\nrack2\n"
    main(["zsh", "pyclush", "-w", "@racks:"])
    assert capsys.readouterr().out == "words\n@racks\\:rack1\n@racks\\:rack2\n"
    main(["fish", "pyclush", "--dry"])
    assert capsys.readouterr().out.startswith("words\n--dry-run\tprint the nodes and ")
    main(["bash", "another", "another -w", BREAKS])
    assert capsys.readouterr().out == ""
