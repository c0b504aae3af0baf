"""The laboratory's nodes by name: the fault of each, and the outcomes that it may have.

Names are all that the client's process knows; :mod:`.world` starts the servers behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.servers import faults, phases
from tests.servers.faults import Script
from tests.servers.phases import PhaseServer, Rule

# -- healthy nodes ---------------------------------------------------------------------------------

#: How many nodes of each healthy kind there are.
HEALTHY: Mapping[str, int] = {
    "ssh": 40,  # OpenSSH
    "rekey": 4,  # OpenSSH that wants new keys every 16 KiB
    "single": 4,  # OpenSSH with MaxSessions 1
    "own": 6,  # OpenSSH with logins as the user of the tests, who may be root
    "loop": 12,  # the loopback cluster
    "async": 6,  # asyncssh
    "slow": 4,  # OpenSSH behind a proxy that delays or throttles
}

#: Healthy nodes on which a command that is told to end does end.
KILLABLE = ("ssh", "rekey", "single", "own", "loop")

#: OpenSSH behind a proxy that cuts, resets, drops or corrupts after some bytes.
CUT = 6

# -- nodes that do not -----------------------------------------------------------------------------

RAW: Mapping[str, Script] = {
    script.__name__.replace("_", "-"): script
    for script in (
        faults.close_at_once,
        faults.close_before_banner,
        faults.reset_at_once,
        faults.reset_before_banner,
        faults.hang_before_banner,
        faults.hang_in_banner,
        faults.garbage_banner,
        faults.other_protocol,
        faults.endless_greeting,
        faults.endless_line,
        faults.old_protocol,
        faults.hang_before_key_exchange,
        faults.hang_in_key_exchange,
        faults.half_key_exchange,
        faults.close_in_key_exchange,
        faults.reset_in_key_exchange,
        faults.no_common_algorithm,
        faults.garbage_packet,
        faults.giant_packet,
        faults.disconnect_at_once,
    )
}

_RULES: Mapping[str, Rule] = {
    "swallow": phases.swallow,
    "hang": phases.hang,
    "close": phases.close,
    "cut": phases.cut,
    "garble": phases.garble,
    "giant": phases.giant,
    "goodbye": phases.goodbye,
    "authenticated": phases.wrong(52),
    "success": phases.wrong(phases.CHANNEL_SUCCESS, 0),
    "unknown": phases.wrong(191, b"?"),
    "short": phases.wrong(phases.CHANNEL_REQUEST),
}

PHASE: Mapping[str, Mapping[int, Rule]] = {
    f"{phase.replace(' ', '-')}-{name}": {number: rule}
    for phase, number in phases.PHASES.items()
    for name, rule in _RULES.items()
}

_LINES = b"0123456789abcdef\n" * 1000

# An SFTP server's greeting: version 3, no extensions.
_SFTP_VERSION = b"\0\0\0\x05\x02\0\0\0\x03"


class Misbehaviour(NamedTuple):
    """A command that breaks the rules of commands.

    Attributes:
        rules: the server's.
        hangs: whether it never ends, so that only a timeout can end it.
        codes: return codes that it may have.
    """

    rules: Mapping[int, Rule]
    hangs: bool
    codes: tuple[int, ...]


def _command(
    *steps: phases.Step, hangs: bool = False, codes: tuple[int, ...] = (255,)
) -> Misbehaviour:
    return Misbehaviour(phases.command(*steps), hangs, codes)


_p = phases
COMMAND: Mapping[str, Misbehaviour] = {
    "refused": _command(_p.refuse),
    "never-ends": _command(_p.accept, hangs=True),
    "no-status": _command(_p.accept, _p.say(b"x\n"), _p.eof, _p.end),
    "only-close": _command(_p.accept, _p.end),
    "only-status": _command(_p.accept, _p.exit_status(3), hangs=True),
    "only-eof": _command(_p.accept, _p.say(b"x\n"), _p.eof, hangs=True),
    "status-and-close": _command(_p.accept, _p.exit_status(3), _p.end, codes=(3,)),
    "status-first": _command(
        _p.accept, _p.exit_status(3), _p.say(b"x\n"), _p.eof, _p.end, codes=(3,)
    ),
    "two-statuses": _command(
        _p.accept, _p.exit_status(3), _p.exit_status(4), _p.eof, _p.end, codes=(3, 4)
    ),
    "status-twice": _command(*_p.ok(code=3), *_p.ok(code=3), codes=(3, 255)),
    "status-minus-one": _command(
        _p.accept, _p.eof, _p.exit_status(0xFFFFFFFF), _p.end, codes=(255, 0xFFFFFFFF)
    ),
    "odd-signal": _command(
        _p.accept, _p.eof, _p.exit_signal("SIG\x1b[31m@home"), _p.end, codes=(128,)
    ),
    "data-after-eof": _command(
        _p.accept, _p.eof, _p.say(b"x\n"), _p.exit_status(0), _p.end, codes=(0, 255)
    ),
    "data-after-close": _command(*_p.ok(), _p.say(b"x\n"), codes=(0, 255)),
    "data-before-answer": _command(
        _p.say(b"x\n"), _p.accept, _p.eof, _p.exit_status(0), _p.end, codes=(0,)
    ),
    "other-data": _command(
        _p.accept, _p.complain(b"x\n", 7), _p.eof, _p.exit_status(0), _p.end, codes=(0, 255)
    ),
    "other-channel": _command(_p.accept, _p.message(_p.CHANNEL_DATA, 4711, b"x"), hangs=True),
    "refused-after-all": _command(_p.accept, _p.say(b"x\n"), _p.refuse, _p.end),
    "granted-twice": _command(_p.accept, *_p.ok(), codes=(0,)),
    "no-window": _command(_p.accept, _p.eof, _p.exit_status(0), _p.end, codes=(0,))._replace(
        rules=_p.command(*_p.ok(), window=0)
    ),
    "open-failure-later": _command(
        _p.accept, _p.message(_p.CHANNEL_OPEN_FAILURE, 0, 1, "no", ""), hangs=True
    ),
    "many-windows": _command(
        *[_p.message(_p.WINDOW_ADJUST, 0, 0xFFFFFFFF)] * 3, *_p.ok(), codes=(0, 255)
    ),
    "floods": _command(_p.accept, _p.endless(_LINES), hangs=True),
    "breaks-off": _command(_p.accept, _p.say(_LINES), _p.break_off(_p.cut)),
    "says-goodbye": _command(_p.accept, _p.say(_LINES), _p.break_off(_p.goodbye)),
    "garbles": _command(_p.accept, _p.say(_LINES), _p.break_off(_p.garble)),
    "half-packet": _command(_p.accept, _p.break_off(_p.giant)),
    # These speak SFTP, for a while (filexfer-02, 3 and 4).
    "sftp-greets": _command(_p.accept, _p.say(_SFTP_VERSION), hangs=True),
    "sftp-leaves": _command(_p.accept, _p.say(_SFTP_VERSION), *_p.ok()[2:], codes=(0,)),
    "sftp-breaks-off": _command(_p.accept, _p.say(_SFTP_VERSION), _p.break_off(_p.cut)),
    "sftp-drivels": _command(_p.accept, _p.say(_SFTP_VERSION), _p.say(_LINES), hangs=True),
    "sftp-half-packet": _command(_p.accept, _p.say(_SFTP_VERSION[:6]), hangs=True),
    "sftp-giant-packet": _command(_p.accept, _p.say(b"\xff\xff\xff\xf4\x02"), hangs=True),
    "sftp-old": _command(_p.accept, _p.say(b"\0\0\0\x05\x02\0\0\0\x02"), hangs=True),
}


class Node(NamedTuple):
    """The outcomes that a node may have.

    Attributes:
        healthy: commands and copies succeed.
        killable: commands end when they are told to.
        hangs: only its timeout ends a command.
        codes: the return codes that a command may have; empty if it may also succeed.
        hangs_copies: only its timeout ends a copy.
    """

    healthy: bool = False
    killable: bool = False
    hangs: bool = False
    codes: tuple[int, ...] = (255,)
    hangs_copies: bool = False


#: Every node by its name.
NODES: dict[str, Node] = {
    **{
        f"{kind}{index}": Node(healthy=True, killable=kind in KILLABLE)
        for kind, count in HEALTHY.items()
        for index in range(1, count + 1)
    },
    **{f"cut{index}": Node(codes=()) for index in range(1, CUT + 1)},
    **{f"raw-{name}": Node() for name in RAW},
    # The server grants the command and then sends nothing: the command may run for ever.
    **{
        f"phase-{name}": Node(hangs=name == hanging, hangs_copies=name == hanging)
        for hanging in ["exec-request-success"]
        for name in PHASE
    },
    # They treat an SFTP session like a command, so that a copy never gets a proper answer.
    **{f"command-{n}": Node(False, False, m.hangs, m.codes, True) for n, m in COMMAND.items()},
    "refused": Node(),
    "dropped": Node(),
    "nowhere": Node(),
}


def server_for(name: str, key: object) -> faults.ScriptedServer:
    """The server of a faulty node, not yet started."""
    kind, _, what = name.partition("-")
    if kind == "raw":
        return faults.ScriptedServer(RAW[what])
    rules = PHASE[what] if kind == "phase" else COMMAND[what].rules
    return PhaseServer(rules, key=key)  # type: ignore[arg-type]
