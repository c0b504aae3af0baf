"""Hostile servers with excessive messages: the node fails, and its error says why."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell.exceptions import AuthenticationError, ConnectionLostError, NodeError
from pyclustershell.ssh.protocol.limits import (
    MAX_EXTENSIONS,
    MAX_INFLATED_SIZE,
    MAX_QUESTIONS,
    MAX_QUESTIONS_SIZE,
    MAX_ROUNDS,
    Inflater,
)
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import Logins, Peer, PhaseServer, Rule

EXT_INFO = 7
USERAUTH_FAILURE = 51
INFO_REQUEST = 60
INFO_RESPONSE = 61

# The largest count in four bytes.
ENDLESS = 0xFFFFFFFF


class Answers:
    """Answers questions, and counts the requests."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(
        self, node: str, title: str, instruction: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        self.asked.append(len(prompts))
        return ["42"] * len(prompts)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def task(answers: Answers) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(
            user="me",
            agent=False,
            config_files=[],
            connect_retries=0,
            keyboard_interactive=answers,
        )
        yield task


def run(task: Task, server: PhaseServer) -> None:
    task.configure_ssh(
        hostname=server.address[0], port=server.port, known_hosts=[server.known_host]
    )
    task.run("true", nodes="node")


def fail(task: Task, rules: dict[int, Rule], **options: Any) -> NodeError:
    """The failure of the node."""
    with PhaseServer(rules, **options) as server:
        run(task, server)
    [(failure, _nodes)] = task.iter_failures()
    assert task.node_retcode("node") == 255
    return failure


# -- questions --


def ask(count: int, *texts: object) -> Rule:
    """Send a request with some questions, or one that only claims to have them."""

    def rule(peer: Peer, payload: bytes) -> bool:
        if b"keyboard-interactive" not in payload:
            return True
        peer.say(INFO_REQUEST, "title", "instruction", "", count, *texts)
        return False

    return rule


def test_questions_without_end_are_not_even_read(task: Task, answers: Answers) -> None:
    failure = fail(task, {phases.USERAUTH_REQUEST: ask(ENDLESS)})
    assert isinstance(failure, AuthenticationError)
    assert failure.cause == f"The server asks {ENDLESS} questions at once, more than 100"
    assert answers.asked == []


def test_questions_that_are_too_long(task: Task, answers: Answers) -> None:
    question = "?" * MAX_QUESTIONS_SIZE
    failure = fail(task, {phases.USERAUTH_REQUEST: ask(1, question, False)})
    assert isinstance(failure, AuthenticationError)
    assert failure.cause.startswith("The server's questions have 65")
    assert answers.asked == []


def test_rounds_without_end(task: Task, answers: Answers) -> None:
    def again(peer: Peer, payload: bytes) -> bool:
        peer.say(INFO_REQUEST, "", "", "", 1, "And now? ", True)
        return False

    first = ask(1, "Code: ", False)
    failure = fail(task, {phases.USERAUTH_REQUEST: first, INFO_RESPONSE: again})
    assert isinstance(failure, AuthenticationError)
    assert failure.cause == f"The server asks more than {MAX_ROUNDS} times for answers"
    assert answers.asked == [1] * MAX_ROUNDS


def test_as_much_as_is_allowed_is_answered(task: Task, answers: Answers) -> None:
    rounds = 0

    def again(peer: Peer, payload: bytes) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == MAX_ROUNDS:
            return True
        peer.say(INFO_REQUEST, "", "", "", 0)
        return False

    first = ask(MAX_QUESTIONS, *["?", True] * MAX_QUESTIONS)
    rules = {phases.USERAUTH_REQUEST: first, INFO_RESPONSE: again}
    with PhaseServer(rules, logins=Logins(interactive=True)) as server:
        run(task, server)
    # paramiko's server has not seen the request, and refuses the last answer.
    assert rounds == MAX_ROUNDS
    assert answers.asked == [MAX_QUESTIONS]  # no question, nobody to ask


def test_methods_that_no_terminal_should_see(task: Task) -> None:
    def refuse(peer: Peer, payload: bytes) -> None:
        peer.say(USERAUTH_FAILURE, "publickey,\x1b]0;title\x07", False)

    failure = fail(task, {phases.USERAUTH_REQUEST: refuse})
    assert failure.cause == "Permission denied (publickey,^[]0;title^G)"
    assert failure.sentence.isprintable()


# -- extensions --


def test_extensions_without_end(task: Task) -> None:
    failure = fail(task, {phases.SERVICE_REQUEST: phases.first(EXT_INFO, ENDLESS)})
    assert isinstance(failure, AuthenticationError)
    assert failure.cause == f"The server announces {ENDLESS} extensions, more than {MAX_EXTENSIONS}"


# -- compression --


def compress(*names: str) -> Any:
    """Make a server offer only this."""

    def offer(transport: paramiko.Transport) -> None:
        transport._preferred_compression = names  # type: ignore[attr-defined]

    return offer


BOMB = bytes(64 << 20)


def test_a_packet_that_inflates_fails_its_node(task: Task) -> None:
    task.configure_ssh(compression=True, password="secret")
    failure = fail(
        task,
        phases.command(phases.accept, phases.say(BOMB)),
        offer=compress("zlib@openssh.com"),
    )
    assert isinstance(failure, ConnectionLostError)
    reason = f"a packet has more than {MAX_INFLATED_SIZE} bytes when it is decompressed"
    assert failure.cause == f"Connection lost: {reason}"
    assert reason in failure.sentence


def test_a_packet_that_inflates_before_anybody_has_logged_in(task: Task) -> None:
    task.configure_ssh(compression=True)
    failure = fail(
        task,
        {phases.SERVICE_REQUEST: phases.first(phases.IGNORE, BOMB)},
        offer=compress("zlib"),
    )
    assert isinstance(failure, AuthenticationError)
    assert failure.cause.startswith("a packet has more than")


def test_output_that_compresses_well_is_whole(task: Task) -> None:
    task.configure_ssh(compression=True, password="secret")
    line = b"x" * 32_000
    # Fewer bytes than the window: this server ignores it.
    steps = (phases.accept, *[phases.say(line + b"\n")] * 50, *phases.ok(b"end\n")[1:])
    with PhaseServer(phases.command(*steps), offer=compress("zlib@openssh.com")) as server:
        run(task, server)
    assert task.node_buffer("node") == b"\n".join([line] * 50 + [b"end"])


def test_what_is_too_large_is_not_kept() -> None:
    bomb = zlib.compress(BOMB)
    tracemalloc.start()
    try:
        with pytest.raises(paramiko.SSHException, match="when it is decompressed"):
            Inflater()(bomb)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_INFLATED_SIZE


def test_the_largest_packet_is_taken_and_the_next_one_too() -> None:
    deflate = zlib.compressobj()
    inflate = Inflater()
    for contents in (bytes(MAX_INFLATED_SIZE), b"after"):
        packet = deflate.compress(contents) + deflate.flush(zlib.Z_SYNC_FLUSH)
        assert inflate(packet) == contents
    with pytest.raises(paramiko.SSHException, match="cannot be decompressed"):
        Inflater()(b"no zlib")


def test_a_message_of_paramiko_has_no_end() -> None:
    # The reason for these limits: paramiko reads zeros after a message's end.
    message = Message(b"")
    assert [message.get_int() for _ in range(3)] == [0, 0, 0]
