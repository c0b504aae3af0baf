"""OpenSSH client configuration: files, conditions, values, and OpenSSH itself as the oracle."""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyclustershell.exceptions import ConfigurationError
from pyclustershell.ssh.config.configline import parse_line, split_words
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.keywords import find_keyword, parse_seconds
from pyclustershell.ssh.config.lookup import lookup
from pyclustershell.ssh.config.memo import LookupPending
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.patterns import matches, matches_list
from pyclustershell.ssh.config.query import Query
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.config.tokens import expand_environment, expand_tokens
from tests.helpers.programs import openssh_settings
from tests.servers.processes import node_path

Ask = Callable[..., Query]


def environment(home: Path) -> Environment:
    return Environment("me", str(home), "here.example.org")


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that looks up a host in a configuration text."""

    def ask(text: str, host: str = "node1", options: str = "") -> Query:
        path = tmp_path / "config"
        path.write_text(text)
        cache = ConfigCache(environment(tmp_path))
        given = SSHOptions.parse_command_line(options).settings(host)
        return lookup([cache.load(str(path))], host, given, cache)

    return ask


# -- lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("  a\t b ", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("'a b'c", ["a bc"]),
        ('a"b"', ["ab"]),
        (r"a\ b", ["a b"]),
        (r'"a\ b"', [r"a\ b"]),
        (r'"a\"b"', ['a"b']),
        (r"a\nb", [r"a\nb"]),
        (r"C:\\x", [r"C:\x"]),
        ("a # b", ["a"]),
        ("a#b", ["a#b"]),
        ("#a", []),
        ('""', [""]),
        ("", []),
    ],
)
def test_words_are_split_as_openssh_does(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("text", ['"a', "'a b", 'a "b'])
def test_an_open_quote_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"the closing quotation mark ['\"] is missing"):
        split_words(text)


@pytest.mark.parametrize(
    "text", ["Port 2222", "port=2222", " PORT = 2222 ", '"Port" 2222', "Port\t=2222"]
)
def test_a_keyword_may_be_written_in_many_ways(text: str) -> None:
    setting = parse_line(text, "f", 3)
    assert setting is not None
    assert (setting.keyword, setting.value, setting.place) == ("Port", 2222, "f line 3")


@pytest.mark.parametrize("text", ["", "   ", "# Port 22", "\t#", "\f"])
def test_empty_lines_and_comments_say_nothing(text: str) -> None:
    assert parse_line(text, "f", 1) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Prot 22", "unknown keyword 'Prot'.*did you mean Port"),
        ("Xyzzyx 22", "unknown keyword 'Xyzzyx'$"),
        ("= 22", "does not begin with a keyword"),
        ("Port", "Port: a value is missing"),
        ("Port =", "Port: a value is missing"),
        ("Port # 22", "Port: a value is missing"),
        ("Port 22 23", "extra arguments at end of line: '23'"),
        ("Port 0", "not a number from 1 to 65535"),
        ("Port 65536", "not a number from 1 to 65535"),
        ("Port -1", "'-1' is not a port"),
        ("Port no-such-service", "is not a port"),
        ('User "bob', 'the closing quotation mark " is missing'),
        ('User ""', "a value is missing"),
        ("Compression maybe", "'maybe' is not one of yes, no"),
        ("StrictHostKeyChecking perhaps", "is not one of"),
        ("AddressFamily ipx", "is not one of any, inet, inet6"),
        ("ConnectTimeout soon", "is not an interval"),
        ("ConnectTimeout -5", "is not an interval"),
        ("ConnectionAttempts many", "is not a number"),
        ("UserKnownHostsFile none /a", "'none' must stand alone"),
        ("Ciphers a,,b", "is not a comma-separated list of algorithms"),
        ("SetEnv A", "not of the form NAME=VALUE"),
        ("SetEnv =1", "not of the form NAME=VALUE"),
        ("RekeyLimit 1T", "is not a size such as 500M"),
        ("RekeyLimit 15", "is too small"),
        ("RekeyLimit 1G soon", "is not an interval"),
        ("RekeyLimit 1G 1h 2", "extra arguments"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        parse_line(text, "some/file", 7)
    assert (raised.value.filename, raised.value.line) == ("some/file", 7)
    assert str(raised.value).startswith("some/file line 7: ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1W2d", 777600),
        ("5s", 5),
        ("none", None),
    ],
)
def test_intervals(text: str, seconds: object) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1x", "1.5", "-1", "1 m"])
def test_wrong_intervals(text: str) -> None:
    with pytest.raises(ValueError, match="is not an interval"):
        parse_seconds(text)


def test_former_names_of_keywords_still_hold() -> None:
    keyword = find_keyword("ChallengeResponseAuthentication")
    assert keyword is not None
    assert keyword.name == "KbdInteractiveAuthentication"


# -- patterns and tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("node1", "node?", True),
        ("node12", "node?", False),
        ("", "*", True),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("[a]", "[a]", True),
        ("a", "[a]", False),
        ("node1\n", "node1", False),
    ],
)
def test_patterns_know_stars_and_question_marks_only(
    text: str, pattern: str, expected: bool
) -> None:
    assert matches(text, pattern) is expected


def test_a_negated_pattern_overrules_the_others() -> None:
    assert matches_list("a", ["*", "!b"])
    assert not matches_list("b", ["*", "!b"])
    assert not matches_list("a", ["!b"])


def test_tokens_are_replaced_once() -> None:
    assert expand_tokens("%h-%%h-%p", {"h": "%p", "p": "22"}) == "%p-%h-22"


@pytest.mark.parametrize("text", ["%x", "100%", "%"])
def test_unknown_tokens_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="unknown token"):
        expand_tokens(text, {"h": "a"})


def test_environment_variables_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/tmp")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert expand_environment("${SOMEWHERE}/$HOME") == "/tmp/$HOME"
    with pytest.raises(ValueError, match="NOWHERE is not set"):
        expand_environment("${NOWHERE}")


# -- which lines hold ------------------------------------------------------------------------------


def test_the_first_value_wins_and_identity_files_add_up(ask: Ask) -> None:
    query = ask("User a\nIdentityFile 1\nHost *\nUser b\nIdentityFile 2\nIdentityFile 1\n")
    assert query.text("User") == "a"
    assert [setting.value for setting in query.all("IdentityFile")] == ["1", "2"]


@pytest.mark.parametrize(
    ("condition", "host", "expected"),
    [
        ("Host node1", "node1", True),
        ("Host node1", "node10", False),
        ("Host node1", "NODE1", False),
        ("Host node*", "node1", True),
        ("Host *1", "node1", True),
        ("Host a node1 b", "node1", True),
        ("Host * !node1", "node1", False),
        ("Host !node1 *", "node1", False),
        ("Host !node2", "node1", False),
        ('Host "node1"', "node1", True),
        ("Match all", "node1", True),
        ("Match host node*", "node1", True),
        ("Match host NODE*", "node1", True),
        ("Match !host node*", "node1", False),
        ("Match host node*,!node1", "node1", False),
        ("Match host=node1", "node1", True),
        ("Match originalhost node1 user me", "node1", True),
        ("Match originalhost node1 user you", "node1", False),
        ("Match localuser me,you", "node1", True),
        ("Match localuser root", "node1", False),
        ("Match final host node1", "node1", True),
        ("Match final all", "node1", True),
        ("Match canonical all", "node1", False),
    ],
)
def test_conditions(ask: Ask, condition: str, host: str, expected: bool) -> None:
    query = ask(f"{condition}\nPort 99\n", host)
    assert query.number("Port") == (99 if expected else None)


def test_match_sees_what_was_said_before(ask: Ask) -> None:
    text = (
        "Host node1\nHostName %h.cluster\nUser bob\nMatch host *.cluster user bob\nPort 9\n"
        "Match originalhost *.cluster\nPort 10\n"
    )
    assert ask(text).number("Port") == 9
    assert ask(text, options="-l carol").number("Port") is None
    assert ask(text, options="-o HostName=elsewhere").number("Port") is None


def test_a_match_line_is_decided_once(ask: Ask) -> None:
    assert ask("Match user me\nUser you\nPort 9\n").number("Port") == 9


def test_the_final_pass_sees_the_host_name(ask: Ask) -> None:
    text = (
        "Host short\nHostName LONG.example.org\nMatch final\nUser x\nHost *.example.org\nPort 9\n"
    )
    query = ask(text, "short")
    assert (query.target, query.number("Port"), query.text("User")) == ("long.example.org", 9, "x")


@pytest.mark.parametrize(
    ("tag", "criterion", "met"),
    [
        ("Tag fast", "tagged fast", True),
        ("Tag fast", "tagged slow,fa*", True),
        ("Tag fast", "!tagged fast", False),
        ("Tag fast", "tagged !fast,*", False),
        ("Tag fast", "tagged slow", False),
        # The first tag counts, and none is an empty one.
        ("Tag fast\nTag slow", "tagged slow", False),
        ("", "tagged fast", False),
        ("", "tagged *", True),
    ],
)
def test_tags(ask: Ask, tag: str, criterion: str, met: bool) -> None:
    query = ask(f"{tag}\nMatch {criterion}\nUser x\n", "node1")
    assert (query.text("User") == "x") is met


def test_a_tag_counts_for_the_lines_below_it(ask: Ask) -> None:
    assert ask("Match tagged fast\nUser x\nMatch all\nTag fast\n", "node1").text("User") is None


# Interfaces as psutil shows them: name, state and addresses.
INTERFACES = (
    ("lo", "up,loopback,running", True, ["127.0.0.1", "::1"]),
    ("lan", "up,broadcast,running", True, ["10.1.2.3", "fe80::1%lan", "fd00::5"]),
    ("unplugged", "up,broadcast", False, ["192.168.7.7"]),
    ("down", "broadcast,multicast", False, ["172.16.1.1"]),
    ("windows", "", True, ["198.51.100.9"]),
    ("windows-down", "", False, ["203.0.113.9"]),
)


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with INTERFACES, in place of psutil."""

    def entry(address: str) -> SimpleNamespace:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return SimpleNamespace(family=family, address=address)

    hardware = SimpleNamespace(family=-1, address="02:fc:00:00:00:01")
    module = SimpleNamespace(
        Error=RuntimeError,
        net_if_addrs=lambda: {
            name: [hardware, *map(entry, addresses)] for name, _, _, addresses in INTERFACES
        },
        net_if_stats=lambda: {
            name: SimpleNamespace(isup=running, flags=flags)
            for name, flags, running, _ in INTERFACES
        },
    )
    monkeypatch.setitem(sys.modules, "psutil", module)
    return module


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize(
    ("networks", "met"),
    [
        ("10.0.0.0/8", True),
        ("10.2.0.0/16", False),
        ("10.1.2.3", True),
        ("10.1.2.3/32", True),
        ("192.0.2.0/24,10.1.0.0/16", True),
        ("192.168.0.0/16", True),
        ("172.16.0.0/12", False),
        ("198.51.100.0/24", True),
        ("203.0.113.0/24", False),
        ("0.0.0.0/0", True),
        ("fd00::/8", True),
        ("fd01::/16", False),
        ("FD00::5", True),
        # An address with a scope is in no network.
        ("fe80::/10", False),
    ],
)
def test_local_networks(ask: Ask, networks: str, met: bool) -> None:
    text = "Match {}localnetwork {}\nUser x\n"
    assert (ask(text.format("", networks)).text("User") == "x") is met
    assert (ask(text.format("!", networks)).text("User") == "x") is not met
    assert (ask(text.format("host other ", networks)).text("User")) is None


