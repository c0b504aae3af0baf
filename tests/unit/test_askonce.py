"""AskOnce: the function is called once, and one node tries its answer before the others."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyclustershell import AskOnce, EventHandler
from pyclustershell.ssh.config.askonce import AnswerState
from pyclustershell.task import Task
from tests.helpers.tasks import fresh_task
from tests.servers.passwords import PASSWORD, PasswordServer

# More than there are threads that may wait for a user.
MANY = 60
NODES = f"node[1-{MANY}]"


def test_the_function_is_called_once_whoever_comes() -> None:
    asked: list[str] = []

    def ask(node: str) -> str:
        asked.append(node)
        return f"for {node}"

    once = AskOnce(ask)
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(once, [f"node{n}" for n in range(40)]))
    assert answers == {f"for {asked[0]}"}
    assert len(asked) == 1
    once.forget()
    once("node9")
    assert asked[1:] == ["node9"]


def test_other_questions_are_asked_anew() -> None:
    asked: list[tuple[Any, ...]] = []
    once = AskOnce(lambda *request: asked.append(request) or [str(len(asked))])
    code, token = (("Code: ", False),), (("Token: ", True),)
    assert once("node1", "t", "i", code) == ["1"]
    assert once("node2", "t", "i", code) == ["1"]
    assert once("node3", "t", "i", token) == ["2"]
    assert once("node4", "t", "other", code) == ["3"]
    assert [request[0] for request in asked] == ["node1", "node3", "node4"]


def test_what_the_function_raises_is_final() -> None:
    asked: list[str] = []

    def ask(node: str) -> str:
        asked.append(node)
        raise EOFError

    once = AskOnce(ask)
    for node in ("node1", "node2"):
        with pytest.raises(EOFError):
            once(node)
    assert asked == ["node1"]


def test_only_functions() -> None:
    with pytest.raises(TypeError, match="AskOnce takes a function, not a str"):
        AskOnce("geheim")  # type: ignore[arg-type]
    assert repr(AskOnce(test_only_functions)) == "<AskOnce test_only_functions>"


def test_turns() -> None:
    once, woken = AskOnce(lambda _node: "x"), []

    def wake(name: str) -> Any:
        return lambda: woken.append(name)

    assert once.claim("a", wake("a")) is AnswerState.UNTRIED
    assert once.claim("b", wake("b")) is AnswerState.ON_TRIAL
    assert once.claim("c", wake("c")) is AnswerState.ON_TRIAL
    once.report(None)  # a's connection has ended
    assert woken == ["b", "c"]
    assert once.claim("b", wake("b")) is AnswerState.UNTRIED
    assert once.claim("c", wake("c")) is AnswerState.ON_TRIAL
    once.report(False)
    assert once.claim("c", wake("c")) is AnswerState.REFUSED
    assert once.first_node == "b"
    once.forget()
    assert once.claim("c", wake("c")) is AnswerState.UNTRIED
    once.report(True)
    assert once.claim("a", wake("a")) is AnswerState.ACCEPTED


# -- in a run --------------------------------------------------------------------------------------


@pytest.fixture
def task() -> Iterator[Task]:
    # Not a look for leaks: the servers are threads of this process.
    with fresh_task() as task:
        task.set_info("fanout", MANY)
        yield task


@pytest.fixture(params=["password", "keyboard-interactive"])
def server(request: pytest.FixtureRequest) -> Iterator[PasswordServer]:
    with PasswordServer([request.param]) as server:
        yield server


def way_in(server: PasswordServer, ask: Any) -> dict[str, Any]:
    """The option that takes the function, by the server's method."""
    if server.methods == ["password"]:
        return server.options(password=AskOnce(ask), auth_timeout=50)
    return server.options(
        keyboard_interactive=AskOnce(lambda node, *_: [ask(node)]), auth_timeout=50
    )


def test_a_right_answer_is_for_all_nodes(server: PasswordServer, task: Task) -> None:
    asked: list[str] = []

    def ask(node: str) -> str:
        asked.append(node)
        return PASSWORD

    task.configure_ssh(**way_in(server, ask))
    for _ in range(2):
        task.run("x", nodes=NODES, timeout=50)
        assert list(task.iter_failures()) == []
        assert len(asked) == 1
        task.close()
    assert server.attempts == [("somebody", PASSWORD)] * 2 * MANY
    task.close()


def test_a_wrong_answer_is_tried_on_one_node_only(server: PasswordServer, task: Task) -> None:
    options = way_in(server, lambda _node: "wrong")
    task.configure_ssh(**options)
    task.run("x", nodes=NODES, timeout=50)
    causes = {failure.cause: len(nodes) for failure, nodes in task.iter_failures()}
    denied = f"Permission denied ({server.methods[0]})"
    assert causes.pop(denied) == 1
    ((held_back, count),) = causes.items()
    assert re.fullmatch(
        r".*, and the answer that node\d+ refused is not sent to other nodes", held_back
    )
    assert count == MANY - 1
    assert server.attempts == [("somebody", "wrong")]
    # The user is asked again when the program says so.
    server.password = "wrong"
    task.run("x", nodes=NODES, timeout=50)
    assert sum(len(nodes) for _, nodes in task.iter_failures()) == MANY
    (options.get("password") or options["keyboard_interactive"]).forget()
    task.run("x", nodes=NODES, timeout=50)
    assert list(task.iter_failures()) == []
    task.close()


def test_a_node_that_never_hears_leaves_the_trial_to_the_next(task: Task) -> None:
    with PasswordServer(["password"]) as server:
        too_late = threading.Event()

        def ask(_node: str) -> str:
            too_late.wait(10)  # the first node's time is over by then
            return PASSWORD

        class Next(EventHandler):
            def ev_hup(self, worker: Any, node: str, rc: int) -> None:
                too_late.set()
                task.shell("x", nodes="node[2-9]")

        task.configure_ssh(**server.options(password=AskOnce(ask), auth_timeout=40))
        task.configure_ssh("node1", auth_timeout=0.3, connect_timeout=2)
        task.shell("x", nodes="node1", handler=Next())
        task.resume()
        ((failure, nodes),) = task.iter_failures()
        assert (failure.cause, nodes) == ("Authentication timed out", ["node1"])
        assert [rc for rc, nodes in task.iter_retcodes() if len(nodes) == 8] == [0]
        task.close()


def test_several_questions(task: Task) -> None:
    asked: list[str] = []

    def ask(_node: str, _title: str, _text: str, prompts: Any) -> list[str]:
        asked.append(prompts[0][0])
        return [PASSWORD]

    with PasswordServer(["keyboard-interactive"], prompts=["Password: ", "Again: "]) as server:
        task.configure_ssh(**server.options(keyboard_interactive=AskOnce(ask), auth_timeout=50))
        task.run("x", nodes=NODES, timeout=50)
        assert list(task.iter_failures()) == []
        assert asked == ["Password: ", "Again: "]
        task.close()
