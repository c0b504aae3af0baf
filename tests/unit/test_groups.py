"""Node groups: sources, resolvers, their configuration, and what node sets make of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pyclustershell.exceptions import (
    GroupResolverConfigError,
    GroupResolverSourceError,
    GroupSourceNoUpcall,
    GroupSourceQueryFailed,
    NodeSetExternalError,
    NodeSetParseError,
    PyClusterShellError,
)
from pyclustershell.local import shell
from pyclustershell.local.shell import MAX_OUTPUT, run_upcall
from pyclustershell.nodeset import (
    RESOLVER_NOGROUP,
    NodeSet,
    expand,
    fold,
    grouplist,
    set_std_group_resolver,
    set_std_group_resolver_config,
    std_group_resolver,
)
from pyclustershell.nodeset.groups import (
    GroupResolver,
    GroupResolverConfig,
    GroupSource,
    UpcallGroupSource,
    YAMLGroupLoader,
)
from pyclustershell.nodeset.groupsources import warn_once

posix_only = pytest.mark.posix_only("upcalls are written for a POSIX shell")


@pytest.fixture(autouse=True)
def _standard_resolver() -> Iterator[None]:
    warn_once.cache_clear()
    yield
    set_std_group_resolver(None)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def make_resolver() -> GroupResolver:
    source = GroupSource(
        "local",
        {
            "compute": "node[1-8]",
            "login": ["login1", "login2"],
            "odd": "node[1-7/2]",
            "all_of_it": "@compute,@login",
            "rack1": "node[1-4]",
            "rack2": "node[5-8]",
            "far": "@other:gpu",
        },
    )
    resolver = GroupResolver(source, illegal_chars="@,!&^*")
    resolver.add_source(GroupSource("other", {"gpu": "gpu[1-2]", "big": "@gpu,x1"}, "gpu[1-9],x1"))
    return resolver


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("@compute", "node[1-8]"),
        ("@login", "login[1-2]"),
        ("@all_of_it!@odd", "login[1-2],node[2,4,6,8]"),
        ("@rack[1-2]&node[3-6]", "node[3-6]"),
        ("@local:odd", "node[1,3,5,7]"),
        ("@other:gpu", "gpu[1-2]"),
        ("@far", "gpu[1-2]"),
        ("@other:big", "gpu[1-2],x1"),
        ("@*", "gpu[1-2],login[1-2],node[1-8]"),
        ("@other:*", "gpu[1-9],x1"),
        ("@@other", "big,gpu"),
        ("@nothing", ""),
        ("node*", "node[1-8]"),
        ("*1", "gpu1,login1,node1"),
        ("node?!node[2-3]", "node[1,4-8]"),
        ("?o*[1-2]", "login[1-2],node[1-2]"),
        ("x*", ""),
        ("@odd*", ""),
    ],
)
def test_groups_and_wildcards_in_patterns(pattern: str, expected: str) -> None:
    assert str(NodeSet(pattern, resolver=make_resolver())) == expected


def test_the_standard_resolver() -> None:
    resolver = make_resolver()
    set_std_group_resolver(resolver)
    assert std_group_resolver() is resolver
    assert fold("@compute") == "node[1-8]"
    assert expand("@login") == ["login1", "login2"]
    assert grouplist("other") == ["big", "gpu"]
    nodes = NodeSet("@odd")
    nodes.update("@login")
    assert "@login" in nodes
    set_std_group_resolver(None)
    assert std_group_resolver() is not resolver
    assert nodes.issuperset("@login")  # a set keeps the resolver that it was made with


def test_names_of_groups_with_ranges_are_expanded() -> None:
    resolver = GroupResolver(GroupSource("local", {"rack[1-3]": "n1", "a": "n2"}))
    assert grouplist(resolver=resolver) == ["a", "rack1", "rack2", "rack3"]


def test_fromall() -> None:
    assert str(NodeSet.fromall(resolver=make_resolver())) == "gpu[1-2],login[1-2],node[1-8]"
    assert str(NodeSet.fromall("other", resolver=make_resolver())) == "gpu[1-9],x1"
    with pytest.raises(NodeSetExternalError, match="resolver"):
        NodeSet.fromall(resolver=RESOLVER_NOGROUP)
    with pytest.raises(NodeSetExternalError, match="nowhere"):
        NodeSet.fromall("nowhere", resolver=make_resolver())


def test_groups_of_a_set() -> None:
    found = NodeSet("node[1-4],gpu1", resolver=make_resolver()).groups()
    assert {name: (str(all_of), str(here)) for name, (all_of, here) in found.items()} == {
        "@compute": ("node[1-8]", "node[1-4]"),
        "@odd": ("node[1,3,5,7]", "node[1,3]"),
        "@all_of_it": ("login[1-2],node[1-8]", "node[1-4]"),
        "@rack1": ("node[1-4]", "node[1-4]"),
        "@far": ("gpu[1-2]", "gpu1"),
    }
    nodes = NodeSet("gpu1", resolver=make_resolver())
    assert sorted(nodes.groups("other")) == ["@other:big", "@other:gpu"]
    assert sorted(nodes.groups("other", noprefix=True)) == ["@big", "@gpu"]
    with pytest.raises(NodeSetExternalError, match="resolver"):
        NodeSet("a", resolver=RESOLVER_NOGROUP).groups()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("node[1-8]", "@compute"),
        ("node[1-4]", "@rack1"),
        ("node[1-5],login[1-2]", "@login,@rack1,node5"),
        ("node[1-8],login[1-2]", "@all_of_it"),
        ("node9", "node9"),
        ("", ""),
    ],
)
def test_regroup(pattern: str, expected: str) -> None:
    assert NodeSet(pattern, resolver=make_resolver()).regroup() == expected


def test_regroup_with_options() -> None:
    nodes = NodeSet("node[1-5,7]", resolver=make_resolver())
    assert nodes.regroup() == "@odd,node[2,4]"
    assert nodes.regroup(overlap=True) == "@odd,@rack1"
    gpus = NodeSet("gpu[1-3]", resolver=make_resolver())
    assert gpus.regroup("other") == "@other:gpu,gpu3"
    assert gpus.regroup("other", noprefix=True) == "@gpu,gpu3"


# -- sources of all kinds --------------------------------------------------------------------------


class Reverse:
    """A user's own group source; it knows the groups of a node, but not all groups."""

    name = "mine"
    has_reverse = True

    def resolv_map(self, group: str) -> str:
        return {"a": "n[1-3]", "b": "n[3-5]"}.get(group, "")

    def resolv_list(self) -> str:
        raise GroupSourceNoUpcall("list", self)

    def resolv_all(self) -> str:
        raise GroupSourceNoUpcall("all", self)

    def resolv_reverse(self, node: str) -> str:
        return " ".join(group for group in "ab" if node in NodeSet(self.resolv_map(group)))


