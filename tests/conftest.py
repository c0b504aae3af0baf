"""Fixtures for all tests: the OpenSSH server, and the check for leaked threads and descriptors."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import hypothesis
import pytest

from tests.helpers.needs import require
from tests.servers.dropbear import Dropbear
from tests.servers.leaks import no_leaks as check_leaks
from tests.servers.sshd import Sshd

# Nobody can debug on CI: the next run must draw the same examples and fail again.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# Machines are noisy: the time of a single example means nothing.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


# A shell makes background programs ignore Ctrl-C, and these pass that on to their children.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# For the programs that tests start, as "filterwarnings" in pyproject.toml is for the tests.
os.environ.setdefault("PYTHONWARNINGS", "ignore:TripleDES has been moved")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes: several for folders; files run in this one, for a debugger."""
    folders = all(os.path.isdir(argument) for argument in config.args)
    return min(4, os.cpu_count() or 1) if folders else 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*names): what the machine must have, as tests.helpers.needs names it"
    )
    config.addinivalue_line("markers", "posix_only(reason): why Windows cannot run the test")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("posix_only"):
        (reason,) = marker.args
        if sys.platform == "win32":
            pytest.skip(f"not on Windows: {reason}")
    for marker in item.iter_markers("needs"):
        require(*marker.args)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A running OpenSSH server with default settings, shared by all tests: leave it as it is."""
    require("sshd")
    with Sshd(tmp_path_factory.mktemp("sshd"), nodes=500) as server:
        yield server


@pytest.fixture(scope="session")
def root_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An OpenSSH server with default settings that root logs in to, with a key."""
    require("root", "sshd")
    with Sshd(tmp_path_factory.mktemp("root_sshd"), nodes=500, user="root") as server:
        yield server


@pytest.fixture(scope="session")
def dropbear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dropbear]:
    """A dropbear that root logs in to."""
    require("root", "mounts", "dropbear")
    with Dropbear(tmp_path_factory.mktemp("dropbear")) as server:
        yield server


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test fails if it leaves threads or open file descriptors behind."""
    with check_leaks():
        yield
