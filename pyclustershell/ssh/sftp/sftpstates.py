"""The states of an SFTP session, its events and its transitions. See :mod:`..states`."""

from __future__ import annotations

from collections.abc import Mapping

from ..states import Label


class SftpState(Label):
    """The state of one SFTP session."""

    OPENING = "opening"  # a channel is requested, then the subsystem
    GREETING = "greeting"  # INIT was sent; VERSION, then the limits, are awaited
    WORKING = "working"
    DONE = "done"


class SftpEvent(Label):
    """An event of an SFTP session."""

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
    # The server may send bytes that are no SFTP, even before its answer.
    (_S.OPENING, _E.FINISHED): _S.DONE,
    (_S.GREETING, _E.FINISHED): _S.DONE,
    # The session can end in any state.
    (_S.OPENING, _E.CLOSED): _S.DONE,
    (_S.GREETING, _E.CLOSED): _S.DONE,
    (_S.WORKING, _E.CLOSED): _S.DONE,
    (_S.OPENING, _E.ABORTED): _S.DONE,
    (_S.GREETING, _E.ABORTED): _S.DONE,
    (_S.WORKING, _E.ABORTED): _S.DONE,
    # Late events: they were posted before the session was aborted or lost.
    (_S.DONE, _E.GRANTED): _S.DONE,
    (_S.DONE, _E.CLOSED): _S.DONE,
    (_S.DONE, _E.ABORTED): _S.DONE,
}