def test_a_source_of_the_users_own() -> None:
    resolver = GroupResolver(Reverse())  # type: ignore[arg-type]
    assert str(NodeSet("@a!@b", resolver=resolver)) == "n[1-2]"
    assert NodeSet("n[1-4]", resolver=resolver).regroup() == "@a,n4"
    with pytest.raises(NodeSetExternalError, match="neither all nodes"):
        NodeSet("@*", resolver=resolver)
    with pytest.raises(GroupSourceNoUpcall):
        grouplist(resolver=resolver)


@pytest.mark.parametrize(
    "answer", [5, True, None, 1.5, b"n1", {"n1": 1}, [5], ["n1", True], [None]]
)
def test_an_answer_that_is_no_text_is_an_error(answer: Any) -> None:
    class Odd(Reverse):
        resolv_map = resolv_list = resolv_all = resolv_reverse = lambda *_: answer

    resolver = GroupResolver(Odd())  # type: ignore[arg-type]
    for ask in (
        lambda: NodeSet("@a", resolver=resolver),
        lambda: NodeSet("@*", resolver=resolver),
        lambda: grouplist(resolver=resolver),
        lambda: resolver.node_groups("n1"),
    ):
        with pytest.raises(PyClusterShellError, match=r"group source 'mine' answered .* for "):
            ask()


def test_answers_may_be_node_sets_and_generators() -> None:
    groups: Any = {"a": [NodeSet("n[1-2]")], "b": NodeSet("n3"), "c": (f"n{i}" for i in (4, 5))}
    resolver = GroupResolver(GroupSource("mine", groups))
    assert str(NodeSet("@a,@b,@c", resolver=resolver)) == "n[1-5]"


