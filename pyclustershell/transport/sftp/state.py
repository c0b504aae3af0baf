"""The states of an SFTP session, and what moves them. See ``transport/state.py``."""

from __future__ import annotations

from collections.abc import Mapping

from ..state import Label


class SftpState(Label):
    """Where one SFTP session is."""

    OPENING = "opening"  # a channel is asked for, then the subsystem
    GREETING = "greeting"  # INIT was sent; VERSION, then the limits, are awaited
    WORKING = "working"
    DONE = "done"


class SftpEvent(Label):
    """What moves an SFTP session."""

    GRANTED = "granted"  # the subsystem runs
    GREETED = "greeted"
    FINISHED = "finished"  # the job has ended, well or not
    CLOSED = "closed"  # channel or connection closed, refused or lost
    ABORTED = "aborted"  # by us: abort or timeout


_S, _E = SftpState, SftpEvent

SFTP_MOVES: Mapping[tuple[SftpState, SftpEvent], SftpState] = {
    (_S.OPENING, _E.GRANTED): _S.GREETING,
    (_S.GREETING, _E.GREETED): _S.WORKING,
    (_S.WORKING, _E.FINISHED): _S.DONE,
    # What the server sends may be no SFTP, and may come before its answer.
    (_S.OPENING, _E.FINISHED): _S.DONE,
    (_S.GREETING, _E.FINISHED): _S.DONE,
    # It can end at any moment.
    (_S.OPENING, _E.CLOSED): _S.DONE,
    (_S.GREETING, _E.CLOSED): _S.DONE,
    (_S.WORKING, _E.CLOSED): _S.DONE,
    (_S.OPENING, _E.ABORTED): _S.DONE,
    (_S.GREETING, _E.ABORTED): _S.DONE,
    (_S.WORKING, _E.ABORTED): _S.DONE,
    # Late: it had been posted when the session was aborted or lost.
    (_S.DONE, _E.GRANTED): _S.DONE,
    (_S.DONE, _E.CLOSED): _S.DONE,
    (_S.DONE, _E.ABORTED): _S.DONE,
}
