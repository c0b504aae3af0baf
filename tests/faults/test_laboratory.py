"""A few seeds of the laboratory. ``python -m tests.faults --runs 2000`` tries many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.laboratory import check
from tests.faults.scenario import draw
from tests.faults.world import World
from tests.helpers.needs import require

SEEDS = range(1, 9)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The laboratory's servers, in a process of their own."""
    require("sshd", "sftp-server")
    with World() as world:
        yield world


@pytest.mark.posix_only("its servers are a program of this system, with homes")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(world: World, seed: int) -> None:
    check(draw(seed), world)


def test_a_seed_always_draws_the_same() -> None:
    assert draw(4711) == draw(4711) != draw(4712)
