"""Jump hosts: the decisions, each of them a pure function."""

from __future__ import annotations

import copy

import pytest

from pyclustershell.exceptions import ConnectError, HandshakeError
from pyclustershell.ssh.jumphosts import MEMORY, Refusal, choose, judge, next_of, seen_from

# -- the order of alternatives --


def test_the_users_order_as_long_as_none_has_failed() -> None:
    assert next_of(["b", "a"], {}, 0.0) == "b"


def test_those_that_failed_come_last_the_one_that_failed_first_before_the_others() -> None:
    failed = {"a": 20.0, "b": 10.0}
    assert next_of(["a", "b", "c"], failed, 30.0) == "c"
    assert next_of(["a", "b"], failed, 30.0) == "b"


def test_a_failure_is_forgotten() -> None:
    assert next_of(["a", "b"], {"a": 0.0}, MEMORY - 1) == "b"
    assert next_of(["a", "b"], {"a": 0.0}, MEMORY) == "a"


def test_the_one_with_the_least_load_comes_first() -> None:
    load = {"a": 3, "b": 1, "c": 1, "d": 0}.__getitem__
    assert next_of(["a", "b", "c", "d"], {"d": 5.0}, 10.0, load) == "b"
    assert next_of(["a", "d"], {"d": 5.0}, 10.0, load) == "a"
    assert next_of(["d"], {"d": 5.0}, 10.0, load) == "d"


# -- jump connections --


def test_one_gateway_carries_all_where_no_limit_is_known() -> None:
    assert choose([], None) is None
    assert choose([1000], None) == 0


def test_another_gateway_where_all_are_full() -> None:
    assert choose([10, 9], 10) == 1
    assert choose([10, 10], 10) is None


@pytest.mark.parametrize(
    ("code", "reason", "others", "first", "verdict"),
    [
        (2, "Connection refused", 5, False, Refusal.TARGET),
        (2, "Connection timed out", 0, False, Refusal.TARGET),
        (4, "too many channels", 5, False, Refusal.SHORTAGE),
        (1, "open failed", 5, False, Refusal.SHORTAGE),
        (2, "open failed", 5, False, Refusal.SHORTAGE),
        (1, "open failed", 0, False, Refusal.POLICY),
        (1, "open failed", 5, True, Refusal.POLICY),
        (3, "unknown channel type", 5, False, Refusal.POLICY),
    ],
)
def test_whose_trouble_a_refusal_is(
    code: int, reason: str, others: int, first: bool, verdict: Refusal
) -> None:
    assert judge(code, reason, others, first) is verdict


# -- failures --


def test_a_jump_hosts_failure_as_its_nodes_see_it() -> None:
    error = ConnectError("gate", "Connection refused", "ssh: connect to host gate port 22: refused")
    seen = seen_from("node1", error)
    assert isinstance(seen, ConnectError)
    assert (seen.node, seen.phase, seen.jump_host) == ("node1", "connect", "gate")
    assert seen.cause == "jump host gate: Connection refused"
    assert seen.sentence == "jump host gate: ssh: connect to host gate port 22: refused"


def test_behind_two_jump_hosts_the_one_that_failed_is_named() -> None:
    inner = seen_from("inner", HandshakeError("outer", "Connection closed"))
    seen = seen_from("node1", inner)
    assert (seen.jump_host, seen.cause) == ("outer", "jump host outer: Connection closed")


def test_a_copy_knows_the_jump_host() -> None:
    seen = seen_from("node1", ConnectError("gate", "Connection refused"))
    other = copy.copy(seen)
    assert (other.node, other.jump_host, other.cause) == (seen.node, seen.jump_host, seen.cause)
