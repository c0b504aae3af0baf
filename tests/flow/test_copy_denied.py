"""Servers that deny some requests: a copy is done, or it fails and changes nothing."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from pyclustershell.exceptions import CopyError
from pyclustershell.loopback.sftpserver import SFTPSubsystem
from pyclustershell.ssh.sftp import codec
from pyclustershell.ssh.sftp.codec import ReplyFields
from pyclustershell.task import Task
from tests.helpers.needs import require
from tests.helpers.tasks import fresh_task
from tests.servers import sftp
from tests.servers.processes import node_path
from tests.servers.sftp import Answer, Nodes, ScriptedSftp, openssh_nodes, scripted_nodes

DEADLINE = 10.0

CODES = {
    "permission denied": codec.PERMISSION_DENIED,
    "unsupported": codec.OP_UNSUPPORTED,
    "failure": codec.FAILURE,
}

# An extension by its name, and a request of the protocol by its number.
POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
LIMITS = "limits@openssh.com"
STATVFS = "statvfs@openssh.com"

ALL_BUT_UPLOADS = {
    *(codec.LSTAT, codec.FSTAT, codec.SETSTAT, codec.FSETSTAT, codec.OPENDIR, codec.READDIR),
    *(codec.REMOVE, codec.REALPATH, codec.STAT, codec.RENAME, codec.READLINK, codec.READ),
    *(codec.SYMLINK, codec.MKDIR, STATVFS),
}

#: What a server denies.
DENIED: dict[str, set[Any]] = {
    "nothing": set(),
    "rename": {codec.RENAME},
    "rename, which it announces": {codec.RENAME, POSIX_RENAME},
    "posix-rename, which it announces": {POSIX_RENAME},
    "rename and remove": {codec.RENAME, codec.REMOVE},
    "remove": {codec.REMOVE},
    "setstat": {codec.SETSTAT},
    "fsetstat": {codec.FSETSTAT},
    "setstat and fsetstat": {codec.SETSTAT, codec.FSETSTAT},
    "stat": {codec.STAT},
    "lstat": {codec.LSTAT},
    "fstat": {codec.FSTAT},
    "stat and lstat": {codec.STAT, codec.LSTAT},
    "stat, lstat and fstat": {codec.STAT, codec.LSTAT, codec.FSTAT},
    "stat, lstat and realpath": {codec.STAT, codec.LSTAT, codec.REALPATH},
    "fsync": {FSYNC},
    "limits": {LIMITS},
    "statvfs": {STATVFS},
    "all but uploads": ALL_BUT_UPLOADS,
}

#: Those that must fail: what is denied, for a file that exists or a new one, with preserve or not.
FAILING_PUTS = {
    *(("rename", True, preserve) for preserve in (False, True)),
    *(("rename, which it announces", True, preserve) for preserve in (False, True)),
    *(("rename and remove", True, preserve) for preserve in (False, True)),
    # Without posix-rename, the old file would have to be removed in the end.
    *(("remove", True, preserve) for preserve in (False, True)),
    *(("setstat and fsetstat", exists, True) for exists in (False, True)),
    ("all but uploads", True, False),
    *(("all but uploads", exists, True) for exists in (False, True)),
}


class Denying:
    """What a server denies now, and the status that it sends."""

    def __init__(self) -> None:
        self.denied: set[Any] = set()
        self.code = codec.FAILURE
        self.script: dict[int, Answer] = {
            kind: self._by_kind(kind)
            for kind in (codec.OPEN, codec.WRITE, *(d for d in ALL_BUT_UPLOADS if d != STATVFS))
        }
        self.script[codec.EXTENDED] = self._extended

    def _by_kind(self, kind: int) -> Answer:
        def answer(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> Optional[bytes]:
            return sftp.status(number, self.code) if kind in self.denied else None

        return answer

    def _extended(self, _server: ScriptedSftp, number: int, fields: ReplyFields) -> Optional[bytes]:
        denied = fields.string().decode() in self.denied
        return sftp.status(number, self.code) if denied else None


@pytest.fixture(scope="module")
def denying() -> Denying:
    return Denying()


@pytest.fixture(scope="module")
def nodes(denying: Denying) -> Iterator[Nodes]:
    with scripted_nodes(denying.script) as found:
        yield found


@pytest.fixture
def task(nodes: Nodes) -> Iterator[Task]:
    with fresh_task() as task:
        nodes.configure(task)
        before = os.umask(0o022)
        yield task
        os.umask(before)


def deny(
    denying: Denying, monkeypatch: pytest.MonkeyPatch, what: set[Any], code: int, announced: bool
) -> None:
    denying.denied, denying.code = what, code
    extensions = dict(SFTPSubsystem.EXTENSIONS)
    if not announced:
        # As OpenSSH's server, which does not announce what it denies.
        extensions.pop(POSIX_RENAME, None)
    monkeypatch.setattr(SFTPSubsystem, "EXTENSIONS", extensions)


def there(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def causes(task: Task) -> list[str]:
    return [str(error) for error, _ in task.iter_failures()]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("what", DENIED)
def test_put(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    code: str,
) -> None:
    if os.name == "nt" and ("lstat" in what or "setstat" in what):
        pytest.skip("not on Windows: its loopback server has other paths, and no modes")
    source = tmp_path / "source"
    source.write_text("new")
    os.utime(source, (1_000_000_001, 1_000_000_002))
    deny(denying, monkeypatch, DENIED[what], CODES[code], announced="announces" in what)
    for exists in (False, True):
        for preserve in (False, True):
            directory = Path(nodes.path(f"{what} {code} {exists} {preserve}", "target")).parent
            target = directory / "target"
            if exists:
                target.write_text("old")
                target.chmod(0o644)
            task.copy(
                str(source), node_path(target), "node1", preserve=preserve, fsync=what == "fsync"
            )
            task.resume()
            fails = (what, exists, preserve) in FAILING_PUTS or (
                # This status may also mean a failing disk.
                what == "fsync" and code == "failure"
            )
            found = there(directory)
            told = causes(task)
            if told and "stays" in told[0]:
                # Nothing could be done: the server denies REMOVE, and does not say so before, or
                # the new file has its name already, and its times are refused.
                assert codec.REMOVE in DENIED[what]
                assert code == "failure" or (what == "all but uploads" and preserve)
                found = {name: text for name, text in found.items() if text == "old"}
                fails = True
            if fails:
                assert task.max_retcode() == 1
                assert found == ({"target": "old"} if exists else {}), told
                assert [cause.startswith(f"{node_path(target)}: ") for cause in told] == [True]
            else:
                assert told == []
                assert task.max_retcode() == 0
                assert found == {"target": "new"}
                status = target.stat()
                if os.name == "posix":
                    assert stat.S_IMODE(status.st_mode) == 0o644
                assert (status.st_mtime == 1_000_000_002) is preserve


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("what", DENIED)
def test_get(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    code: str,
) -> None:
    if os.name == "nt" and ("lstat" in what or "setstat" in what):
        pytest.skip("not on Windows: its loopback server has other paths, and no modes")
    source = Path(nodes.path(f"{what} {code}", "source"))
    source.write_text("new")
    source.chmod(0o644)
    os.utime(source, (1_000_000_001, 1_000_000_002))
    deny(denying, monkeypatch, DENIED[what], CODES[code], announced="announces" in what)
    for exists in (False, True):
        for preserve in (False, True):
            here = tmp_path / f"{exists} {preserve}"
            here.mkdir()
            if exists:
                (here / "source.node1").write_text("old")
            task.rcopy(node_path(source), str(here), "node1", preserve=preserve)
            task.resume()
            if what == "all but uploads":
                assert task.max_retcode() == 1
                assert there(here) == ({"source.node1": "old"} if exists else {})
                continue
            assert causes(task) == []
            assert there(here) == {"source.node1": "new"}
            time = (here / "source.node1").stat().st_mtime
            if what != "stat, lstat and fstat":  # then nobody knows it
                assert (time == 1_000_000_002) is preserve


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
@pytest.mark.parametrize("what", ["rename", "rename and remove", "stat and lstat", "lstat"])
def test_trees(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tree / name).write_text(name)
    (tree / "sub" / "link").symlink_to("c")
    deny(denying, monkeypatch, DENIED[what], codec.PERMISSION_DENIED, announced=False)
    place = Path(nodes.path(f"tree {what}", "tree")).parent
    task.copy(str(tree), node_path(place), "node1", follow_symlinks=False)
    task.resume()
    assert causes(task) == []
    expected = {"a": "a", "b": "b", "sub/c": "sub/c", "sub/link": "sub/c"}
    assert there(place / "tree") == expected
    assert os.readlink(place / "tree" / "sub" / "link") == "c"
    here = tmp_path / "here"
    here.mkdir()
    task.rcopy(str(place / "tree"), str(here), "node1")
    task.resume()
    assert causes(task) == []
    assert there(here / "tree.node1") == expected


def test_the_failure_names_the_way_out(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    source.write_text("new")
    deny(denying, monkeypatch, {codec.RENAME, codec.REMOVE}, codec.PERMISSION_DENIED, False)
    target = Path(nodes.path("way out", "target"))
    target.write_text("old")
    task.copy(str(source), node_path(target), "node1")
    task.resume()
    assert "inplace=True" in causes(task)[0]
    task.copy(str(source), node_path(target), "node1", inplace=True)
    task.resume()
    assert causes(task) == []
    assert there(target.parent) == {"target": "new"}


@pytest.mark.posix_only("it looks at modes of POSIX")
def test_a_mode_that_cannot_be_kept(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    source.write_text("new")
    source.chmod(0o600)
    deny(denying, monkeypatch, DENIED["setstat and fsetstat"], codec.PERMISSION_DENIED, True)
    target = Path(nodes.path("mode", "target"))
    target.write_text("old")
    target.chmod(0o664)
    task.copy(str(source), node_path(target), "node1")
    task.resume()
    assert "inplace=True" in causes(task)[0]
    assert there(target.parent) == {"target": "old"}
    task.copy(str(source), node_path(target), "node1", inplace=True)
    task.resume()
    assert causes(task) == []
    assert there(target.parent) == {"target": "new"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o664


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
@pytest.mark.parametrize("denied", [{codec.LSTAT}, {codec.STAT, codec.LSTAT}])
def test_links_are_found_without_lstat(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    denied: set[Any],
) -> None:
    """A link stays one; if links are copied as links, none is written through."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("new")
    deny(denying, monkeypatch, denied, codec.PERMISSION_DENIED, announced=True)
    place = Path(nodes.path(f"links {len(denied)}", "tree", "file")).parent.parent
    (place / "real").write_text("old")
    (place / "tree" / "file").symlink_to("../real")
    task.copy(str(tree), node_path(place), "node1", follow_symlinks=False)
    task.resume()
    assert causes(task) == []
    assert there(place) == {"real": "old", "tree/file": "new"}
    (place / "tree" / "file").unlink()
    (place / "tree" / "file").symlink_to("../real")
    task.copy(str(tree), node_path(place), "node1")
    task.resume()
    assert causes(task) == []
    assert there(place) == {"real": "new", "tree/file": "new"}
    assert (place / "tree" / "file").is_symlink()