@pytest.mark.parametrize(
    "networks",
    [
        *("10/8", "10.1.2.3/8", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/", "10.0.0.*"),
        *("10.0.0.0/8,", "!10.0.0.0/8", "example.org", "::1/129", "fe80::1%lan", "10.0.0.0/8 x"),
    ],
)
def test_wrong_networks(ask: Ask, networks: str) -> None:
    with pytest.raises(ConfigurationError, match=r"line 2: .*(localnetwork|criterion)"):
        ask(f"User a\nMatch localnetwork {networks}\n")


def test_the_interfaces_are_asked_for_once(interfaces: SimpleNamespace, tmp_path: Path) -> None:
    """Once, and not on a thread that may not wait."""
    path = tmp_path / "config"
    path.write_text("Match localnetwork 10.0.0.0/8\nUser x\n")
    cache = ConfigCache(environment(tmp_path))
    configs = [cache.load(str(path))]
    with pytest.raises(LookupPending):
        lookup(configs, "node1", (), cache, wait=False)
    lookup(configs, "node1", (), cache)
    del interfaces.net_if_addrs
    for node in ("node1", "node2"):
        assert lookup(configs, node, (), cache, wait=False).text("User") == "x"


def test_interfaces_that_cannot_be_asked_for(ask: Ask, interfaces: SimpleNamespace) -> None:
    def fail() -> None:
        raise PermissionError("not allowed")

    interfaces.net_if_stats = fail
    with pytest.raises(ConfigurationError, match=r"line 1: Match localnetwork: .* not allowed"):
        ask("Match localnetwork 10.0.0.0/8\nUser x\n")


def test_without_psutil(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    text = "Match host node1 localnetwork 10.0.0.0/8\nUser x\n"
    assert ask(text, "node2").text("User") is None
    cause = r"config line 1: Match localnetwork: .*psutil .*pip install 'pyclustershell\["
    with pytest.raises(ConfigurationError, match=cause):
        ask(text, "node1")


def test_the_local_addresses_of_this_machine(tmp_path: Path) -> None:
    assert ipaddress.ip_address("127.0.0.1") in environment(tmp_path).local_addresses()


@pytest.mark.parametrize("criterion", ["exec true", "version 9"])
def test_what_cannot_be_evaluated_is_an_error_only_where_it_matters(
    ask: Ask, criterion: str
) -> None:
    text = f"Match host node1 {criterion}\nUser x\n"
    assert ask(text, "node2").text("User") is None
    with pytest.raises(ConfigurationError, match=f"config line 1: 'Match {criterion[:4]}"):
        ask(text, "node1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Match", "a value is missing"),
        ("Match host", "lacks its value"),
        ("Match hots a", "unknown Match criterion 'hots'"),
        ("Match all host a", "cannot be combined"),
        ("Match host a all", "cannot be combined"),
        ("Host", "a value is missing"),
    ],
)
def test_wrong_conditions(ask: Ask, line: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"line 2: .*{message}"):
        ask(f"User a\n{line}\n")


