"""known_hosts files, the policies, and a thousand new hosts at once."""

from __future__ import annotations

import base64
import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pyclustershell import platform
from pyclustershell.exceptions import (
    HostKeyChangedError,
    HostKeyError,
    HostKeyRevokedError,
    UnknownHostKeyError,
)
from pyclustershell.local import filelock
from pyclustershell.ssh.config.filestamp import file_stamp
from pyclustershell.ssh.config.memo import LookupPending
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys import checker as hostkeys
from pyclustershell.ssh.hostkeys import knownhosts
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker, HostKeyStatus, KnownHostsResult
from pyclustershell.ssh.hostkeys.knownhosts import (
    CERT_AUTHORITY,
    HashedLines,
    KnownHost,
    KnownHosts,
    fingerprint,
    format_line,
    hash_name,
    host_name,
    parse_known_host,
)
from tests.helpers.disk import no_disk, stamp_clock
from tests.helpers.waiting import wait_until
from tests.servers import processes

ED25519 = "ssh-ed25519"


def blob(number: int, key_type: str = ED25519) -> bytes:
    """A public key as it is sent over the wire; its contents do not matter here."""
    body = number.to_bytes(32, "big")
    return b"".join(len(part).to_bytes(4, "big") + part for part in (key_type.encode(), body))


def line(names: str, number: int, key_type: str = ED25519, marker: str = "") -> str:
    encoded = base64.b64encode(blob(number, key_type)).decode()
    return f"{marker} {names} {key_type} {encoded}".strip()


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / ".ssh" / "known_hosts"


def settings_for(
    known_hosts: Path, host: str = "node1", policy: str = "strict", **options: object
) -> ConnectionSettings:
    overrides = ["GlobalKnownHostsFile=none"]
    given = {"config_files": "none", "known_hosts": known_hosts, "overrides": overrides, **options}
    return resolve(
        host,
        SSHOptions(host_key_policy=policy, **given),  # type: ignore[arg-type]
        config_cache=ConfigCache(),
    )


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def status(settings: ConnectionSettings, key: bytes) -> HostKeyStatus:
    return HostKeyChecker().look_up(settings, key).status


# -- the format ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "# a comment", "  # node1 ssh-ed25519 AAAA"])
def test_comments_and_empty_lines(text: str) -> None:
    assert parse_known_host(text, "f", 1) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node1", "fields are missing"),
        ("node1 ssh-ed25519", "fields are missing"),
        ("@what " + line("node1", 1), "unknown marker @what"),
        (line("node1", 1).replace(ED25519, "ssh-rsa"), "not of the type"),
        ("node1 ssh-ed25519 AAAA", "not of the type"),
        ("node1 ssh-ed25519 A", "base64|padding|characters"),
        ("node1 ssh-ed25519 \xe4\xf6\xfc", "ASCII"),
        ("node1 1024 35 1234567890", "not of the type|base64|padding|characters"),
        (line("|2|AAAA|AAAA", 1), "unknown kind of hash"),
        (line("|1|AAAA", 1), "hash of the host name is damaged"),
        (line("|1|AAAA|AAAA", 1), "20 bytes each"),
        (line("node1", 1).replace(" ", "\f"), "fields are missing"),
        (line("node1", 1).replace(" ", "\u00a0"), "fields are missing"),
        (line("node1", 1) + "=", "wrong padding"),
        (line("node1", 1) + "\fx", "base64 text is damaged"),
        (line("x" * 1023 + ",node1", 1), "longer than 1022 bytes"),
        (line("*", 1, marker=CERT_AUTHORITY).replace(" ", "\t", 1), "a tab follows"),
        (line("|1|A|AAAA", 1), "base64|padding|characters"),
    ],
)
def test_wrong_lines(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_known_host(text, "f", 1)


def test_wrong_lines_are_passed_over_with_one_warning(
    known_hosts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(known_hosts, "nonsense", line("node1", 1), "more nonsense here")
    with caplog.at_level(logging.WARNING, "pyclustershell.hostkeys"):
        assert status(settings_for(known_hosts), blob(1)) is HostKeyStatus.KNOWN
    (message,) = caplog.messages
    reason = "fields are missing: write HOSTS TYPE KEY"
    assert message == f"{known_hosts}: ignoring 2 invalid lines, first line 1: {reason}"


@pytest.mark.parametrize(
    ("names", "host", "known"),
    [
        ("node1", "node1", True),
        ("NODE1", "node1", True),
        ("node1", "NODE1", True),
        ("a,node1,b", "node1", True),
        ("node1", "node10", False),
        ("node*", "node1", True),
        ("node?", "node12", False),
        ("*,!node1", "node1", False),
        ("*,!node2", "node1", True),
        ("!node2", "node1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("::1", "::1", True),
    ],
)
def test_names_and_patterns(known_hosts: Path, names: str, host: str, known: bool) -> None:
    write(known_hosts, line(names, 1) + " a comment")
    expected = HostKeyStatus.KNOWN if known else HostKeyStatus.UNKNOWN
    assert status(settings_for(known_hosts, host), blob(1)) is expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[node1]:2222", HostKeyStatus.KNOWN),
        ("[node?]:2222", HostKeyStatus.KNOWN),
        ("[node1]:2223", HostKeyStatus.UNKNOWN),
        # As in OpenSSH, the name without a port is used if there is none with the port.
        ("node1", HostKeyStatus.KNOWN),
    ],
)
def test_ports(known_hosts: Path, names: str, expected: HostKeyStatus) -> None:
    write(known_hosts, line(names, 1))
    assert status(settings_for(known_hosts, port=2222), blob(1)) is expected


def test_another_key_on_the_default_port_is_not_a_change(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1))
    assert status(settings_for(known_hosts, port=2222), blob(2)) is HostKeyStatus.UNKNOWN
    write(known_hosts, line("node1", 1), line("[node1]:2222", 3))
    assert status(settings_for(known_hosts, port=2222), blob(2)) is HostKeyStatus.CHANGED


