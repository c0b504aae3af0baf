"""A few seeds of gateways that fail. ``python -m tests.faults.gateways --runs 200`` tries more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.gateways import Laboratory, check, draw
from tests.helpers.needs import require


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    """The servers of the laboratory."""
    require("sshd")
    with Laboratory.open() as laboratory:
        yield laboratory


@pytest.mark.posix_only("its servers are programs of this system")
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_each_node_has_one_outcome_and_those_with_a_way_answer(
    laboratory: Laboratory, seed: int
) -> None:
    check(draw(seed), laboratory)


def test_a_seed_always_draws_the_same() -> None:
    assert draw(4711) == draw(4711) != draw(4712)
