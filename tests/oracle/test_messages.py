"""Each message of a server at each moment: ``ssh`` is the oracle.

A scripted server says one more message than it should. ssh(1) goes on, or gives up the connection,
and the library must do the same, with the same output. Where it is stricter, the table names the
reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tasks import connect_to, fresh_task
from tests.servers import phases, processes
from tests.servers.leaks import no_leaks
from tests.servers.phases import Peer, PhaseServer, Rule, Step
from tests.servers.processes import node_path
from tests.servers.sshd import make_key

pytestmark = pytest.mark.needs("ssh")

CHANNEL = object()
"""Stands for the client's number of its channel."""

# The name of each message, its number (RFC 4250 section 4.1.2) and its fields.
MESSAGES: dict[str, tuple[int, tuple[Any, ...]]] = {
    "ignore": (phases.IGNORE, ("x",)),
    "unimplemented": (3, (0,)),
    "debug": (4, (False, "text", "")),
    "service request": (phases.SERVICE_REQUEST, ("ssh-userauth",)),
    "service accept": (6, ("ssh-userauth",)),
    "extensions": (7, (0,)),
    "key exchange reply": (31, ("", "", "")),
    "new keys": (phases.NEWKEYS, ()),
    "login failure": (51, ("publickey", False)),
    "login success": (52, ()),
    "banner": (53, ("text\n", "")),
    "global request": (phases.GLOBAL_REQUEST, ("unknown@example.org", False)),
    "global request to answer": (phases.GLOBAL_REQUEST, ("unknown@example.org", True)),
    "request success": (81, ()),
    "request failure": (82, ()),
    "channel open": (phases.CHANNEL_OPEN, ("unknown@example.org", 7, 1 << 20, 1 << 15)),
    "confirmation": (phases.CHANNEL_OPEN_CONFIRMATION, (CHANNEL, 0, 1 << 20, 1 << 15)),
    "refusal": (phases.CHANNEL_OPEN_FAILURE, (CHANNEL, 1, "no", "")),
    "window": (phases.WINDOW_ADJUST, (CHANNEL, 100)),
    "window of no channel": (phases.WINDOW_ADJUST, (77, 100)),
    "data": (phases.CHANNEL_DATA, (CHANNEL, "more\n")),
    "data of no channel": (phases.CHANNEL_DATA, (77, "more\n")),
    "stderr": (phases.CHANNEL_EXTENDED_DATA, (CHANNEL, 1, "more\n")),
    "end of data": (phases.CHANNEL_EOF, (CHANNEL,)),
    "close": (phases.CHANNEL_CLOSE, (CHANNEL,)),
    "request": (phases.CHANNEL_REQUEST, (CHANNEL, "unknown@example.org", False)),
    "request to answer": (phases.CHANNEL_REQUEST, (CHANNEL, "unknown@example.org", True)),
    "success": (phases.CHANNEL_SUCCESS, (CHANNEL,)),
    "failure": (phases.CHANNEL_FAILURE, (CHANNEL,)),
    "unknown message": (192, ()),
}


def extra(name: str) -> Step:
    """Say a message."""
    number, fields = MESSAGES[name]

    def step(peer: Peer) -> None:
        peer.say(number, *(peer.channel if field is CHANNEL else field for field in fields))

    return step


def before(number: int, step: Step) -> dict[int, Rule]:
    """Rules of a server that takes the step before it handles a client's message."""
    rules: dict[int, Rule] = {**phases.command(*phases.ok())}
    handle = rules.get(number)
    taken = False

    def rule(peer: Peer, payload: bytes) -> Any:
        nonlocal taken
        if not taken:
            taken = True
            step(peer)
        return handle(peer, payload) if handle else True

    return {**rules, number: rule}


def rules_of(moment: str, step: Step) -> dict[int, Rule]:
    """Rules of a server that takes the step at this moment."""
    accept, output, eof, status, close = phases.ok()
    if moment == "running":
        return phases.command(accept, step, output, eof, status, close)
    if moment == "ending":
        return phases.command(accept, output, eof, step, status, close)
    return before(MOMENTS[moment], step)


