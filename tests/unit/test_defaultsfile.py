"""Files of defaults: what they set, and what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyclustershell.defaultsfile import SECTIONS, read_defaults
from pyclustershell.exceptions import ConfigurationError

EVERYTHING = """
# A comment
[task.default]
stderr: true
stdin: no
stdout_msgtree = off
stderr_msgtree = 0
engine: select
auto_tree: false
local_workername: exec
distant_workername: pdsh

[task.info]
debug: yes
fanout: 128
grooming_delay: 0.5
connect_timeout: 20
command_timeout: 2.5
ssh_pool_size: 32
ssh_idle_ttl: 5
ssh_kill_grace: none

[nodeset]
fold_axis: 0, -1

[engine]
port_qlimit: 50

[another program's]
fanout: many
"""
NOTHING: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}


def write(directory: Path, text: str, name: str = "defaults.conf") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_key(tmp_path: Path) -> None:
    assert read_defaults([write(tmp_path, EVERYTHING)]) == {
        "task.default": {
            "stderr": True,
            "stdin": False,
            "stdout_msgtree": False,
            "stderr_msgtree": False,
            "engine": "select",
            "auto_tree": False,
            "local_workername": "exec",
            "distant_workername": "pdsh",
        },
        "task.info": {
            "debug": True,
            "fanout": 128,
            "grooming_delay": 0.5,
            "connect_timeout": 20.0,
            "command_timeout": 2.5,
            "ssh_pool_size": 32,
            "ssh_idle_ttl": 5.0,
            "ssh_kill_grace": None,
        },
        "nodeset": {"fold_axis": (0, -1)},
        "engine": {"port_qlimit": 50},
    }


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    weak = write(tmp_path, "[task.info]\nfanout: 1\nconnect_timeout: 3\n", "weak")
    strong = write(tmp_path, "[task.info]\nfanout: 2\n", "strong")
    assert read_defaults([weak, strong])["task.info"] == {"fanout": 2, "connect_timeout": 3.0}


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert read_defaults([str(tmp_path / "nothing"), str(tmp_path / "no" / "where")]) == NOTHING
    assert read_defaults([str(tmp_path)]) == NOTHING
    assert read_defaults([]) == NOTHING


def test_unknown_keys_are_passed_over(tmp_path: Path) -> None:
    assert read_defaults([write(tmp_path, "[task.info]\nfan_out: x\n")]) == NOTHING


def test_the_old_place_of_port_qlimit(tmp_path: Path) -> None:
    old = "[task.default]\nport_qlimit: 7\n"
    assert read_defaults([write(tmp_path, old)])["engine"] == {"port_qlimit": 7}
    both = old + "[engine]\nport_qlimit: 8\n"
    assert read_defaults([write(tmp_path, both)])["engine"] == {"port_qlimit": 8}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[task.info]\n\nfanout: many\n", 3, "fanout = many: expected a whole number"),
        ("[task.info]\nfanout = 0\n", 2, "at least 1"),
        ("[task.info]\nconnect_timeout = -1\n", 2, "a number of seconds, at least 0"),
        ("[task.info]\nconnect_timeout = nan\n", 2, "a number of seconds"),
        ("[task.info]\nDebug: perhaps\n", 2, "expected yes or no"),
        ("[engine]\nport_qlimit: 1\n[nodeset]\nfold_axis: x\n", 4, "numbers of dimensions"),
        ("[task.default]\nengine: kqueue\n", 2, "expected auto, epoll, poll or select"),
        ("fanout: 3\n", 1, "no section"),
        ("[task.info]\nfanout: 3\nnonsense\n", 3, "no section"),
        ("[task.info]\nfanout: 3\nfanout: 4\n", 3, "no section"),
    ],
)
def test_wrong_files_are_named_with_the_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    filename = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_defaults([filename])
    assert (caught.value.filename, caught.value.line) == (filename, line)
    assert str(caught.value).startswith(f"{filename} line {line}: ")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "defaults.conf"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="utf-8"):
        read_defaults([str(path)])


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = write(tmp_path, "\ufeff[task.info]\nfanout: 3\n")
    assert read_defaults([path])["task.info"] == {"fanout": 3}