def test_lines_with_the_port_decide_against_lines_of_the_host_alone(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1), line("[node1]:2222", 2))
    settings = settings_for(known_hosts, port=2222)
    assert status(settings, blob(1)) is HostKeyStatus.CHANGED
    assert status(settings, blob(2)) is HostKeyStatus.KNOWN


def test_an_alias_stands_for_host_and_port(known_hosts: Path) -> None:
    write(known_hosts, line("cluster", 1))
    settings = settings_for(
        known_hosts, port=2222, overrides=["HostKeyAlias=Cluster", "GlobalKnownHostsFile=none"]
    )
    assert status(settings, blob(1)) is HostKeyStatus.KNOWN
    assert status(settings, blob(2)) is HostKeyStatus.CHANGED


def test_a_host_may_have_several_keys(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1), line("node1", 2), line("node1", 3, "ssh-rsa"))
    settings = settings_for(known_hosts)
    for number, key_type in ((1, ED25519), (2, ED25519), (3, "ssh-rsa")):
        assert status(settings, blob(number, key_type)) is HostKeyStatus.KNOWN
    assert status(settings, blob(4)) is HostKeyStatus.CHANGED


def test_revoked_keys_are_refused_whatever_else_is_said(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1), line("*", 1, marker="@revoked"))
    for policy in ("strict", "accept-new", "off"):
        with pytest.raises(
            HostKeyRevokedError, match=re.escape(f"revoked in {known_hosts} line 2")
        ):
            HostKeyChecker().check(settings_for(known_hosts, policy=policy), ED25519, blob(1))


def test_a_revoked_key_says_nothing_of_others(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1, marker="@revoked"))
    assert status(settings_for(known_hosts), blob(2)) is HostKeyStatus.UNKNOWN
    assert HostKeyChecker().known_algorithms(settings_for(known_hosts)) == ()


def test_an_authority_is_no_host_key(known_hosts: Path) -> None:
    write(known_hosts, line("*", 1, marker="@cert-authority"))
    assert status(settings_for(known_hosts), blob(1)) is HostKeyStatus.UNKNOWN
    assert ED25519 not in HostKeyChecker().known_algorithms(settings_for(known_hosts))