def test_whichever_of_the_proxies_comes_first_rules_out_the_other(ask: Ask) -> None:
    query = ask("ProxyJump none\nProxyCommand nc %h 22 # not a comment\n")
    assert query.get("ProxyCommand") is None
    query = ask("ProxyCommand nc '%h' 22 # not a comment\nProxyJump x\n")
    assert query.text("ProxyCommand") == "nc '%h' 22 # not a comment"
    assert query.get("ProxyJump") is None


def test_an_interval_of_none_leaves_the_word_to_others(ask: Ask) -> None:
    setting = ask("ConnectTimeout none\nConnectTimeout 7\n").get("ConnectTimeout")
    assert setting is not None
    assert setting.value == 7.0


def test_unknown_keywords_can_be_ignored(ask: Ask) -> None:
    assert ask("IgnoreUnknown Foo*,Bar\nFooBar 1\nBar 2\nPort 9\n").number("Port") == 9
    with pytest.raises(ConfigurationError, match="line 2: unknown keyword 'Baz'"):
        ask("IgnoreUnknown Foo*\nBaz 1\n")


def test_unsupported_keywords_are_warned_of_once_where_they_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config"
    path.write_text(
        "Host node*\nRemoteForward 1 a:2\nTunnel no\nLogLevel DEBUG\nHost x\nTunnel yes\n"
    )
    cache = ConfigCache(environment(tmp_path))
    with caplog.at_level(logging.WARNING, "pyclustershell.sshconfig"):
        for host in ("node1", "node2", "other"):
            lookup([cache.load(str(path))], host, cache=cache)
    assert caplog.messages == [f"{path} line 2: RemoteForward is not supported and is ignored"]


