"""A few seeds of the laboratory. ``python -m tests.faults --runs 2000`` tries many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require_sshd
from tests.faults.laboratory import check
from tests.faults.scenario import draw
from tests.faults.world import World

SEEDS = range(1, 9)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The laboratory's servers, in a process of their own."""
    require_sshd()
    with World() as world:
        yield world


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(world: World, seed: int) -> None:
    check(draw(seed), world)


def test_a_seed_always_draws_the_same() -> None:
    assert draw(4711) == draw(4711) != draw(4712)