def test_a_resolver_of_the_users_own() -> None:
    class Everything:
        def group_nodes(self, group: str, namespace: str | None = None) -> list[str]:
            return [f"{namespace}-{group}[1-2]"]

    nodes = NodeSet("@a,@s:b", resolver=Everything())  # type: ignore[arg-type]
    assert str(nodes) == "None-a[1-2],s-b[1-2]"


def test_resolvers_know_their_sources_by_name() -> None:
    resolver = make_resolver()
    assert resolver.sources() == ["local", "other"]
    assert resolver.default_source_name == "local"
    resolver.default_source_name = "other"
    assert resolver.sources() == ["other", "local"]
    assert resolver.group_nodes("gpu") == ["gpu[1-2]"]
    assert not resolver.has_node_groups()
    assert not resolver.has_node_groups("nowhere")
    with pytest.raises(ValueError, match="collision"):
        resolver.add_source(GroupSource("local"))
    with pytest.raises(GroupResolverSourceError):
        resolver.default_source_name = "nowhere"
    with pytest.raises(GroupResolverSourceError, match="nowhere"):
        NodeSet("@nowhere:x", resolver=resolver)
    with pytest.raises(GroupResolverSourceError, match="default"):
        NodeSet("@x", resolver=GroupResolver())
    with pytest.raises(GroupResolverSourceError, match="there are 'other', 'local'"):
        NodeSet("@nowhere:x", resolver=resolver)


def test_sources_are_found_once_whichever_thread_asks_first() -> None:
    entered, go = Event(), Event()

    class Slow(GroupResolver):
        calls = 0

        def _late_init(self) -> None:
            self.calls += 1
            entered.set()
            assert go.wait(30)
            self.add_source(GroupSource("late", {"a": "n1"}))

    resolver = Slow()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(resolver.sources)
        assert entered.wait(30)
        second = pool.submit(resolver.sources)
        go.set()
        assert first.result(30) == second.result(30) == ["late"]
    assert resolver.calls == 1


@pytest.mark.parametrize(
    "name", ["a!b", "a@b", "a,b", "a&b", "a^b", "a*b", "a[", "a]b", "a[1-", "[]"]
)
def test_a_group_with_a_name_that_no_pattern_can_contain_is_skipped(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Source(Reverse):
        def resolv_list(self) -> str:
            return f"a {name} b"

        def resolv_all(self) -> str:
            raise GroupSourceNoUpcall("all", self)

        def resolv_reverse(self, node: str) -> str:
            return f"{super().resolv_reverse(node)} {name}"

    resolver = GroupResolver(Source(), illegal_chars="@,!&^*")  # type: ignore[arg-type]
    nodes = NodeSet("n[1-4]", resolver=resolver)
    assert grouplist(resolver=resolver) == ["a", "b"]
    assert nodes.regroup() == "@a,n4"
    assert set(nodes.groups()) == {"@a", "@b"}
    assert str(NodeSet("@*", resolver=resolver)) == "n[1-5]"
    assert warnings_of(caplog)
    assert all("'mine'" in text or "'default'" in text for text in warnings_of(caplog))
    assert all(repr(name) in text for text in warnings_of(caplog))


def test_a_group_that_cannot_be_resolved_is_left_out_of_the_groups_of_a_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    definitions = {"good": "n[1-2]", "broken": "n[1-", "loop": "@loop"}
    resolver = GroupResolver(GroupSource("mine", definitions))
    nodes = NodeSet("n[1-2]", resolver=resolver)
    assert nodes.regroup() == "@good"
    assert set(nodes.groups()) == {"@good"}
    told = " ".join(warnings_of(caplog))
    assert "'broken' is skipped: unbalanced bracket" in told
    assert "'loop' is skipped: group loop" in told
    # All nodes are not guessed: that might be fewer than there are.
    with pytest.raises(NodeSetParseError, match="bad range"):
        NodeSet("@*", resolver=resolver)
    alone = GroupResolver(GroupSource("mine", {"broken": "n[1-"}))
    with pytest.raises(NodeSetParseError, match="unbalanced"):
        NodeSet("n1", resolver=alone).regroup()


# -- hostile groups --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ({"a": "@a"}, "@a -> @a"),
        ({"a": "n1,@b", "b": "@c", "c": "@b"}, "@b -> @c -> @b"),
        ({"a": "@s:b", "b": "@s:a"}, "group loop"),
        ({f"a{n}" if n else "a": f"@a{n + 1}" for n in range(200)}, "nested more than 100 deep"),
        ({"a": "n[1-"}, "unbalanced bracket"),
    ],
)
def test_groups_that_make_no_sense_are_errors(definitions: dict[str, str], message: str) -> None:
    resolver = GroupResolver(GroupSource("s", definitions))
    with pytest.raises(NodeSetParseError) as caught:
        NodeSet("@a", resolver=resolver)
    assert message in str(caught.value)