def test_the_systems_file_counts_too(known_hosts: Path, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "hosts", line("node1", 1))
    settings = settings_for(known_hosts, overrides=[f"GlobalKnownHostsFile={tmp_path}/etc/hosts"])
    assert status(settings, blob(1)) is HostKeyStatus.KNOWN


def test_keys_can_be_pinned_in_code(known_hosts: Path) -> None:
    settings = replace(settings_for(known_hosts), known_hosts=(line("node1", 1),))
    checker = HostKeyChecker()
    checker.check(settings, ED25519, blob(1))
    with pytest.raises(HostKeyChangedError, match="entries given in code has the ED25519 key"):
        checker.check(settings, ED25519, blob(2))


def test_a_carriage_return_alone_ends_no_line(known_hosts: Path) -> None:
    write(known_hosts, f"# a comment\r{line('node1', 1)}")
    assert status(settings_for(known_hosts), blob(1)) is HostKeyStatus.UNKNOWN
    given = f"{line('node2', 2)} a comment\u2028{line('node1', 1)}"
    options = SSHOptions(config_files="none", known_hosts=[given])
    settings = resolve("node1", options, config_cache=ConfigCache())
    assert status(settings, blob(1)) is HostKeyStatus.UNKNOWN


def test_a_file_that_changes_is_read_again(known_hosts: Path) -> None:
    settings, checker = settings_for(known_hosts), HostKeyChecker()
    assert checker.look_up(settings, blob(1)).status is HostKeyStatus.UNKNOWN
    write(known_hosts, line("node1", 1))
    assert checker.look_up(settings, blob(1)).status is HostKeyStatus.KNOWN


def test_a_file_that_cannot_be_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert status(settings_for(tmp_path), blob(1)) is HostKeyStatus.UNKNOWN  # a directory
    assert f"cannot read {tmp_path}" in caplog.text


# -- hashed names, and ssh-keygen as the oracle ----------------------------------------------------


def real_key() -> str:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return public.public_bytes(encoding, form).decode()


@pytest.mark.needs("ssh-keygen")
def test_ssh_keygen_writes_what_we_read(known_hosts: Path) -> None:
    keys = {name: real_key() for name in ("node1", "[node2]:2222", "10.0.0.1")}
    write(known_hosts, *(f"{name} {key}" for name, key in keys.items()))
    processes.run("ssh-keygen", "-q", "-H", "-f", known_hosts)
    assert known_hosts.read_text().count("|1|") == 3
    hosts = {"node1": 22, "[node2]:2222": 2222, "10.0.0.1": 22}
    for name, port in hosts.items():
        key = base64.b64decode(keys[name].split()[1])
        settings = settings_for(
            known_hosts, name.strip("[]:2") if port == 2222 else name, port=port
        )
        settings = replace(settings, hostname="node2") if port == 2222 else settings
        assert host_name(settings.hostname, port) == name
        assert status(settings, key) is HostKeyStatus.KNOWN
        assert status(settings, blob(1)) is HostKeyStatus.CHANGED
        assert HostKeyChecker().known_algorithms(settings) == (ED25519,)


@pytest.mark.needs("ssh-keygen")
@pytest.mark.parametrize("hashed", [False, True])
def test_ssh_keygen_reads_what_we_write(known_hosts: Path, hashed: bool) -> None:
    key = real_key()
    settings = settings_for(
        known_hosts,
        policy="accept-new",
        port=2222,
        overrides=[f"HashKnownHosts={'yes' if hashed else 'no'}", "GlobalKnownHostsFile=none"],
    )
    HostKeyChecker().check(settings, ED25519, base64.b64decode(key.split()[1]))
    assert ("node1" in known_hosts.read_text()) is not hashed
    found = processes.run("ssh-keygen", "-F", "[node1]:2222", "-l", "-f", known_hosts).stdout
    assert fingerprint(base64.b64decode(key.split()[1])) in found


def hashed_line(name: str, number: int, key_type: str) -> str:
    return format_line(name, key_type, blob(number, key_type), hashed=True).strip()


def test_hashed_hosts_are_found_in_any_order() -> None:
    types = (ED25519, "ssh-rsa")
    lines = [hashed_line(f"node{i}", i, types[i % 3 == 0]) for i in range(60)]
    hosts = KnownHosts.parse(lines, "f")
    for number in (*range(60), *range(59, 0, -7)):
        assert hosts.key_types(f"node{number}") == (types[number % 3 == 0],)
    assert hosts.key_types("other") == ()


