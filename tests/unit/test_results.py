"""Results as values: the mapping, its folds, its error, its forms for JSON and pickle."""

from __future__ import annotations

import doctest
import json
import pickle
from typing import Any

import pytest

from pyclustershell import NodeSet, exceptions, results
from pyclustershell.exceptions import (
    AuthenticationError,
    ConnectError,
    CopyError,
    HandshakeError,
    NodeError,
    NodesFailedError,
    PyClusterShellError,
    TaskError,
)
from pyclustershell.phases import CONNECTING, WAITING, LoginSeconds, LoginTimes
from pyclustershell.results import NodeResult, Results


def refused(node: str) -> NodeResult:
    error = ConnectError(node, "Connection refused", f"ssh: connect to host {node}: refused")
    return NodeResult(node, 255, b"", error.encoded_sentence, error, waiting=0.5)


RESULTS = Results(
    [
        NodeResult("n1", 0, b"Linux", started=1e9, running=0.25),
        NodeResult("n2", 0, b"Linux", started=1e9),
        NodeResult("n3", 0, b"BSD", started=1e9),
        NodeResult("n4", 3, b"caf\xe9", b"oops", started=1e9),
        refused("n5"),
        refused("n6"),
        NodeResult("n7", stdout=b"Linux", timed_out=True, started=1e9),
        NodeResult("n8", timed_out=True),
        NodeResult("n9", aborted=True, started=1e9),
        NodeResult("n10", aborted=True),
    ]
)


def test_the_example() -> None:
    assert doctest.testmod(results).failed == 0


# -- one node --


def test_a_record_does_not_change() -> None:
    result = RESULTS["n1"]
    with pytest.raises(AttributeError):
        result.rc = 1
    with pytest.raises(AttributeError):
        result.other = 1
    assert repr(result) == "<NodeResult of n1: ok, 5 bytes>"
    assert repr(RESULTS["n5"]) == "<NodeResult of n5: Connection refused, 0 bytes>"


@pytest.mark.parametrize(
    ("node", "cause"),
    [
        ("n1", None),
        ("n4", "exit status 3"),
        ("n5", "Connection refused"),
        ("n7", "timed out"),
        ("n9", "aborted"),
        ("n10", "aborted before its start"),
    ],
)
def test_the_cause(node: str, cause: Any) -> None:
    assert RESULTS[node].cause == cause
    assert RESULTS[node].ok is (cause is None)


def test_text_is_decoded_on_request() -> None:
    assert RESULTS["n4"].text == "caf�"
    assert RESULTS["n4"].error_text == "oops"


def test_a_streams_end_without_a_return_code_is_ok() -> None:
    assert NodeResult("key", None, started=1e9).ok


# -- the mapping --


def test_it_is_a_mapping() -> None:
    assert list(RESULTS) == [f"n{number}" for number in range(1, 11)]
    assert len(RESULTS) == 10
    assert "n1" in RESULTS
    assert "n11" not in RESULTS
    assert RESULTS.get("n11") is None
    assert dict(RESULTS.items())["n3"].stdout == b"BSD"
    assert repr(RESULTS) == "<Results of 10 nodes: 3 ok, 7 failed>"
    with pytest.raises(TypeError):
        RESULTS["n1"] = RESULTS["n2"]


def test_a_node_that_is_not_there_names_the_near_one() -> None:
    with pytest.raises(KeyError, match=r"no result of 'n11', only of 10 other nodes: did you mean"):
        RESULTS["n11"]
    with pytest.raises(KeyError, match=r"no result of 5, only of 0 other nodes'$"):
        Results()[5]


def test_node_sets() -> None:
    assert RESULTS.ok == NodeSet("n[1-3]")
    assert RESULTS.failed == NodeSet("n[4-10]")
    assert RESULTS.timed_out == NodeSet("n[7-8]")
    assert RESULTS.unreached == NodeSet("n[5-6,8,10]")
    assert RESULTS.nodes(lambda result: result.running > 0) == NodeSet("n1")
    assert Results().ok == NodeSet()


def test_gathered_has_the_most_common_output_first() -> None:
    assert RESULTS.gathered() == [
        ("Linux", NodeSet("n[1-2,7]")),
        ("BSD", NodeSet("n3")),
        ("caf�", NodeSet("n4")),
        ("", NodeSet("n9")),
    ]
    assert dict(RESULTS.gathered("stderr"))["oops"] == NodeSet("n4")
    with pytest.raises(ValueError, match="no output 'stdin'"):
        RESULTS.gathered("stdin")


def test_failures_are_folded_by_their_causes() -> None:
    assert RESULTS.failures() == [
        ("Connection refused", NodeSet("n[5-6]")),
        ("timed out", NodeSet("n[7-8]")),
        ("exit status 3", NodeSet("n4")),
        ("aborted", NodeSet("n9")),
        ("aborted before its start", NodeSet("n10")),
    ]


def test_check_raises_one_error_for_all() -> None:
    with pytest.raises(NodesFailedError) as caught:
        RESULTS.check()
    assert caught.value.results is RESULTS
    assert str(caught.value) == (
        "7 of 10 nodes failed: Connection refused (n[5-6]); timed out (n[7-8]); exit status 3 (n4);"
        " aborted (n9); aborted before its start (n10)"
    )
    good = Results([RESULTS["n1"]])
    assert good.check() is good


def test_check_refuses_nodes_that_have_not_ended() -> None:
    partial = Results([RESULTS["n1"]], outstanding=2)
    assert repr(partial) == "<Results of 3 nodes: 1 ok, 0 failed, 2 not ended>"
    for found in (partial, sent(partial)):
        assert (found.outstanding, list(found)) == (2, ["n1"])
        with pytest.raises(
            TaskError, match=r"^2 of 3 nodes have not ended: call resume\(\) or join"
        ):
            found.check()