# -- files -----------------------------------------------------------------------------------------


def test_include_reads_in_place_in_order_and_in_the_block(tmp_path: Path, ask: Ask) -> None:
    directory = tmp_path / ".ssh"
    directory.mkdir()
    (directory / "b.conf").write_text("Host *\nPort 2\n")
    (directory / "a.conf").write_text("Port 1\nHost other\nUser wrong\n")
    text = (
        "Host node1\nInclude *.conf missing.conf\nUser right\nHost node2\nInclude ~/.ssh/b.conf\n"
    )
    query = ask(text, "node1")
    assert (query.number("Port"), query.text("User")) == (1, "right")
    query = ask(text, "node2")
    assert (query.number("Port"), query.text("User")) == (2, None)
    assert ask(text, "other").text("User") is None


def test_include_passes_over_directories(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "config.d" / "node1").mkdir(parents=True)
    (tmp_path / "config.d" / "hosts").write_text("User alice\n")
    for pattern in ("config.d/*", "config.d/%h", "config.d/*%%*", "config.d"):
        query = ask(f"Include {tmp_path}/{pattern}\nPort 7\n", "node1")
        assert (query.number("Port"), query.text("User")) == (
            7,
            "alice" if pattern == "config.d/*" else None,
        )


def test_only_a_line_feed_ends_a_line(ask: Ask) -> None:
    query = ask("# a comment\rUser wrong\nUser right\r\nPort 7\r\n")
    assert (query.number("Port"), query.text("User")) == (7, "right")