def test_hosts_in_the_order_of_the_file_cost_a_few_hashes_each() -> None:
    lines = [hashed_line(f"node{i}", i, ("ssh-rsa", ED25519)[i % 2]) for i in range(60)]
    hosts = KnownHosts.parse(lines, "f")
    for number in range(60):
        hosts.key_types(f"node{number}")
    assert hosts._hashed.compared <= 3 * 60


def test_a_known_key_costs_no_search() -> None:
    lines = [hashed_line(f"node{i}", i, ED25519) for i in range(50)]
    hosts = KnownHosts.parse(lines, "f")
    assert hosts.key_types("node49") == (ED25519,)
    (entry,) = hosts.with_key("node49", blob(49))
    assert (entry.line, hosts._hashed.compared) == (50, 0)


@pytest.mark.parametrize("size", [0, 1, 20, 64, 65, 200])
def test_both_ways_of_hashing_agree(size: int) -> None:
    salt = bytes(range(size))
    entry = KnownHost("", (), salt, hash_name("node1", salt), ED25519, blob(1), "f", 1)
    lines = HashedLines([entry])
    assert lines.find("node1", [0]) == [0]
    assert lines.find("node2", [0]) == []


# -- the order of preference -----------------------------------------------------------------------


def test_known_algorithms(known_hosts: Path) -> None:
    write(
        known_hosts,
        line("node1", 1, "ssh-rsa"),
        line("node*", 2),
        line("x", 3, "ecdsa-sha2-nistp256"),
    )
    checker = HostKeyChecker()
    assert checker.known_algorithms(settings_for(known_hosts)) == (
        "rsa-sha2-512",
        "rsa-sha2-256",
        ED25519,
    )
    assert checker.known_algorithms(settings_for(known_hosts, "other")) == ()
    assert checker.known_algorithms(settings_for(known_hosts, "x", port=5)) == (
        "ecdsa-sha2-nistp256",
    )


# -- the policies ----------------------------------------------------------------------------------


def test_strict_refuses_an_unknown_host(known_hosts: Path) -> None:
    with pytest.raises(UnknownHostKeyError) as raised:
        HostKeyChecker().check(settings_for(known_hosts), ED25519, blob(1), "10.0.0.1")
    error = raised.value
    assert (error.node, error.phase, error.cause) == ("node1", "host key", "host key is not known")
    assert error.sentence == (
        f"The ED25519 host key {fingerprint(blob(1))} of node1 is not known and checking is "
        "strict; compare it and add it to known_hosts, or use the policy 'accept-new'. "
        "Host key verification failed."
    )
    assert not known_hosts.exists()


@pytest.mark.parametrize("policy", ["strict", "accept-new"])
def test_a_changed_key_is_refused_with_place_and_both_fingerprints(
    known_hosts: Path, policy: str
) -> None:
    write(known_hosts, "# comment", line("node1", 1, "ssh-rsa"))
    before = known_hosts.read_text()
    with pytest.raises(HostKeyChangedError) as raised:
        HostKeyChecker().check(settings_for(known_hosts, policy=policy), ED25519, blob(2))
    sentence = raised.value.sentence
    assert f"{known_hosts} line 2 has the RSA key {fingerprint(blob(1, 'ssh-rsa'))}" in sentence
    assert f"the server shows the ED25519 host key {fingerprint(blob(2))}" in sentence
    assert sentence.endswith("Host key verification failed.")
    assert "node1" not in raised.value.cause
    assert known_hosts.read_text() == before


