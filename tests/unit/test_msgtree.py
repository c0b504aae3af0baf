"""MsgTree: lines in, equal messages together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyclustershell.msgtree import MODE_DEFER, MODE_SHIFT, MODE_TRACE, MsgTree, MsgTreeElem

MODES = pytest.mark.parametrize("mode", [MODE_DEFER, MODE_SHIFT, MODE_TRACE])
GATHERING_MODES = pytest.mark.parametrize("mode", [MODE_DEFER, MODE_SHIFT])


def make_tree(mode: int = MODE_DEFER) -> MsgTree:
    tree = MsgTree(mode)
    for key, text in [("a", b"1 2"), ("b", b"1 2"), ("c", b"1 3"), ("d", b"1")]:
        for line in text.split():
            tree.add(key, line)
    return tree


def gathered(tree: MsgTree) -> dict[bytes, list[str]]:
    return {bytes(message): keys for message, keys in tree.walk()}


@GATHERING_MODES
def test_equal_messages_come_out_together(mode: int) -> None:
    expected = {b"1\n2": ["a", "b"], b"1\n3": ["c"], b"1": ["d"]}
    assert gathered(make_tree(mode)) == expected


@GATHERING_MODES
def test_a_walk_is_depth_first_and_the_last_line_comes_first(mode: int) -> None:
    messages = [bytes(message) for message in make_tree(mode).messages()]
    assert messages == [b"1", b"1\n3", b"1\n2"]


@MODES
def test_lines_can_be_added_after_a_walk(mode: int) -> None:
    tree = make_tree(mode)
    assert list(tree.walk())
    tree.add("d", b"3")
    keys = {bytes(message): keys for message, keys in tree.walk()}
    assert keys[b"1\n3"] == ["c", "d"]


@MODES
def test_extend_is_add_for_many_lines(mode: int) -> None:
    one, two = MsgTree(mode), MsgTree(mode)
    for key, lines in [("a", [b"x", b"y"]), ("b", [b"x"]), ("a", [b"z"])]:
        two.extend(key, lines)
        for line in lines:
            one.add(key, line)
    assert gathered(one) == gathered(two)
    assert bytes(two["a"]) == b"x\ny\nz"


def test_extend_makes_a_key_known_even_without_lines() -> None:
    tree = MsgTree()
    tree.extend("a", [])
    assert (len(tree), bytes(tree["a"])) == (1, b"")


@MODES
def test_keys_and_messages_by_key(mode: int) -> None:
    tree = make_tree(mode)
    assert list(tree) == list(tree.keys()) == ["a", "b", "c", "d"]
    assert len(tree) == 4
    assert "a" in tree
    assert "x" not in tree
    assert bytes(tree["c"]) == b"1\n3"
    assert tree.get("x") is None
    assert tree.get("x", 5) == 5
    with pytest.raises(KeyError):
        tree["x"]
    assert [(key, bytes(message)) for key, message in tree.items()][2] == ("c", b"1\n3")


def test_match_chooses_keys_and_mapper_changes_them() -> None:
    tree = MsgTree()
    tree.extend(("worker1", "n1"), [b"x"])
    tree.extend(("worker1", "n2"), [b"x"])
    tree.extend(("worker2", "n1"), [b"x"])
    found = list(tree.walk(lambda key: key[0] == "worker1", lambda key: key[1]))
    assert [(bytes(message), keys) for message, keys in found] == [(b"x", ["n1", "n2"])]
    items = tree.items(lambda key: key[0] == "worker2", lambda key: key[1])
    assert [(key, bytes(message)) for key, message in items] == [("n1", b"x")]
    assert list(tree.messages(lambda key: key[0] == "worker3")) == []


def test_keys_that_are_false_are_keys_too() -> None:
    tree = MsgTree()
    tree.add(0, b"x")
    tree.add("", b"x")
    assert [keys for _, keys in tree.walk()] == [[0, ""]]


@MODES
def test_remove(mode: int) -> None:
    tree = make_tree(mode)
    tree.remove(lambda key: key in "ac")
    assert list(tree) == ["b", "d"]
    assert {bytes(message): keys for message, keys in tree.walk()} == {
        b"1": ["b", "d"] if mode == MODE_TRACE else ["d"],
        b"1\n2": ["b"],
    }
    tree.add("a", b"9")
    assert bytes(tree["a"]) == b"9"
    tree.remove()
    assert (len(tree), list(tree.walk())) == (0, [])


@MODES
def test_clear(mode: int) -> None:
    tree = make_tree(mode)
    tree.clear()
    assert (len(tree), list(tree.walk()), list(tree)) == (0, [], [])


def test_walk_trace_gives_every_line_with_its_keys_depth_and_number_of_children() -> None:
    assert list(make_tree(MODE_TRACE).walk_trace()) == [
        (b"1", ["a", "b", "c", "d"], 1, 2),
        (b"3", ["c"], 2, 0),
        (b"2", ["a", "b"], 2, 0),
    ]
    found = make_tree(MODE_TRACE).walk_trace(lambda key: key in "cd", str.upper)
    assert list(found) == [(b"1", ["C", "D"], 1, 2), (b"3", ["C"], 2, 0)]


@GATHERING_MODES
def test_walk_trace_needs_trace_mode(mode: int) -> None:
    with pytest.raises(ValueError, match="MODE_TRACE"):
        MsgTree(mode).walk_trace()


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="mode"):
        MsgTree(7)


def test_a_message_is_like_bytes() -> None:
    message = make_tree()["a"]
    assert isinstance(message, MsgTreeElem)
    assert message == b"1\n2"
    assert message == make_tree()["b"]
    assert message != b"1"
    assert message != 3
    assert hash(message) == hash(b"1\n2")
    assert len(message) == 3
    assert list(message) == list(message.lines()) == list(message.splitlines()) == [b"1", b"2"]
    assert (message[0], message[-1], message[:1]) == (b"1", b"2", [b"1"])
    assert message.message() == b"1\n2"
    assert repr(message) == "<MsgTreeElem 3 bytes b'1\\n2'>"
    with pytest.raises(TypeError, match="bytes"):
        str(message)


def test_a_message_stays_what_it_was_when_its_key_and_others_go_on() -> None:
    tree = MsgTree()
    tree.extend("a", [b"1", b"2"])
    tree.extend("b", [b"1"])
    before = [tree["a"], tree["b"]]
    lines = tree["a"].lines()
    tree.extend("a", [b"3"])
    tree.extend("b", [b"4"])
    assert [bytes(message) for message in before] == [b"1\n2", b"1"]
    assert list(lines) == [b"1", b"2"]
    assert gathered(tree) == {b"1\n2\n3": ["a"], b"1\n4": ["b"]}


def test_the_lines_that_were_given_stay_the_callers() -> None:
    tree = MsgTree()
    lines = [b"1"]
    tree.extend("a", lines)
    tree.add("a", b"2")
    lines.append(b"3")
    assert bytes(tree["a"]) == b"1\n2"


def test_bytes_that_are_no_text_and_empty_lines_stay_as_they_are() -> None:
    tree = MsgTree()
    tree.extend("a", [b"", b"\xff\r", b""])
    assert bytes(tree["a"]) == b"\n\xff\r\n"


def test_the_first_walk_ends_the_deferred_mode() -> None:
    tree = MsgTree()
    tree.add("a", b"x")
    list(tree.items())
    tree.remove(lambda key: key == "b")
    walk = tree.walk()
    assert tree.mode == MODE_DEFER
    next(walk)
    assert tree.mode == MODE_SHIFT
    tree.clear()
    assert tree.mode == MODE_SHIFT
    for mode in (MODE_SHIFT, MODE_TRACE):
        kept = MsgTree(mode)
        assert list(kept.messages()) == []
        assert kept.mode == mode


def test_an_element_without_lines() -> None:
    elem = MsgTreeElem()
    assert (bytes(elem), len(elem), list(elem)) == (b"", 0, [])
    assert elem == b""


def test_a_very_long_message_is_no_deep_recursion() -> None:
    tree = MsgTree()
    tree.extend("a", (b"%d" % number for number in range(100_000)))
    assert sum(1 for _ in tree["a"].lines()) == 100_000
    assert [len(message[-1]) for message in tree.messages()] == [5]
    tree.clear()


# What may be done to a tree: (what, key, lines). Few keys and lines, so that messages meet.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "extend", "look", "walk", "remove"]),
        st.integers(0, 3),
        st.lists(st.sampled_from([b"x", b"y"]), max_size=4),
    ),
    max_size=40,
)


@MODES
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(steps=STEPS)
def test_whatever_is_done_a_tree_holds_the_lines_of_each_key(
    mode: int, steps: list[tuple[str, int, list[bytes]]]
) -> None:
    tree = MsgTree(mode)
    model: dict[int, list[bytes]] = {}

    def check() -> None:
        assert {key: list(message) for key, message in tree.items()} == model
        if mode != MODE_TRACE:  # where each line is a message of its own
            walked = {tuple(message): keys for message, keys in tree.walk()}
            assert walked == {
                lines: [key for key in model if tuple(model[key]) == lines]
                for lines in map(tuple, model.values())
            }

    for what, key, lines in steps:
        if what == "remove":
            tree.remove(lambda known, key=key: known == key)  # type: ignore[misc]
            model.pop(key, None)
        elif what == "look":
            assert [list(tree[known]) for known in model] == list(model.values())
        elif what == "walk":
            check()
        elif what == "extend":
            tree.extend(key, lines)
            model.setdefault(key, []).extend(lines)
        else:
            for line in lines:
                tree.add(key, line)
                model.setdefault(key, []).append(line)
    check()