def test_the_message_of_many_nodes_and_causes_is_short() -> None:
    many = Results(NodeResult(f"n{2 * number}", 1 + number % 100) for number in range(10000))
    with pytest.raises(NodesFailedError, match=r", 100 nodes\); .* and 95 other causes$") as caught:
        many.check()
    assert len(str(caught.value)) < 1000


def test_results_of_one_node_are_joined() -> None:
    failure = RESULTS["n5"].failure
    joined = Results(
        [
            NodeResult("n1", 0, b"one", started=5.0, running=1.0),
            NodeResult("n1", 3, b"two", failure=failure, started=4.0, running=2.0, waiting=1.0),
            NodeResult("n1", None, timed_out=True),
        ]
    )
    assert joined["n1"] == NodeResult(
        "n1", 3, b"one\ntwo", b"", failure, True, False, 4.0, waiting=1.0, running=3.0
    )


# -- other forms --


def test_dictionaries_are_ready_for_json() -> None:
    found = json.loads(json.dumps(RESULTS.to_dicts()))
    assert found[0] == {
        "node": "n1",
        "rc": 0,
        "stdout": "Linux",
        "stderr": "",
        "failure": None,
        "timed_out": False,
        "aborted": False,
        "started": 1e9,
        "waiting": 0.0,
        "resolving": 0.0,
        "connecting": 0.0,
        "key_exchange": 0.0,
        "authenticating": 0.0,
        "opening": 0.0,
        "running": 0.25,
        "ok": True,
        "cause": None,
        "phase": None,
    }
    assert found[3]["stdout"] == "caf�"
    assert found[4]["failure"] == "ssh: connect to host n5: refused"
    assert (found[4]["cause"], found[4]["phase"]) == ("Connection refused", "connect")


def test_dictionaries_have_no_surrogates() -> None:
    error = CopyError("n1", "no \udce9", "no such file: \udce9")
    (found,) = Results([NodeResult("n1", 1, failure=error)]).to_dicts()
    json.dumps(found, ensure_ascii=False).encode()
    assert found["failure"] == "no such file: �"


def test_keys_of_local_commands_may_be_any_objects() -> None:
    results = Results([NodeResult(("a", 1), 1), NodeResult(7, 0)])
    assert results["a", 1].rc == 1
    assert [found["node"] for found in results.to_dicts()] == ["('a', 1)", 7]
    assert results.ok == NodeSet("7")


def sent(thing: Any) -> Any:
    """The copy that another process would get."""
    return pickle.loads(pickle.dumps(thing))  # noqa: S301


def node_errors() -> list[type[NodeError]]:
    found = [it for it in vars(exceptions).values() if isinstance(it, type)]
    return [it for it in found if issubclass(it, NodeError)]


@pytest.mark.parametrize("kind", node_errors(), ids=lambda kind: kind.__name__)
def test_failures_of_every_kind_cross_processes(kind: type[NodeError]) -> None:
    error = kind("n1", "cause", "sentence")
    error.jump_host = "gate"
    before = Results([NodeResult("n1", 255, failure=error)])
    after = sent(before)["n1"].failure
    assert type(after) is kind
    assert (after.node, after.cause, str(after)) == ("n1", "cause", "sentence")
    assert after.phase == kind.phase
    assert repr(after) == repr(error)
    assert after.jump_host == "gate"
    assert (after, hash(after)) == (error, hash(error))
    assert sent(before) == before
    # Each part counts.
    others = [
        kind("n2", "cause", "sentence"),
        kind("n1", "x", "sentence"),
        kind("n1", "cause", "x"),
    ]
    for other in others:
        other.jump_host = "gate"
        assert other != error
    assert kind("n1", "cause", "sentence") != error
    assert error != "sentence"


def test_failures_of_different_kinds_and_files_differ() -> None:
    assert ConnectError("n1", "cause") != AuthenticationError("n1", "cause")
    assert CopyError("n1", "cause", path="a") != CopyError("n1", "cause", path="b")
    assert CopyError("n1", "cause", path="a", status=4) == CopyError("n1", "cause", None, "a", 4)


def test_results_and_their_error_cross_processes() -> None:
    after = sent(RESULTS)
    assert list(after) == list(RESULTS)
    assert after["n4"] == RESULTS["n4"]
    assert after.failures() == RESULTS.failures()
    with pytest.raises(NodesFailedError) as caught:
        RESULTS.check()
    error = sent(caught.value)
    assert str(error) == str(caught.value)
    assert error.results.failures() == RESULTS.failures()
    assert isinstance(error, PyClusterShellError)


# -- the stopwatch of a login --


def test_the_phases_of_a_login_are_disjoint() -> None:
    times = LoginTimes()
    for phase, now in enumerate((10.0, 11.0, 13.0, 16.0, 20.0)):
        times.enter(phase, now)
    times.enter(WAITING, 25.0)
    times.succeed(31.0)
    times.enter(None, 99.0)
    assert times.seconds() == LoginSeconds(7.0, 2.0, 3.0, 4.0, 5.0)
    assert times.complete


def test_a_login_that_fails_is_not_complete() -> None:
    times = LoginTimes()
    times.enter(CONNECTING, 1.0)
    times.enter(None, 3.0)
    assert times.seconds() == LoginSeconds(connecting=2.0)
    assert not times.complete


def test_transient_handshake_errors_stay_transient() -> None:
    error = HandshakeError("n1", "cause")
    error.transient = True
    assert sent(error).transient
    assert AuthenticationError("n1", "cause").phase == "authentication"