def test_include_has_a_depth(tmp_path: Path, ask: Ask) -> None:
    with pytest.raises(ConfigurationError, match="more than 16 levels of Include"):
        ask(f"Include {tmp_path}/config\n")


def test_an_error_in_an_included_file_has_its_place(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "inner").write_text("\nPort x\n")
    with pytest.raises(ConfigurationError, match="inner line 2: Port: 'x' is not a port"):
        ask(f"Include {tmp_path}/inner\n")


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    path, included = tmp_path / "config", tmp_path / "included"
    path.write_text(f"Include {tmp_path}/inc*\n")
    included.write_text("Port 1\n")
    cache = ConfigCache(environment(tmp_path))
    first = cache.load(str(path))
    assert cache.load(str(path)) is first
    included.write_text("Port 22\n")
    second = cache.load(str(path))
    assert second is not first
    assert lookup([second], "h", cache=cache).number("Port") == 22


def test_a_new_file_for_an_include_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "config"
    directory = tmp_path / "config.d"
    directory.mkdir()
    os.utime(directory, (1, 1))
    path.write_text(f"Include {directory}/*\n")
    cache = ConfigCache(environment(tmp_path))
    assert lookup([cache.load(str(path))], "h", cache=cache).get("Port") is None
    (directory / "new").write_text("Port 5\n")
    assert lookup([cache.load(str(path))], "h", cache=cache).number("Port") == 5


def test_a_file_that_is_named_must_exist_and_be_readable(tmp_path: Path) -> None:
    cache = ConfigCache(environment(tmp_path))
    with pytest.raises(ConfigurationError, match="no such configuration file"):
        cache.load(str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        cache.load(str(tmp_path))


def test_the_users_file_is_a_default_and_must_not_be_writable_by_others(tmp_path: Path) -> None:
    cache = ConfigCache(environment(tmp_path))
    before = len(cache.defaults())  # perhaps the system's file
    directory = tmp_path / ".ssh"
    directory.mkdir()
    path = directory / "config"
    path.write_text("Port 5\n")
    path.chmod(0o600)
    configs = cache.defaults()
    assert len(configs) == before + 1
    assert lookup(configs[:1], "h", cache=cache).number("Port") == 5
    if os.name == "nt":
        return
    path.write_text("Port 55\n")
    path.chmod(0o620)
    with pytest.raises(ConfigurationError, match=r"others can write to it \(chmod go-w\)"):
        cache.defaults()


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"# caf\xe9\r\nUser caf\xe9\r\n")
    cache = ConfigCache(environment(tmp_path))
    user = lookup([cache.load(str(path))], "h", cache=cache).text("User")
    assert user is not None
    assert user.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_only_sections_that_may_hold_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "config"
    lines = (f"Host node{i} alias{i}\nPort {i + 1}\n" for i in range(1000))
    path.write_text("".join(lines) + "Host *\nUser all\n")
    config = ConfigCache(environment(tmp_path)).load(str(path))
    # Host * and the patterns that node999 begins with: node9, node99, node999.
    assert len(list(config.candidates("node999"))) == 4


# -- OpenSSH as the oracle -------------------------------------------------------------------------

