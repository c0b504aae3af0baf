"""The manual's pages: their examples run, their tables are those of the code."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from pyclustershell import EventHandler, task_self
from pyclustershell.defaults import INFO_KEYS, TASK_DEFAULTS, TASK_INFO
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.results import NodeResult
from pyclustershell.ssh.config.keywords import KEYWORDS, Treatment
from pyclustershell.task.settings import DEFAULT_KEYS
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks
from tests.servers.sshd import make_key

ROOT = Path(__file__).parents[2]

# What OpenSSH has given up: the page has one sentence for all of it.
LONG_GONE = re.compile(
    r"AFS|Cipher$|CompressionLevel|FallBackToRsh|Kerberos|KnownHostsFile2|Protocol$|Rhosts|"
    r"RSAAuth|UseBlacklistedKeys|UsePrivilegedPort|UseRoaming|UseRsh"
)


def rows(page: str) -> Iterator[tuple[str, str]]:
    """The first two cells of each row of a page's tables of keywords."""
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "keyword" and not cells[0].startswith("---"):
            yield cells[0], cells[1]


def test_the_table_of_keywords_is_the_codes() -> None:
    documented = list(rows("ssh_config.md"))
    assert documented == sorted(documented, key=lambda row: row[0].lower())
    assert dict(documented) == {
        keyword.name: keyword.treatment.value
        for keyword in KEYWORDS.values()
        if not LONG_GONE.search(keyword.name)
    }
    gone = [keyword for keyword in KEYWORDS.values() if LONG_GONE.search(keyword.name)]
    assert {keyword.treatment for keyword in gone} == {Treatment.SILENT}


def test_every_treatment_is_explained() -> None:
    page = (ROOT / "docs" / "ssh_config.md").read_text(encoding="utf-8")
    for treatment in Treatment:
        assert f"- **{treatment.value}**: " in page


@pytest.mark.posix_only("the examples run commands of a Unix shell")
def test_the_examples_of_keys_and_agents(tmp_path: Path) -> None:
    def encrypt(text: str, passphrase: str) -> str:
        key = serialization.load_ssh_private_key(text.encode(), None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.BestAvailableEncryption(passphrase.encode()),
        ).decode()

    clusters: list[LoopbackCluster] = []

    class Watched(LoopbackCluster):
        def start(self) -> None:
            clusters.append(self)
            super().start()

    names = {
        "encrypt": encrypt,
        "another_public_key": make_key(tmp_path / "key"),
        "vault": {},
        "one_time_code": lambda node: "123456",
    }
    with fresh_task(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyclustershell.loopback.LoopbackCluster", Watched)
        failed, tried = doctest.testfile(
            str(ROOT / "docs" / "keys_and_agents.md"), module_relative=False, globs=names
        )
        for cluster in clusters:
            cluster.stop()
        assert task_self().stats().open == 0
    assert tried > 30
    assert failed == 0


@pytest.mark.posix_only("the examples run commands of a Unix shell")
def test_the_examples_of_asyncio() -> None:
    failed, tried = doctest.testfile(str(ROOT / "docs" / "asyncio.md"), module_relative=False)
    assert tried > 15
    assert failed == 0


@pytest.mark.posix_only("the examples run commands of a Unix shell")
@pytest.mark.parametrize(
    ("page", "examples"), [("results.md", 40), ("events.md", 15), ("gateways.md", 25)]
)
def test_the_examples_of_results_events_and_gateways(page: str, examples: int) -> None:
    with no_leaks(), fresh_task():
        path = str(ROOT / "docs" / page)
        failed, tried = doctest.testfile(path, module_relative=False, globs={})
    assert tried > examples
    assert failed == 0


@pytest.mark.parametrize(
    ("part", "known", "values"), [(1, INFO_KEYS, TASK_INFO), (2, DEFAULT_KEYS, TASK_DEFAULTS)]
)
def test_every_setting_is_described(
    part: int, known: tuple[str, ...], values: dict[str, Any]
) -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").split("\n## ")[part]
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    shown = {key: row[2].strip() for row in cells for key in re.findall("`(.+?)`", row[1])}
    assert sorted(shown) == sorted(known)
    for key, value in values.items():
        if not callable(value) and not key.endswith("workername"):  # two in one row
            assert shown[key] == str(value)


def test_every_event_is_described() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `ev_")]
    events = [name for name in dir(EventHandler) if name.startswith("ev_")]
    # ev_error is an older form.
    assert sorted(re.findall("`(ev_[a-z_]+)", "".join(rows))) == sorted({*events} - {"ev_error"})


def test_every_field_of_a_result_is_described() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = page.partition("## One node")[2].partition("\n## ")[0]
    described = [
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall("`([a-z_]+)`", line.split("|")[1])
    ]
    assert [name for name in described if name not in ("ok", "cause")] == [*NodeResult._fields]
