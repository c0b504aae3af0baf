"""The project's own files name things that exist, and agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")]
CI = [ROOT / ".ci" / "run", *ROOT.glob(".github/workflows/*.yml")]

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", re.MULTILINE)
TEST_PATH = re.compile(r"\btests(?:/\w+)+(?:\.py)?")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made for Markdown pages of a repository."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for inline, reference in LINK.findall(page.read_text(encoding="utf-8")):
        target = inline or reference
        if re.match(r"\w+:", target):
            continue  # on the web
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize(
    "file", [*CI, ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml"], ids=lambda file: file.name
)
def test_paths_of_tests_exist(file: Path) -> None:
    named = set(TEST_PATH.findall(file.read_text(encoding="utf-8")))
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_the_hooks_before_a_commit_are_checks_of_ci() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert hooks == ["ruff check .", "ruff format --check .", "mypy", "mypy --strict examples"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tool_of_a_venv = r'^ +"\$work/(?:lint|wheel)-venv/bin/((?!python)[^\n"]+)"(.*)$'
    run = re.findall(tool_of_a_venv, script, re.MULTILINE)
    assert [tool + arguments for tool, arguments in run] == hooks


def test_one_address_of_the_repository() -> None:
    files = [*PAGES, ROOT / "setup.py", *ROOT.glob(".github/**/*.yml")]
    found = {
        address
        for file in files
        for address in re.findall(
            r"https://github\.com/[\w-]+/pyclustershell\b", file.read_text(encoding="utf-8")
        )
    }
    assert found == {"https://github.com/pyclustershell/pyclustershell"}


def test_the_source_distribution_has_the_projects_pages() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split()
    assert {page.name for page in ROOT.glob("*.md")} - set(manifest) == set()