@pytest.mark.parametrize(("content", "trusted"), [([], True), ([line("node1", 2)], False)])
def test_off_accepts_and_warns(
    known_hosts: Path, content: list[str], trusted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write(known_hosts, *content)
    before = known_hosts.read_text()
    with caplog.at_level(logging.WARNING, "pyclustershell.hostkeys"):
        settings = settings_for(known_hosts, policy="off")
        assert HostKeyChecker().check(settings, ED25519, blob(1)) is trusted
    assert fingerprint(blob(1)) in caplog.text
    assert known_hosts.read_text() == before


def test_accept_new_adds_a_line_once(known_hosts: Path) -> None:
    settings, checker = settings_for(known_hosts, policy="accept-new"), HostKeyChecker()
    for _ in range(2):
        checker.check(settings, ED25519, blob(1))
    assert known_hosts.read_text() == line("node1", 1) + "\n"
    with pytest.raises(HostKeyChangedError):
        checker.check(settings, ED25519, blob(2))
    assert checker.known_algorithms(settings) == (ED25519,)


@pytest.mark.posix_only("Windows has no such permissions")
def test_accept_new_makes_file_and_directory_for_their_owner_only(known_hosts: Path) -> None:
    HostKeyChecker().check(settings_for(known_hosts, policy="accept-new"), ED25519, blob(1))
    assert known_hosts.stat().st_mode & 0o777 == 0o600
    assert known_hosts.parent.stat().st_mode & 0o777 == 0o700


def test_accept_new_keeps_a_last_line_without_its_end(known_hosts: Path) -> None:
    write(known_hosts)
    known_hosts.write_text("# kept as it is\n" + line("other", 5))
    settings, checker = settings_for(known_hosts, policy="accept-new"), HostKeyChecker()
    checker.check(settings, ED25519, blob(1))
    expected = ["# kept as it is", line("other", 5), line("node1", 1)]
    assert known_hosts.read_text().splitlines() == expected
    checker.check(settings, ED25519, blob(1))
    assert len(known_hosts.read_text().splitlines()) == 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for the stamps of files; the test sets its time."""
    return stamp_clock(monkeypatch)


def test_a_thread_that_may_not_wait_asks_no_disk(
    known_hosts: Path, tmp_path: Path, clock: list[float]
) -> None:
    checker = HostKeyChecker()
    write(known_hosts, line("node1", 1))
    revoked = tmp_path / "revoked"
    revoked.write_text("")

    def outcome(settings: ConnectionSettings, key: bytes = b"") -> object:
        """The outcome on a thread that may not wait, and must ask no disk."""
        try:
            with no_disk():
                if not key:
                    return checker.known_algorithms(settings, wait=False)
                return checker.check(settings, ED25519, key, wait=False)
        except (HostKeyError, LookupPending) as error:
            return type(error)

    settings = replace(settings_for(known_hosts), revoked_host_keys=str(revoked))
    for _ in range(2):
        assert outcome(settings) is outcome(settings, blob(1)) is LookupPending
        assert checker.known_algorithms(settings) == (ED25519,)
        assert outcome(settings) == (ED25519,)
        assert outcome(settings, blob(1)) is LookupPending  # the revoked keys were not looked at
        assert checker.check(settings, ED25519, blob(1))
        assert outcome(settings, blob(1)) is True
        assert outcome(settings, blob(2)) is HostKeyChangedError
        clock[0] += 1.1
    # The files have changed, and a thread that may wait has noticed it.
    assert checker.check(settings, ED25519, blob(1))
    for path, added in ((known_hosts, line("node1", 3)), (revoked, "# a line more")):
        path.write_text(f"{path.read_text()}{added}\n")
        file_stamp(str(path))
        assert outcome(settings, blob(1)) is LookupPending
        assert checker.check(settings, ED25519, blob(1))
    assert outcome(settings, blob(3)) is True


def test_a_thread_that_may_not_wait_adds_no_key(known_hosts: Path) -> None:
    checker, settings = HostKeyChecker(), settings_for(known_hosts, policy="accept-new")
    checker.known_algorithms(settings)
    with pytest.raises(LookupPending):
        checker.check(settings, ED25519, blob(1), wait=False)
    assert not known_hosts.exists()
    assert checker.check(settings, ED25519, blob(1))
    assert checker.check(settings, ED25519, blob(1), wait=False)


def test_nobody_waits_for_the_file_lock_of_another_program(known_hosts: Path) -> None:
    write(known_hosts, line("node1", 1))
    checker = HostKeyChecker()
    settings = settings_for(known_hosts, policy="accept-new")
    checker.known_algorithms(settings)
    new = replace(settings, node="node2", hostname="node2")
    with ThreadPoolExecutor(1) as pool:
        with knownhosts.open_locked(str(known_hosts)):
            added = pool.submit(checker.check, new, ED25519, blob(2))
            wait_until(checker._adding.locked)
            # That thread waits for the lock, or is about to.
            assert checker.check(settings, ED25519, blob(1))
            assert not added.done()
        assert added.result(30)
    assert known_hosts.read_text().splitlines()[1:] == [line("node2", 2)]


def test_accept_new_sees_what_others_added(known_hosts: Path) -> None:
    checker = HostKeyChecker()
    checker.check(settings_for(known_hosts, policy="accept-new"), ED25519, blob(1))
    with known_hosts.open("a") as file:
        file.write(line("node2", 2) + "\n")
    with pytest.raises(HostKeyChangedError):
        checker.check(settings_for(known_hosts, "node2", "accept-new"), ED25519, blob(3))
    checker.check(settings_for(known_hosts, "node1"), ED25519, blob(1))


def test_accept_new_goes_on_where_the_file_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tmp_path, policy="accept-new")  # a directory
    checker = HostKeyChecker()
    checker.check(settings, ED25519, blob(1))
    assert "cannot add the host key of node1" in caplog.text
    with pytest.raises(HostKeyChangedError):
        checker.check(settings, ED25519, blob(2))


def test_a_full_disk_leaves_no_part_of_a_line(
    known_hosts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes as many bytes as there is room for, and that is no error."""
    before = line("other", 2) + "\n"
    write(known_hosts)
    known_hosts.write_text(before)
    os_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: os_write(descriptor, data[:20]))
    with caplog.at_level("INFO", "pyclustershell.hostkeys"):
        HostKeyChecker().check(settings_for(known_hosts, policy="accept-new"), ED25519, blob(1))
    assert known_hosts.read_text() == before
    assert "cannot add the host key of node1" in caplog.text
    assert "added its" not in caplog.text