def test_groups_that_double_at_each_level_are_resolved_once_each() -> None:
    definitions = {f"a{n}": f"@a{n + 1},@a{n + 1}" for n in range(60)}
    resolver = GroupResolver(GroupSource("s", {**definitions, "a60": "n1"}))
    assert str(NodeSet("@a0", resolver=resolver)) == "n1"


# -- upcalls ---------------------------------------------------------------------------------------


class Commands:
    """Takes the place of the shell: records the commands, and answers from a dictionary."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(shell, "run_upcall", self)

    def __call__(self, command: str, directory: str | None, timeout: float) -> tuple[int, str]:
        self.asked.append(command)
        return (0, self.answers[command]) if command in self.answers else (1, "")

    def source(self, cache_time: float = 10, **upcalls: str) -> UpcallGroupSource:
        return UpcallGroupSource(
            "s", **upcalls, cache_time=cache_time, cfgdir="/etc/c", clock=lambda: self.now
        )


def test_variables_in_upcalls(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch, **{"map a s /etc/c $X": "n1\nn2", "who n1": "a b"})
    source = commands.source(
        map_upcall="map $GROUP $SOURCE ${CFGDIR} $X", reverse_upcall="who $NODE"
    )
    resolver = GroupResolver(source)
    assert resolver.group_nodes("a") == ["n1", "n2"]
    assert resolver.node_groups("n1") == ["a", "b"]
    assert resolver.has_node_groups()


def test_answers_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch, **{"map a": "n1", "list": "a"})
    source = commands.source(map_upcall="map $GROUP", list_upcall="list")
    for _ in range(3):
        assert source.resolv_map("a") == "n1"
        assert source.resolv_list() == "a"
    assert commands.asked == ["map a", "list"]
    commands.now = 11
    source.resolv_map("a")
    assert commands.asked == ["map a", "list", "map a"]
    source.clear_cache()
    source.resolv_map("a")
    assert len(commands.asked) == 4


def test_mapall_answers_map_and_list(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch, mapall="a: n[1-2]\n\nb: n3\na: n5\nc:\n")
    source = commands.source(mapall_upcall="mapall")
    resolver = GroupResolver(source)
    assert resolver.grouplist() == ["a", "b", "c"]
    assert str(NodeSet("@a,@b,@c,@d", resolver=resolver)) == "n[1-3,5]"
    assert commands.asked == ["mapall"]
    commands.answers["mapall"] = "nonsense"
    commands.now = 11
    with pytest.raises(GroupSourceQueryFailed, match="invalid line"):
        resolver.grouplist()


def test_upcalls_that_fail_or_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch)
    resolver = GroupResolver(commands.source(map_upcall="map $GROUP"))
    with pytest.raises(NodeSetParseError, match="map a"):
        NodeSet("@a", resolver=resolver)
    with pytest.raises(GroupSourceNoUpcall):
        resolver.grouplist()
    with pytest.raises(NodeSetExternalError):
        NodeSet("@*", resolver=resolver)
    failing = GroupResolver(commands.source(map_upcall="map", all_upcall="all", list_upcall="list"))
    with pytest.raises(NodeSetExternalError, match="all nodes"):
        NodeSet("@*", resolver=failing)


@pytest.mark.parametrize(
    "name",
    [
        "a;reboot",
        "a$(reboot)",
        "a`reboot`",
        "a b",
        "a|b",
        "a'b",
        'a"b',
        "a\\b",
        "a>b",
        "-rf",
        "a/b",
        "~",
    ],
)
def test_no_shell_text_from_patterns_reaches_an_upcall(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch)
    source = commands.source(map_upcall="map $GROUP", reverse_upcall="who $NODE")
    with pytest.raises(NodeSetParseError, match="cannot be used"):
        NodeSet("@" + name, resolver=GroupResolver(source))
    with pytest.raises(GroupSourceQueryFailed, match="cannot be used"):
        source.resolv_reverse(name)
    assert commands.asked == []


@posix_only
def test_upcalls_run_in_a_shell_in_the_directory_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("a: n[1-3]\nb: n4\n")
    (tmp_path / "groups.conf").write_text(
        "[Main]\ndefault: local\n[local]\n"
        "map: sed -n 's/^$GROUP: *//p' $CFGDIR/groups\n"
        "list: sed -n 's/:.*//p' groups\n"
    )
    set_std_group_resolver_config(str(tmp_path / "groups.conf"))
    assert fold("@a,@b,@c") == "n[1-4]"
    assert grouplist() == ["a", "b"]
    assert fold("@*") == "n[1-4]"


@posix_only
def test_an_upcall_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    with open(reading, "rb") as stream:
        source = UpcallGroupSource("s", f"(echo up; sleep 60) >{pipe} & sleep 60", timeout=0.5)
        with pytest.raises(NodeSetParseError, match=r"no answer within 0\.5 s"):
            NodeSet("@a", resolver=GroupResolver(source))
        assert stream.read() == b"up\n"  # comes back when nobody can write any more


@posix_only
def test_an_upcall_that_closes_its_output_and_goes_on_is_ended() -> None:
    with pytest.raises(TimeoutError, match="no end"):
        run_upcall("exec >&-; sleep 60", None, 0.3)


@posix_only
def test_an_upcall_that_says_too_much_is_ended() -> None:
    with pytest.raises(OSError, match=str(MAX_OUTPUT)):
        run_upcall("yes", None, 50)


@posix_only
def test_exit_codes_and_output_of_upcalls(tmp_path: Path) -> None:
    assert run_upcall("pwd; exit 3", str(tmp_path), 50) == (3, f"{tmp_path}\n")
    assert run_upcall("cat; printf '\\377'", None, 50) == (0, "\udcff")
    with pytest.raises(OSError, match="nowhere"):
        run_upcall("true", str(tmp_path / "nowhere"), 50)


# -- configuration ---------------------------------------------------------------------------------


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_sources_of_groups_conf_confdir_and_autodir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = write(
        tmp_path / "groups.conf",
        "[Main]\ndefault: two\nconfdir: $CFGDIR/more $CFGDIR/more none\nautodir: $CFGDIR/auto\n"
        "[one,two]\nmap: map %s $SOURCE\ncache_time: 5\n",
    )
    write(tmp_path / "more" / "x.conf", "[three]\nmapall: all of $SOURCE\n")
    write(tmp_path / "more" / "ignored.txt", "nonsense")
    write(tmp_path / "auto" / "x.yaml", "four: {a: 'n[1-2]', b: [n3, '@a'], all: n9, none: null}\n")
    resolver = GroupResolverConfig([str(tmp_path / "missing.conf"), main])
    assert resolver.config is None
    Commands(monkeypatch, **{"map %s two": "x1", "all of three": "a: y1"})
    assert resolver.sources() == ["two", "three", "four", "one"]
    assert str(NodeSet("@a,@three:a,@four:b,@four:none", resolver=resolver)) == "n[1-3],x1,y1"
    assert str(NodeSet("@four:*", resolver=resolver)) == "n9"
    assert grouplist("four", resolver) == ["a", "all", "b", "none"]


def test_a_later_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "one.conf", "[Main]\ndefault: a\n[a]\nmap: one\n")
    two = write(tmp_path / "two.conf", "[a]\nmap: two\n")
    Commands(monkeypatch, two="n2")
    assert str(NodeSet("@x", resolver=GroupResolverConfig([one, two]))) == "n2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Main]\ndefault: nowhere\n", "nowhere"),
        ("[s]\nlist: x\n", "No option 'map'"),
        ("[s]\nmap: x\ncache_time: soon\n", "soon"),
        ("no section", "no section"),
        ("[Main]\nconfdir: $CFGDIR/groups.conf\n", "not a directory"),
        ("[Main]\nconfdir: 'open\n", "confdir"),
        ("[Main]\nautodir: %(x)s\n", "x"),
    ],
)
def test_errors_in_groups_conf(tmp_path: Path, text: str, message: str) -> None:
    resolver = GroupResolverConfig(write(tmp_path / "groups.conf", text))
    for _ in range(2):  # the same error again, not half of a configuration
        with pytest.raises(GroupResolverConfigError, match=message):
            NodeSet("@a", resolver=resolver)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[Main\n", r"groups.conf line 1: this is no section such as \[name\]"),
        (b"[Main]\nx\n", r"groups.conf line 2: this is no section"),
        (b"[Main]\n[Main]\n", r"groups.conf: While reading .* section 'Main' already exists"),
        (b"[M\xff]\n", r"groups.conf: 'utf-8' .*: write the file in UTF-8"),
    ],
)
def test_a_groups_conf_that_cannot_be_parsed_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "groups.conf"
    path.write_bytes(content)
    with pytest.raises(GroupResolverConfigError, match=message) as caught:
        NodeSet("@a", resolver=GroupResolverConfig(str(path)))
    assert "\n" not in str(caught.value)


def test_a_groups_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "groups.conf"
    path.mkdir()
    message = r"no group source: .*skipped: .*groups\.conf: the file cannot be read"
    with pytest.raises(GroupResolverConfigError, match=message):
        NodeSet("@a", resolver=GroupResolverConfig(str(path)))


def test_no_configuration_is_no_group_source(tmp_path: Path) -> None:
    resolver = GroupResolverConfig(str(tmp_path / "groups.conf"))
    assert str(NodeSet("n1", resolver=resolver)) == "n1"
    with pytest.raises(GroupResolverSourceError):
        NodeSet("@a", resolver=resolver)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "base is not a dict"),
        ("a: [", "flow"),
        ("1: {a: n1}", "group source 1 not a string"),
        ("s: n1", "'s' is not a dict"),
    ],
)
def test_errors_in_yaml_files(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.yaml", text)
    with pytest.raises(GroupResolverConfigError, match=message) as caught:
        YAMLGroupLoader(path)
    assert path in str(caught.value)


def yaml_resolver(tmp_path: Path, text: str) -> GroupResolverConfig:
    (tmp_path / "auto").mkdir()
    (tmp_path / "auto" / "x.yaml").write_text(text)
    conf = "[Main]\nautodir: $CFGDIR/auto\n[other]\nmap: echo o1\n"
    return GroupResolverConfig(write(tmp_path / "groups.conf", conf))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0101", "0101 .* a number"),
        ("[001, n1]", "001 .* a number"),
        ("5", "5 .* a number"),
        ("0x1f", "0x1f .* a number"),
        ("1_000", "1_000 .* a number"),
        ("1e3", None),  # YAML 1.1 as PyYAML reads it: a string
        ("1.5", "1.5 .* a number"),
        (".inf", ".inf .* a number"),
        ("yes", "yes .* true or false"),
        ("[a, Off]", "Off .* true or false"),
        ("12:30", "12:30 .* a number"),
        ("2026-01-02", "2026-01-02 .* timestamp"),
        ("[~, a]", "~ .* null"),
        ("{a: b}", "a mapping"),
        ("[[a], b]", "a list in a list"),
        ("[a, {b: c}]", "a mapping"),
        ("!!binary aGVsbG8=", "binary"),
        ("!x y", "!x"),
        ("'0101'", None),
        ("[]", None),
        ("", None),
        ("!!str 0101", None),
    ],
)
def test_a_yaml_value_that_is_no_string_is_an_error_of_its_group(
    tmp_path: Path, value: str, shown: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = yaml_resolver(tmp_path, f"s:\n  odd: {value}\n  fine: n[1-2]\n")
    assert str(NodeSet("@s:fine", resolver=resolver)) == "n[1-2]"
    if shown is None:
        assert "True" not in NodeSet("@s:odd", resolver=resolver)
        assert grouplist("s", resolver) == ["fine", "odd"]
        assert not warnings_of(caplog)
        return
    with pytest.raises(NodeSetParseError, match=rf"x.yaml: s: group 'odd': .*{shown}"):
        NodeSet("@s:odd", resolver=resolver)
    assert grouplist("s", resolver) == ["fine"]
    assert NodeSet("n[1-2]", resolver=resolver).regroup("s") == "@s:fine"
    (told,) = warnings_of(caplog)
    assert "x.yaml: s: group 'odd'" in told


def test_an_invalid_group_of_all_nodes_is_no_reason_to_guess_them(tmp_path: Path) -> None:
    resolver = yaml_resolver(tmp_path, "s: {all: 0101, a: n1}")
    with pytest.raises(NodeSetExternalError, match="group 'all': 0101"):
        NodeSet("@s:*", resolver=resolver)


def test_yaml_merges_and_doubles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "s: &s {a: n1, b: n2}\nt: {<<: *s, b: n3}\nu: {a: n1, a: n2, c: 1, c: n5}\n"
    resolver = yaml_resolver(tmp_path, text)
    assert str(NodeSet("@t:a,@t:b", resolver=resolver)) == "n[1,3]"
    assert str(NodeSet("@u:a,@u:c", resolver=resolver)) == "n[2,5]"
    told = warnings_of(caplog)
    path = tmp_path / "auto" / "x.yaml"
    several = f"{path}: u: group 'a' is defined several times: only the last one counts"
    assert told.count(several) == 1


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"auto/bad.yaml": "a: ["}, "bad.yaml"),
        ({"auto/bad.yaml": "[1]"}, "bad.yaml: invalid content"),
        ({"auto/bad.yaml": "s: {a: @b}"}, "bad.yaml: while scanning"),
        ({"auto/bad.yaml": "yes: {a: n1}"}, "group source yes not a string"),
        ({"auto/bad.yaml": "x: n1\ny: {a: n1}"}, "bad.yaml: invalid content .group source 'x'"),
        ({"auto/bad.yaml": "y: {1: n1}"}, "bad.yaml: y: group name 1 not a string"),
        ({"auto/bad.yaml": "y: {a: n1}\ny: {a: n2}"}, "bad.yaml: the second group source 'y'"),
        ({"auto/bad.yaml": "good: {a: n2}"}, "group source 'good': an earlier file defines it"),
        ({"auto/bad.yaml": b"\xff"}, "bad.yaml: .*utf-8"),
        pytest.param(
            {"auto/bad.yaml/x": ""},
            "bad.yaml: Is a directory",
            marks=pytest.mark.posix_only("Windows denies directories as it denies other files"),
        ),
        ({"more/bad.conf": "nonsense"}, "bad.conf"),
        ({"more/bad.conf": "[x]\nlist: y\n"}, "bad.conf: group source 'x': No option 'map'"),
        ({"more/bad.conf": "[x]\nmap: y\ncache_time: z\n"}, "bad.conf: .*'z' is not a number"),
        ({"more/bad.conf": "[good,y]\nmap: echo x\n"}, "good.*an earlier file defines it"),
    ],
)
def test_an_invalid_item_does_not_break_the_others(
    tmp_path: Path,
    names: dict[str, str | bytes],
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    main = (
        "[Main]\ndefault: main\nconfdir: $CFGDIR/more\nautodir: $CFGDIR/auto $CFGDIR/groups.conf\n"
    )
    main = write(tmp_path / "groups.conf", f"{main}[main]\nmap: echo m1\n[bad]\nlist: x\n")
    write(tmp_path / "more" / "a.conf", "[good]\nmap: echo n1\n")
    write(tmp_path / "auto" / "a.yaml", "first: {a: n3}")
    for name, content in names.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    resolver = GroupResolverConfig(main)
    assert str(NodeSet("@a,@good:a,@first:a", resolver=resolver)) == "m1,n[1,3]"
    told = warnings_of(caplog)
    assert any(re.search(problem, text) for text in told), told
    assert any("groups.conf is not a directory" in text for text in told)
    assert any("groups.conf: group source 'bad': No option 'map'" in text for text in told)
    with pytest.raises(GroupResolverSourceError, match=r"unknown group source 'bad'.*skipped"):
        NodeSet("@bad:a", resolver=resolver)


def test_without_pyyaml_other_sources_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    resolver = yaml_resolver(tmp_path, "s: {a: n1}")
    assert str(NodeSet("@a,@other:b", resolver=resolver)) == "o1"
    assert any("x.yaml" in text and "PyYAML" in text for text in warnings_of(caplog))


def test_a_default_source_that_does_not_exist_is_an_error_for_the_default_only(
    tmp_path: Path,
) -> None:
    conf = write(tmp_path / "groups.conf", "[Main]\ndefault: gone\n[here]\nmap: echo n1\n")
    resolver = GroupResolverConfig(conf)
    assert str(NodeSet("@here:a", resolver=resolver)) == "n1"
    assert resolver.sources() == ["here"]
    with pytest.raises(GroupResolverConfigError, match="not found: 'gone': there are 'here'"):
        NodeSet("@a", resolver=resolver)


def test_no_group_source_names_the_files_that_were_looked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "groups.conf")
    with pytest.raises(GroupResolverSourceError, match=r"no group source.*groups.conf") as caught:
        NodeSet("@web", resolver=GroupResolverConfig([path]))
    assert path in str(caught.value)


def test_names_with_slashes_reach_upcalls_if_the_source_lists_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {
        "map site/r1": "n1",
        "map h#t": "n2",
        "list": "site/r1 h#t #x $(y)",
        "who n1": "a $z",
    }
    commands = Commands(monkeypatch, **answers)
    source = commands.source(
        map_upcall="map $GROUP", list_upcall="list", reverse_upcall="who $NODE"
    )
    resolver = GroupResolver(source)
    assert str(NodeSet("@site/r1,@h#t", resolver=resolver)) == "n[1-2]"
    assert grouplist(resolver=resolver) == ["h#t", "site/r1"]
    assert resolver.node_groups("n1") == ["a"]
    for name in ("site/r2", "#x", "a/w/tmp/x"):
        with pytest.raises(NodeSetParseError, match="meaning to a shell"):
            NodeSet(f"@{name}", resolver=resolver)
    told = " ".join(warnings_of(caplog))
    assert all(f"'{name}' is skipped" in told for name in ("#x", "$(y)", "$z"))


def test_an_invalid_line_of_mapall_is_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands(monkeypatch, mapall="a: n1\nnonsense\nb c: n2\nd: n3\n")
    resolver = GroupResolver(commands.source(mapall_upcall="mapall"))
    assert str(NodeSet("@a,@d", resolver=resolver)) == "n[1,3]"
    assert [text.count("invalid line") for text in warnings_of(caplog)] == [1, 1]


def test_a_yaml_file_that_is_gone_or_broken_at_the_next_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", "s: {a: n1}")
    loader = YAMLGroupLoader(path, cache_time=0)
    resolver = GroupResolver(next(iter(loader)))
    assert resolver.group_nodes("a") == ["n1"]
    write(tmp_path / "x.yaml", "s: [")
    with pytest.raises(GroupResolverConfigError, match=r"x.yaml"):
        resolver.group_nodes("a")
    os.remove(path)
    with pytest.raises(GroupResolverConfigError, match=r"x.yaml: the file cannot be read again"):
        resolver.group_nodes("a")
    write(tmp_path / "x.yaml", "s: {a: n2}")
    assert resolver.group_nodes("a") == ["n2"]


def test_a_yaml_file_is_read_again_when_the_cache_has_expired(tmp_path: Path) -> None:
    now = [0.0]
    path = write(tmp_path / "x.yaml", "s: {a: n1}")
    loader = YAMLGroupLoader(path, cache_time=10, clock=lambda: now[0])
    resolver = GroupResolver(next(iter(loader)))
    write(tmp_path / "x.yaml", "s: {a: n2}\nt: {a: n3}")
    assert resolver.group_nodes("a") == ["n1"]
    now[0] = 11
    assert resolver.group_nodes("a") == ["n2"]
    assert list(loader.sources) == ["s"]


def test_without_pyyaml_yaml_files_are_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(GroupResolverConfigError, match="PyYAML"):
        YAMLGroupLoader(write(tmp_path / "x.yaml", "s: {a: n1}"))


@posix_only
def test_a_byte_order_mark_of_groups_conf_is_passed_over(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = tmp_path / "groups.conf"
    path.write_text("\ufeff[Main]\ndefault: all\n[all]\nmap: echo node[1-2]\n", encoding="utf-8")
    set_std_group_resolver_config(str(path))
    assert str(NodeSet("@any")) == "node[1-2]"