HOSTS = ["node1", "node12", "db.example.org", "NODE1", "x", "10.0.0.1", "web-1.Example.org"]
PATTERNS = ["*", "node*", "node?", "!node1", "*.example.org", "db*", "!*.org", "x", "node1"]
PATTERNS += ["N*", "10.0.*", "!x", "*1", "node1,node2"]
CRITERIA = [
    "host node*",
    "host *.org,!db*",
    "host=10.1.1.1",
    "host REAL*",
    'host "real"',
    "originalhost node1",
    "user root",
    "user alice,!root",
    "user bob*",
    "final",
    "canonical",
]
VALUES = {
    "HostName": ["10.1.1.1", "%h.cluster", "h%%x", "REAL.Example.ORG", '"quoted"'],
    "User": ["root", "alice", '"bob smith"', "carol # comment"],
    "Port": ["22", '"2200"'],
    "IdentityFile": ["~/.ssh/a", "/k/%r-%p", "none", '"/k/with space"', r"/k/a\ b", "'/k/s q'"],
    "CertificateFile": ["/c/a", "/c/b"],
    "IdentitiesOnly": ["yes", "NO", "true"],
    "UserKnownHostsFile": ["/a /b", "none", '"/a b"'],
    "GlobalKnownHostsFile": ["/g", "none"],
    "HostKeyAlias": ["alias", "Alias2"],
    "ConnectTimeout": ["5", "1m", "1h30m", "none"],
    "ConnectionAttempts": ["3"],
    "Compression": ["yes", "no"],
    "ServerAliveInterval": ["10", "1m"],
    "ServerAliveCountMax": ["5"],
    "PreferredAuthentications": ["publickey,password"],
    "PasswordAuthentication": ["yes", "no"],
    "ChallengeResponseAuthentication": ["no"],
    "BindAddress": ["127.0.0.1"],
    "SetEnv": ["A=1 B=2", "A=3", '"C=x y"'],
    "ProxyJump": ["none", "u@gate:22"],
    "ProxyCommand": ["none", '  nc "a b"'],
    "TCPKeepAlive": ["no", "yes"],
    "HashKnownHosts": ["yes"],
    "IdentityAgent": ["none", "SSH_AUTH_SOCK", "/x/y"],
    "LogLevel": ["ERROR"],
}
ADDITIVE = ("IdentityFile", "CertificateFile")


def random_lines(rng: random.Random, directory: Path, depth: int = 0) -> Iterator[str]:
    def settings(most: int) -> Iterator[str]:
        for _ in range(rng.randint(0, most)):
            keyword = rng.choice(list(VALUES))
            name = rng.choice([keyword, keyword.lower(), keyword.upper()])
            space = rng.choice([" ", "=", " = ", "\t"])
            yield rng.choice(["", "  ", "\t"]) + name + space + rng.choice(VALUES[keyword])

    yield from settings(3)
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.6:
            yield "Host " + " ".join(rng.sample(PATTERNS, rng.randint(1, 3)))
        else:
            criteria = rng.sample(CRITERIA, rng.randint(1, 2))
            yield "Match " + " ".join(rng.choice(["", "", "!"]) + text for text in criteria)
        yield from settings(4)
        if depth < 2 and rng.random() < 0.3:
            path = directory / f"include{rng.getrandbits(40)}"
            path.write_text("\n".join(random_lines(rng, directory, depth + 1)))
            yield f"Include {node_path(path)}"
            yield from settings(2)


def as_openssh_prints(query: Query) -> dict[str, list[str]]:
    """The settings in the form of ``ssh -G``: only the keywords that are set."""
    printed = {"hostname": [query.target.lower()]}
    for setting in query.settings():
        name, value = setting.keyword, setting.value
        if name in ADDITIVE:
            printed[name.lower()] = [str(item.value) for item in query.all(name)]
        elif name == "SetEnv" and isinstance(value, tuple):
            printed["setenv"] = ["=".join(pair) for pair in value]
        elif name == "HostKeyAlias":
            printed["hostkeyalias"] = [str(value).lower()]
        elif name in VALUES and name not in ("HostName", "LogLevel"):
            if isinstance(value, bool):
                value = "yes" if value else "no"
            elif isinstance(value, float):
                value = int(value)
            elif isinstance(value, tuple):
                value = " ".join(value)
            printed[name.lower()] = [str(value)]
    for name in ("proxyjump", "proxycommand"):
        if printed.get(name) == ["none"]:
            del printed[name]
    return printed


@pytest.mark.needs("ssh")
@pytest.mark.parametrize("seed", range(40))
def test_openssh_finds_the_same(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)  # noqa: S311 - to be repeatable
    path = tmp_path / "config"
    path.write_text("\n".join(random_lines(rng, tmp_path)) + "\n")
    cache = ConfigCache(Environment(_home=str(tmp_path)))
    for host in rng.sample(HOSTS, 2):
        options = rng.choice([[], ["-l", "root"], ["-o", "HostName=real"], ["-p", "77"]])
        given = SSHOptions.parse_command_line(" ".join(options)).settings(host)
        ours = as_openssh_prints(lookup([cache.load(str(path))], host, given, cache))
        theirs = openssh_settings(path, host, *options)
        assert ours == {name: theirs.get(name) for name in ours}, path.read_text()
