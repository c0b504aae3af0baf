"""The manual's pages: their examples run, their tables are those of the code."""

from __future__ import annotations

import doctest
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pyclustershell import task_self
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.transport.config.keywords import KEYWORDS, Treatment
from tests.servers.sshd import make_key
from tests.tasks import fresh_task

ROOT = Path(__file__).parents[1]

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


@pytest.mark.skipif(os.name == "nt", reason="the examples run commands of a Unix shell")
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
        assert task_self().pool.open_count == 0
    assert tried > 30
    assert failed == 0