def test_accept_new_without_a_file_only_warns(
    known_hosts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(settings_for(known_hosts, policy="accept-new"), known_hosts=())
    HostKeyChecker().check(settings, ED25519, blob(1))
    assert "no known_hosts file to remember" in caplog.text


def test_a_thousand_new_hosts_at_once_lose_none(
    known_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(known_hosts, *(line(f"old{i}", i) for i in range(100)))
    reads = []
    read_lines = hostkeys.read_lines
    monkeypatch.setattr(hostkeys, "read_lines", lambda path: reads.append(path) or read_lines(path))
    base = settings_for(known_hosts, policy="accept-new")
    checker = HostKeyChecker()

    def connect(number: int) -> None:
        host = f"new{number % 1000}"
        settings = replace(base, node=host, hostname=host)
        checker.check(settings, ED25519, blob(1000 + number % 1000))

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(connect, range(2000)))  # each host twice
    found = known_hosts.read_text().splitlines()
    assert len(found) == 1100
    assert set(found[100:]) == {line(f"new{i}", 1000 + i) for i in range(1000)}
    assert len(reads) == 1, "our own line is no reason to read the file again"


ONE_OF_SEVERAL = """
import base64, sys
from dataclasses import replace
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from tests.servers import processes
from tests.servers import processes

path, name, count = sys.argv[1:]
options = SSHOptions(config_files="none", known_hosts=path, host_key_policy="accept-new",
                     overrides=["GlobalKnownHostsFile=none"])
base = resolve("node", options, config_cache=ConfigCache())
checker = HostKeyChecker()
kind = b"ssh-ed25519"
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(count)):
    host = f"{name}{number}"
    key = f"{host:32}".encode()
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, key))
    checker.check(replace(base, node=host, hostname=host), kind.decode(), blob)
"""


def accept_at_once(known_hosts: Path, *names: str) -> None:
    """One process per prefix accepts 250 hosts with that prefix; all start at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_SEVERAL, str(known_hosts), name, "250"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=50)
        assert process.returncode == 0


def test_a_thousand_new_hosts_of_several_processes_at_once(known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_text("# without an end")
    names = ("a", "b", "c", "d")
    accept_at_once(known_hosts, *names)
    lines = known_hosts.read_text().split("\n")
    assert lines[0] == "# without an end"
    assert lines[-1] == ""
    expected = {f"{name}{number}" for name in names for number in range(250)}
    assert [text.split()[0] for text in lines[1:-1] if len(text.split()) != 3] == []
    assert len(lines) == 1002
    assert {text.split()[0] for text in lines[1:-1]} == expected


def test_new_hosts_that_several_processes_meet_at_once_are_added_once(known_hosts: Path) -> None:
    accept_at_once(known_hosts, "same", "same", "same")
    found = [text.split()[0] for text in known_hosts.read_text().splitlines()]
    assert found == [f"same{number}" for number in range(250)]


@pytest.mark.parametrize("key", [1, 2])
def test_what_another_process_adds_while_the_lock_is_waited_for(
    known_hosts: Path, monkeypatch: pytest.MonkeyPatch, key: int
) -> None:
    write(known_hosts, line("old", 9))

    @contextmanager
    def locked(_descriptor: int) -> Iterator[None]:
        with known_hosts.open("a") as file:
            file.write(line("node1", key) + "\n")
        yield

    monkeypatch.setattr(knownhosts, "locked", locked)
    checker, settings = HostKeyChecker(), settings_for(known_hosts, policy="accept-new")
    if key == 1:
        assert checker.check(settings, ED25519, blob(1))
    else:
        with pytest.raises(HostKeyChangedError):
            checker.check(settings, ED25519, blob(1))
    assert known_hosts.read_text().splitlines() == [line("old", 9), line("node1", key)]


def test_what_another_process_adds_after_the_host_was_looked_up(known_hosts: Path) -> None:
    write(known_hosts, line("old", 9))

    class Slow(HostKeyChecker):
        looked_up = 0

        def look_up(self, settings: ConnectionSettings, blob: bytes) -> KnownHostsResult:
            result = super().look_up(settings, blob)
            self.looked_up += 1
            if self.looked_up == 1:  # the last time before the lock
                write(known_hosts, line("old", 9), line("node1", 1))
            return result

    checker = Slow()
    assert checker.check(settings_for(known_hosts, policy="accept-new"), ED25519, blob(1))
    assert known_hosts.read_text().splitlines() == [line("old", 9), line("node1", 1)]


@pytest.mark.posix_only("Windows replaces no file that is open")
def test_a_file_that_is_replaced_while_its_lock_is_waited_for(
    known_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(known_hosts, line("old", 1))
    replaced: list[int] = []

    @contextmanager
    def locked(descriptor: int) -> Iterator[None]:
        if not replaced:  # as ssh-keygen -R does
            replaced.append(descriptor)
            other = known_hosts.with_name("new")
            write(other, line("other", 2))
            other.replace(known_hosts)
        yield

    monkeypatch.setattr(knownhosts, "locked", locked)
    checker = HostKeyChecker()
    checker.check(settings_for(known_hosts, policy="accept-new"), ED25519, blob(3))
    assert known_hosts.read_text().splitlines() == [line("other", 2), line("node1", 3)]


class Msvcrt:
    """Windows' locks, as far as they are used."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls: list[tuple[int, int, int]] = []

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        self.calls.append((mode, os.lseek(descriptor, 0, os.SEEK_CUR), count))
        if mode == self.LK_NBLCK and self.refusals:
            self.refusals -= 1
            raise PermissionError(errno.EACCES, "locked")


def test_the_lock_of_windows(known_hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    msvcrt = Msvcrt(refusals=2)
    monkeypatch.setattr(platform, "WINDOWS", True)
    monkeypatch.setattr(filelock, "import_module", lambda _name: msvcrt)
    write(known_hosts, line("old", 1))
    with knownhosts.open_locked(str(known_hosts)) as descriptor:
        knownhosts.append_line(descriptor, line("new", 2) + "\n")
    assert known_hosts.read_text().splitlines() == [line("old", 1), line("new", 2)]
    # One byte, far beyond the end: asked for until it is free, then given back.
    assert [mode for mode, _, _ in msvcrt.calls] == [2, 2, 2, 0]
    assert {(place, count) for _, place, count in msvcrt.calls} == {(0x7FFF0000, 1)}
