"""A few seeds of cancellations. ``python -m tests.faults.cancels --runs 1000`` tries many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.cancels import check, draw
from tests.faults.world import World
from tests.helpers.needs import require


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The laboratory's servers, in a process of their own."""
    require("sshd", "sftp-server")
    with World() as world:
        yield world


@pytest.mark.posix_only("its servers are a program of this system, with homes")
@pytest.mark.parametrize("seed", range(1, 9))
def test_a_cancellation_leaves_nothing_and_disturbs_nobody(world: World, seed: int) -> None:
    check(draw(seed), world)


def test_a_seed_always_draws_the_same() -> None:
    assert draw(4711) == draw(4711) != draw(4712)