# Before the server handles this message of the client; 0: see rules_of().
MOMENTS = {
    "key exchange": phases.KEX_INIT,
    "service": phases.SERVICE_REQUEST,
    "login": phases.USERAUTH_REQUEST,
    "channel": phases.CHANNEL_OPEN,
    "command": phases.CHANNEL_REQUEST,
    "running": 0,
    "ending": 0,
}

_NOT_OPEN = "nothing belongs to a channel that is not open"
_NO_CHANNEL = "nothing belongs to a channel that never was"
_ENDED = "data does not come after its end"
_NOT_ASKED = "an answer belongs to a request"
STRICTER = {
    **{
        ("channel", name): _NOT_OPEN
        for name in ("window", "data", "stderr", "end of data", "request", "success", "failure")
    },
    **{(moment, "window of no channel"): _NO_CHANNEL for moment in list(MOMENTS)[3:]},
    ("command", "end of data"): _ENDED,
    ("running", "end of data"): _ENDED,
    ("ending", "data"): _ENDED,
    ("command", "success"): _NOT_ASKED,
    **{
        (moment, name): _NOT_ASKED
        for moment in ("running", "ending")
        for name in ("success", "failure")
    },
}
"""We end the connection, ssh goes on; with the reason."""

ALLOWED = {("login", "extensions"): "RFC 8308 section 2.4: they may come until the login succeeds"}
"""We go on, ssh ends the connection; with the reason."""

# ssh's end is a matter of chance after "close", and of its version after "new keys".
_LEFT_OUT = {
    *((moment, "close") for moment in ("command", "running", "ending")),
    *((moment, "new keys") for moment in ("channel", "command", "running", "ending")),
}
# In a key exchange every message but the next one is refused: some of them are enough.
_IN_KEY_EXCHANGE = list(MESSAGES)[::3]

CASES = [
    (moment, name)
    for moment in MOMENTS
    for name in (_IN_KEY_EXCHANGE if moment == "key exchange" else MESSAGES)
    if (moment, name) not in _LEFT_OUT
]

FAILS = "the connection ends"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the servers accept every key."""
    path = tmp_path_factory.mktemp("keys") / "key"
    make_key(path)
    return path


def of_ssh(server: PhaseServer, key: Path, known_hosts: Path) -> str:
    """Return what ssh prints, or FAILS."""
    known_hosts.write_text(server.known_host + "\n")
    options = {
        "IdentityFile": node_path(key),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": node_path(known_hosts),
        "BatchMode": "yes",
        "LogLevel": "QUIET",
    }
    arguments = [f"-o{name}={value}" for name, value in options.items()]
    port = ("-p", str(server.port))
    done = processes.run(
        "ssh", "-F", "/dev/null", *arguments, *port, "me@127.0.0.1", "true", check=False, timeout=50
    )
    return done.stdout if done.returncode == 0 else FAILS


def of_library(server: PhaseServer, key: Path) -> str:
    """Return what the library's command prints, or FAILS."""
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", agent=False, config_files=[], connect_retries=0, pkeys=[key])
        connect_to(task, server.address, server.known_host)
        task.run("true", nodes="node", timeout=50, stderr=True)
        assert task.num_timeout() == 0
        if task.max_retcode():
            return FAILS
        return f"{bytes(task.node_buffer('node')).decode()}\n"


@pytest.mark.parametrize(("moment", "name"), CASES)
def test_the_end_is_that_of_ssh(moment: str, name: str, key: Path, tmp_path: Path) -> None:
    with PhaseServer(rules_of(moment, extra(name))) as server:
        theirs = of_ssh(server, key, tmp_path / "known_hosts")
    with PhaseServer(rules_of(moment, extra(name))) as server:
        ours = of_library(server, key)
    if (moment, name) in STRICTER:
        assert theirs != FAILS, "remove the reason: ssh ends the connection as well"
        assert ours == FAILS
    elif (moment, name) in ALLOWED:
        assert theirs == FAILS, "remove the reason: ssh goes on as well"
        assert ours == "ok\n"
    else:
        assert ours == theirs
