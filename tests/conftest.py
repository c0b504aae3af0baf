"""Fixtures for all tests: the OpenSSH server, and a look at what a test leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests import windows
from tests.servers.leaks import no_leaks as check_leaks
from tests.servers.sshd import SEARCH_PATH, Sshd, find_sshd

# Where nobody is there to look into it, a failure must come again on the next run.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# The machines are noisy: how long one example took tells nothing.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--windows-profile", action="store_true", help="play Windows, as far as that can be"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--windows-profile"):
        windows.play()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--windows-profile"):
        windows.deselect(items)


def require_sshd() -> None:
    """Skip the test where there is no sshd; but on CI, where it must run, let it fail."""
    if find_sshd() is None:
        reason = f"no OpenSSH server (sshd) in {SEARCH_PATH}: install openssh-server"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A running OpenSSH server with default settings, shared by all tests: leave it as it is."""
    require_sshd()
    with Sshd(tmp_path_factory.mktemp("sshd"), nodes=500) as server:
        yield server


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test fails where it leaves threads or open file descriptors behind."""
    with check_leaks():
        yield
