"""DEFAULTS: what tasks and node sets begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyclustershell import NodeSet, Task
from pyclustershell import defaults as defaults_module
from pyclustershell.defaults import TASK_DEFAULTS, TASK_INFO, Defaults
from pyclustershell.exceptions import ConfigurationError
from pyclustershell.task.settings import TaskSettings
from pyclustershell.worker.rsh import WorkerRsh
from tests.unit.test_defaultsfile import EVERYTHING, write


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> Defaults:
    """Default settings as the library has them, in the place of DEFAULTS for one test."""
    new = Defaults(())
    for module in ("nodeset.base", "task.settings", "defaults"):
        monkeypatch.setattr(f"pyclustershell.{module}.DEFAULTS", new)
    return new


def test_without_files() -> None:
    defaults = Defaults(())
    assert defaults.task_info() == TASK_INFO
    assert defaults.task_default() == TASK_DEFAULTS
    assert defaults.fold_axis == ()
    assert not defaults.is_given("fanout")
    assert repr(defaults) == "<Defaults 0 keys set>"


def test_every_key_of_the_files(tmp_path: Path) -> None:
    defaults = Defaults([write(tmp_path, EVERYTHING)])
    assert (defaults.stderr, defaults.engine, defaults.port_qlimit) == (True, "select", 50)
    assert (defaults.fanout, defaults.connect_timeout, defaults.ssh_kill_grace) == (128, 20.0, None)
    assert defaults.fold_axis == (0, -1)
    assert defaults.is_given("fanout")
    assert not defaults.is_given("print_debug")


def test_files_are_read_when_a_value_is_first_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    defaults = Defaults()
    write(tmp_path, "[task.info]\nfanout: 7\n")
    assert repr(defaults) == "<Defaults not read yet>"
    assert defaults.fanout == 7
    write(tmp_path, "[task.info]\nfanout: 8\n")
    assert defaults.fanout == 7


def test_a_wrong_file_is_told_of_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    write(tmp_path, "[task.info]\nfanout: many\n")
    defaults = Defaults()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="fanout = many"):
            defaults.task_info()


def test_values_that_are_set_are_checked() -> None:
    defaults = Defaults(())
    defaults.fanout = 3
    assert defaults.task_info()["fanout"] == 3
    assert defaults.is_given("fanout")
    with pytest.raises(AttributeError, match="fan_out"):
        defaults.fan_out = 3
    with pytest.raises(AttributeError, match="fan_out"):
        _ = defaults.fan_out
    with pytest.raises(ValueError, match="at least 1"):
        defaults.fanout = 0


def test_a_task_takes_them_when_it_is_made(defaults: Any) -> None:
    settings = TaskSettings()
    defaults.fanout = 3
    defaults.distant_workername = "rsh"
    defaults.engine = "select"
    later = TaskSettings()
    assert (settings.info["fanout"], later.info["fanout"]) == (64, 3)
    assert later.get_default("distant_worker", None) is WorkerRsh
    assert later.info["engine"] == "select"
    assert later.is_set("fanout")
    assert not settings.is_set("fanout")


def test_an_unknown_engine_is_a_key_error_when_the_task_is_made(defaults: Any) -> None:
    defaults.engine = "nonsense"
    with pytest.raises(KeyError, match=r"DEFAULTS\.engine: engine must be one of auto, .*nonsense"):
        TaskSettings()
    own = Defaults(())
    own.engine = "nonsense"
    with pytest.raises(KeyError, match="nonsense"):
        Task(defaults=own)


def test_a_task_with_defaults_of_its_own() -> None:
    own = Defaults(())
    own.fanout = 3
    own.stderr = True
    task = Task(defaults=own)
    try:
        assert task.info("fanout") == 3
        assert task.default("stderr") is True
    finally:
        task.abort(kill=True)


def test_node_sets_are_folded_as_they_say(defaults: Any) -> None:
    assert defaults_module.DEFAULTS is defaults
    before = NodeSet("r[1-2]n[1-2]")
    defaults.fold_axis = (1,)
    assert str(NodeSet("r[1-2]n[1-2]")) == "r1n[1-2],r2n[1-2]"
    assert str(before) == "r[1-2]n[1-2]"