def test_a_new_file_that_fails_in_the_middle_is_removed(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    source.write_text("new")
    deny(denying, monkeypatch, {codec.RENAME, codec.WRITE}, codec.PERMISSION_DENIED, False)
    target = Path(nodes.path("middle", "target"))
    task.copy(str(source), node_path(target), "node1")
    task.resume()
    assert causes(task) == [f"{node_path(target)}: Permission denied"]
    assert there(target.parent) == {}


@pytest.mark.posix_only("it makes symbolic links, which needs rights on Windows")
def test_a_directory_is_not_replaced(
    task: Task,
    nodes: Nodes,
    denying: Denying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even by a server that does not tell that it is one."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("new")
    (tree / "link").symlink_to("file")
    place = Path(nodes.path("directory", "tree"))
    for name in ("file", "link"):
        (place / name).mkdir(parents=True)
        (place / name / "old").write_text("old")
    nothing = {codec.STAT, codec.LSTAT, codec.OPENDIR}
    for denied in (set(), nothing):
        deny(denying, monkeypatch, denied, codec.PERMISSION_DENIED, announced=False)
        task.copy(f"{tree}/file", f"{place}/file/" if denied else f"{place}", "node1")
        task.copy(str(tree), f"{place.parent}", "node1", follow_symlinks=False)
        task.resume()
        assert task.max_retcode() == 1
        assert there(place) == {"file/old": "old", "link/old": "old"}


class Stopping:
    """Stops the server before it does the n-th RENAME or REMOVE, until it is told to go on."""

    def __init__(self, kind: int, turn: int) -> None:
        self.go_on = threading.Event()
        self.script: dict[int, Answer] = {kind: self._answer}
        self._turns = turn

    def _answer(self, _server: ScriptedSftp, _number: int, _fields: ReplyFields) -> None:
        self._turns -= 1
        if not self._turns:
            assert self.go_on.wait(DEADLINE)


@pytest.mark.parametrize(
    ("kind", "turn", "expected"),
    [
        # (The first of each asks whether the server serves such requests.)
        (codec.RENAME, 2, "old"),  # the new file to its name, which is taken
        (codec.RENAME, 3, "old"),  # the old one aside
        (codec.RENAME, 4, "new"),  # the new one to its name
        (codec.REMOVE, 2, "new"),  # the old one
    ],
)
def test_an_abort_while_a_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, turn: int, expected: str
) -> None:
    source = tmp_path / "source"
    source.write_text("new")
    monkeypatch.setattr(SFTPSubsystem, "EXTENSIONS", {})
    stopping = Stopping(kind, turn)
    with scripted_nodes(stopping.script) as nodes, fresh_task() as task:
        nodes.configure(task)
        task.set_info("ssh_kill_grace", DEADLINE)
        target = Path(nodes.path("dest", "target"))
        target.write_text("old")
        task.copy(str(source), node_path(target), "node1", timeout=0.5)
        task.resume()
        assert list(task.iter_keys_timeout()) == ["node1"]
        stopping.go_on.set()
        task.close()
        assert there(target.parent) == {"target": expected}


@pytest.mark.parametrize("refused", [3, 4, 5])
def test_a_server_that_stops_renaming_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """It puts the old file aside, and renames nothing from then on: both files are named."""
    source = tmp_path / "source"
    source.write_text("new")
    monkeypatch.setattr(SFTPSubsystem, "EXTENSIONS", {})
    turns = iter(range(1, 100))

    def rename(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> Optional[bytes]:
        return sftp.status(number, codec.FAILURE) if next(turns) >= refused else None

    removals = iter(range(1, 100))

    def remove(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> Optional[bytes]:
        # The second one: that of the old file.
        return sftp.status(number, codec.FAILURE) if next(removals) == 2 else None

    script: dict[int, Answer] = {codec.RENAME: rename}
    if refused == 5:
        script[codec.REMOVE] = remove
    with scripted_nodes(script) as nodes, fresh_task() as task:
        nodes.configure(task)
        target = Path(nodes.path("dest", "target"))
        target.write_text("old")
        task.copy(str(source), node_path(target), "node1")
        task.resume()
        ((error, _),) = task.iter_failures()
        assert isinstance(error, CopyError)
        found = there(target.parent)
        if refused == 3:
            assert found == {"target": "old"}
        else:
            (aside,) = [name for name, text in found.items() if text == "old"]
            assert aside.endswith(".old")
            assert aside in error.cause
            assert set(found) == ({aside} if refused == 4 else {aside, "target"})


@pytest.mark.posix_only("Windows has no groups of files")
@pytest.mark.parametrize(
    ("mode", "refused", "preserve", "expected"),
    [
        (0o660, 1, False, 0o660),
        (0o660, 2, False, 0o600),
        (0o674, 2, False, 0o644),
        (0o644, 1, False, 0o644),
        (0o660, 2, True, 0o640),
    ],
)
def test_the_rights_of_a_group_are_for_that_group_only(
    tmp_path: Path, mode: int, refused: int, preserve: bool, expected: int
) -> None:
    """The new file has another group than the one that it replaces.

    Args:
        tmp_path: a directory.
        mode: the mode of the file that is replaced.
        refused: 1 if owner and group cannot be set, 2 if the group alone cannot be set as well.
        preserve: True to give the file the mode of the source.
        expected: the mode of the new file.
    """
    source = tmp_path / "source"
    source.write_text("new")
    source.chmod(0o640)
    owners: list[tuple[int, int]] = []

    def fsetstat(_server: ScriptedSftp, number: int, fields: ReplyFields) -> Optional[bytes]:
        fields.string()
        found = fields.attributes()
        if found.uid is None or found.gid is None:
            return None
        owners.append((found.uid, found.gid))
        code = codec.PERMISSION_DENIED if len(owners) <= refused else codec.OK
        return sftp.status(number, code)

    def fstat(_server: ScriptedSftp, number: int, _fields: ReplyFields) -> bytes:
        return sftp.attributes(number, codec.Attributes(uid=4711, gid=2**31 - 2))

    with scripted_nodes({codec.FSETSTAT: fsetstat, codec.FSTAT: fstat}) as nodes:
        with fresh_task() as task:
            nodes.configure(task)
            target = Path(nodes.path("dest", "target"))
            target.write_text("old")
            target.chmod(mode)
            group = target.stat().st_gid
            task.copy(str(source), str(target), "node1", preserve=preserve)
            task.resume()
            assert task.max_retcode() == 0
        assert target.read_text() == "new"
        assert stat.S_IMODE(target.stat().st_mode) == expected
    asked = [(os.geteuid(), group)]
    if mode != 0o644 and not preserve:
        asked.append((4711, group))
    assert owners == asked


def test_a_rename_that_the_system_denies_is_not_tried_in_another_way(tmp_path: Path) -> None:
    """The file is another user's, in a directory with a sticky bit.

    OpenSSH's RENAME would make a hard link there, and not be able to remove it.
    """
    source = tmp_path / "source"
    source.write_text("new")
    renamed: list[bytes] = []

    def posix_rename(_server: ScriptedSftp, number: int, fields: ReplyFields) -> Optional[bytes]:
        if fields.string().decode() == POSIX_RENAME and os.path.exists(fields.string()):
            return sftp.status(number, codec.PERMISSION_DENIED)
        return None

    def rename(_server: ScriptedSftp, _number: int, fields: ReplyFields) -> None:
        renamed.append(fields.string())

    with scripted_nodes({codec.EXTENDED: posix_rename, codec.RENAME: rename}) as nodes:
        with fresh_task() as task:
            nodes.configure(task)
            target = Path(nodes.path("dest", "target"))
            target.write_text("old")
            task.copy(str(source), node_path(target), "node1")
            task.resume()
            ((error, _),) = task.iter_failures()
        assert "does not rename another file to this name (Permission denied)" in error.cause
        assert there(target.parent) == {"target": "old"}
    assert renamed == []


@pytest.mark.parametrize(
    ("options", "new", "existing"),
    [
        ("-P rename,posix-rename", True, False),
        ("-P rename,posix-rename,remove", True, False),
        ("-P posix-rename", True, True),
        ("-P posix-rename,remove", True, False),
        ("-P setstat,fsetstat", True, True),
        ("-P stat", True, True),
        ("-P lstat", True, True),
        ("-P stat,lstat,fstat", True, True),
        ("-P fsync,limits,statvfs", True, True),
        ("-p open,write,close", True, False),
    ],
)
def test_openssh_denies(tmp_path: Path, options: str, new: bool, existing: bool) -> None:
    require("sshd")
    source = tmp_path / "source"
    source.write_text("new")
    server = tmp_path / "server"
    server.mkdir()
    with openssh_nodes(server, f"internal-sftp {options}") as nodes, fresh_task() as task:
        nodes.configure(task)
        for exists in (False, True):
            target = Path(nodes.path(str(exists), "target"))
            if exists:
                target.write_text("old")
                target.chmod(0o644)
            task.copy(str(source), node_path(target), "node1", fsync=True)
            task.resume()
            done = existing if exists else new
            assert (causes(task) == []) is done, causes(task)
            assert there(target.parent) == (
                {"target": "new" if done else "old"} if exists else {"target": "new"}
            )
