"""Errors of the command lines about files that options name, and about names of nodes and modes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyclustershell.cli import clubak, clush, nodeset
from pyclustershell.cli.manner import OWN
from pyclustershell.cli.optionfiles import read_problem, write_problem
from pyclustershell.cli.program import Call
from pyclustershell.nodeset import set_std_group_resolver

MAINS = {"pyclush": clush.main, "pynodeset": nodeset.main, "pyclubak": clubak.main}


class Outcome(NamedTuple):
    """The result of a run."""

    code: int
    out: str
    #: Without the hint at --help.
    err: str


@pytest.fixture(autouse=True)
def _no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration of the user's; the group sources of a run are dropped."""
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    yield
    set_std_group_resolver(None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a program in this process, with an empty input."""

    def call(name: str, *arguments: str) -> Outcome:
        with open(os.devnull) as no_input, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", no_input)
            try:
                code = MAINS[name](arguments)
            except SystemExit as stop:
                code = stop.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        return Outcome(code, out, err.replace(f"Try '{name} --help' for more.\n", ""))

    return call


READ = ("--hostfile", "--machinefile", "--conf", "--groupsconf", "--topology")


@pytest.mark.parametrize("option", READ)
def test_files_that_cannot_be_read(run: Any, tmp_path: Path, option: str) -> None:
    """The option, the file, the cause and the fix; before anything is done."""
    (tmp_path / "hosts.conf").write_text("node1\n")
    for name, why in (
        ("absent", "there is no such file: correct the path"),
        ("host.conf", "there is no such file: did you mean 'hosts.conf'?"),
        (os.path.join("none", "x"), f"there is no directory {str(tmp_path / 'none')!r}: "),
        (".", "this is a directory: name a file"),
        (
            os.path.join("hosts.conf", "x"),
            f"{str(tmp_path / 'hosts.conf')!r} is a file, not a directory: correct the path",
        ),
    ):
        path = os.path.join(tmp_path, name)
        done = run("pyclush", "--dry-run", "-w", "n1", option, path, "true")
        shown = option.replace("machinefile", "hostfile")
        assert done.err.startswith(f"pyclush: {shown} {path!r}: {why}"), done
        assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("name", ["pynodeset", "pyclubak"])
def test_a_missing_groupsconf(run: Any, tmp_path: Path, name: str) -> None:
    """Also if no group is named: the next command line would fail, or find other groups."""
    operands = ["-f", "n1"] if name == "pynodeset" else []
    path = str(tmp_path / "absent")
    done = run(name, "--groupsconf", path, *operands)
    reason = "there is no such file: correct the path"
    assert done == (2, "", f"{name}: --groupsconf {path!r}: {reason}\n")


@pytest.mark.parametrize("option", ["--outdir", "--errdir"])
def test_a_directory_that_cannot_be_made(run: Any, tmp_path: Path, option: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        done = run("pyclush", "-R", "exec", "-w", "n1", option, str(path), "echo ran")
        reason = f"{str(file)!r} is a file, not a directory: name another directory"
        assert done == (2, "", f"pyclush: {option} {str(path)!r}: {reason}\n")


def test_other_reasons_are_the_systems_words() -> None:
    error = OSError(28, "No space left on device")
    assert write_problem("--outdir", "d", error) == (
        "--outdir 'd': it cannot be written to: No space left on device: name another directory"
    )
    error = PermissionError(13, "Permission denied")
    assert "you have no permission to write there: name" in write_problem("--outdir", "d", error)
    assert "no permission to read it: change its mode" in read_problem("--conf", "f", error)


def test_a_topology_without_sections(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "topology"
    path.write_text("node1: node2\n")
    done = run("pyclush", "-w", "n1", "--topology", str(path), "true")
    reason = "line 1: no section begins above it: begin one with [routes]"
    assert done == (1, "", f"pyclush: {path} is no topology file: {reason}\n")


# -- options of ssh --


def test_wrong_options_of_ssh_are_told_once_before_anything_starts(
    run: Any, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  Foo bar\n")
    absent = str(tmp_path / "absent")
    directory = str(tmp_path).replace("\\", "/")
    for options, why in (
        (f"-F '{absent}'", f"-F {absent!r}: there is no such file: correct the path"),
        (f"-F '{directory}'", f"-F {directory!r}: this is a directory: name a file"),
        (f"-F '{config}'", f"-F: {config} line 2: unknown keyword 'Foo'"),
        ("-Z x", "-o '-Z x': unknown SSH option -Z in '-Z'; write options as ssh takes them"),
    ):
        for more in ([], ["--dry-run"], ["--explain", "n1"]):
            done = run("pyclush", "-w", "n[1-3]", "-o", options, *more, "true")
            assert done.err.startswith(f"pyclush: {why}"), done
            assert done.err.count("\n") == 1
            assert (done.code, done.out) == (2, "")
    assert run("pyclush", "--dry-run", "-w", "n1", "-o", "-F none", "true").code == 0


def test_wrong_options_of_ssh_in_clush_conf_name_the_file(run: Any, tmp_path: Path) -> None:
    (tmp_path / "clush.conf").write_text(
        f"[Main]\nssh_options: -Z\nconfdir: '{tmp_path}'\n[mode:m]\nfanout: x\n"
    )
    (tmp_path / "other.conf").write_text("[mode:other]\nssh_options: -F absent\nfanout: y\n")
    conf = str(tmp_path / "clush.conf")
    done = run("pyclush", "--conf", conf, "--dry-run", "-w", "n1", "true")
    assert done.err.startswith(f"pyclush: {conf}: [Main] ssh_options '-Z': unknown SSH option -Z")
    assert (done.code, done.out) == (1, "")
    # Each file by its own name, not by that of the last one.
    for mode, place in (("m", conf), ("other", os.path.join(tmp_path, "other.conf"))):
        done = run("pyclush", "--conf", conf, "-m", mode, "--dry-run", "-w", "n1", "true")
        assert done.err.startswith(f"pyclush: {place}: [mode:{mode}] fanout is"), done
    done = run("pyclush", "--conf", conf, "-m", "other", "-f", "2", "--dry-run", "-w", "n1", "true")
    assert "other.conf: [mode:other] ssh_options: -F 'absent': there is no such" in done.err


def test_a_keyword_may_follow_o_as_for_ssh(run: Any) -> None:
    """The errors about host keys say so."""
    texts = ("Port=2222", "-o User=me", "ProxyCommand=nc %h 22", "-F none")
    options = [word for text in texts for word in ("-o", text)]
    shown = run("pyclush", "--explain", "n1", *options).out
    for row in (r"port +2222  \[-o\]", r"user +me  \[-o\]", r"proxy_command +nc n1 22  \[-o\]"):
        assert re.search(row, shown), shown
    done = run("pyclush", "-O", "command_prefix=a %h", "-w", "n1", "true")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("pyclush: -O: ")
    assert done.err.endswith(": write %% for a percent sign\n")


# -- options after the command --


def test_options_of_the_program_in_the_command_are_told(run: Any) -> None:
    """They are sent all the same: the command may be another program's."""

    def said(*arguments: str) -> tuple[str, str]:
        done = run("pyclush", "-R", "exec", "-w", "n1", *arguments)
        assert done.code == 0
        return done.out, done.err

    hint = "is a part of the command: write options of pyclush before the command, or -- before it"
    out, err = said("echo", "x", "--dry-run", "--fanout=3")
    assert out.split() == ["n1:", "x", "--dry-run", "--fanout=3"]
    assert re.findall(r"pyclush: (\S+) (.*) if that is right\n", err) == [
        ("--dry-run", hint),
        ("--fanout=3", hint),
    ]
    # Options that many programs have; one word; told apart; quiet; no option of pyclush.
    for arguments in (
        ("echo", "--version", "--all"),
        ("echo --dry-run",),
        ("--", "echo", "--dry-run"),
        ("-q", "echo", "--dry-run"),
        ("echo", "--dry", "-w"),
    ):
        assert said(*arguments)[1] == ""


# -- messages of the log --


def test_what_the_summary_tells_is_not_told_again_for_each_node(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("pyclustershell.ssh")
    call = Call("pyclush", [], OWN)
    call.show_warnings()
    try:
        logger.warning("n1: once", extra={"also_told_by": "Task.iter_left_running()"})
        logger.warning("n1: twice")
    finally:
        call.close()
    assert capsys.readouterr().err == "pyclush: n1: twice\n"


# -- modes --


def test_an_unknown_mode(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modes that there are, and the files that were looked at."""
    conf = tmp_path / "my.conf"
    conf.write_text("[mode:sudo]\n[mode:sshpass]\n")
    done = run("pyclush", "--conf", str(conf), "-m", "sudoo", "-w", "n1", "true")
    modes = f"no such mode in {conf}: the modes are sudo, sshpass: did you mean 'sudo'?"
    assert done == (2, "", f"pyclush: -m 'sudoo': {modes}\n")
    conf.write_text("[Main]\n")
    done = run("pyclush", "--conf", str(conf), "-m", "x", "-w", "n1", "true")
    assert done.err == f"pyclush: -m 'x': {conf} has no modes: begin one with the line [mode:x]\n"
    paths = [str(tmp_path / "a" / "clush.conf"), str(tmp_path / "b" / "clush.conf")]
    monkeypatch.setattr("pyclustershell.cli.clushconfig.config_paths", lambda _name: paths)
    done = run("pyclush", "-m", "x", "-w", "n1", "true")
    assert done.err == (
        "pyclush: -m 'x': there is no clush.conf, which has the modes; it is looked for as "
        f"{', '.join(paths)}\n"
    )


# -- blanks in place of commas --


def test_blanks_do_not_separate_nodes(run: Any) -> None:
    """-x 'n1 n2' would spare no node, and -w 'n1 n2' would look up a very strange name."""
    for arguments, place in (
        (("pyclush", "-w", "n[1-2] n7", "true"), "-w 'n[1-2] n7': "),
        (("pyclush", "-w", "n[1-9]", "-x", "n[1-2] n7", "true"), "-x 'n[1-2] n7': "),
        (("pynodeset", "-f", "n[1-2] n7"), ""),
        (("pynodeset", "-f", "n[1-9]", "-x", "n[1-2] n7"), ""),
    ):
        done = run(*arguments)
        hint = "the name 'n1 n7' has a blank in it: separate nodes with commas: 'n[1-2],n7'"
        assert done == (2, "", f"{arguments[0]}: {place}{hint}\n")
    assert run("pynodeset", "-f", "n1, n2\nn3").out == "n[1-3]\n"
    assert run("pyclush", "--dry-run", "-w", "n1, n2", "true").out.startswith("nodes (2): n[1-2]\n")
