"""The tables of the state machines: complete, and without surprises."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from pyclustershell.ssh.sftp.sftpstates import SFTP_MOVES, SftpState
from pyclustershell.ssh.states import (
    COMMAND_MOVES,
    CONNECTION_MOVES,
    CommandEvent,
    CommandState,
    ConnectionEvent,
    ConnectionState,
    IllegalMoveError,
    move,
)

MACHINES: list[tuple[Any, type[Enum], Enum]] = [
    (CONNECTION_MOVES, ConnectionState, ConnectionState.CLOSED),
    (COMMAND_MOVES, CommandState, CommandState.DONE),
    (SFTP_MOVES, SftpState, SftpState.DONE),
]


@pytest.mark.parametrize(("table", "states", "end"), MACHINES)
def test_every_state_can_be_reached_and_can_end(table: Any, states: type[Enum], end: Enum) -> None:
    first = next(iter(states))
    reached = {first}
    for _ in states:
        reached |= {after for (before, _event), after in table.items() if before in reached}
    assert reached == set(states)
    for state in states:
        assert end in {after for (before, _event), after in table.items() if before is state}


@pytest.mark.parametrize(("table", "states", "end"), MACHINES)
def test_the_end_is_final(table: Any, states: type[Enum], end: Enum) -> None:
    assert {after for (before, _event), after in table.items() if before is end} == {end}


def test_a_command_ends_when_both_its_output_and_its_exit_status_have_come() -> None:
    for events in (
        (CommandEvent.EOF, CommandEvent.EXITED),
        (CommandEvent.EXITED, CommandEvent.EOF),
    ):
        state = CommandState.RUNNING
        for event in events:
            assert state is not CommandState.DONE
            state = move(COMMAND_MOVES, state, event)
        assert state is CommandState.DONE


def test_an_illegal_move_names_state_and_event() -> None:
    with pytest.raises(IllegalMoveError, match=r"RELEASE.*cannot happen in.*DIALING"):
        move(CONNECTION_MOVES, ConnectionState.DIALING, ConnectionEvent.RELEASE)
