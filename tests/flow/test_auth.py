"""Which attempts are made, in which order, and how a failure is explained."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pyclustershell.ssh.auth import authenticator as auth
from pyclustershell.ssh.auth.agent import AgentError, AgentKey, Identity
from pyclustershell.ssh.auth.authenticator import (
    ASIDE,
    MAX_ATTEMPTS,
    Attempt,
    Authenticator,
    KeyStore,
)
from pyclustershell.ssh.config.askonce import AskOnce
from pyclustershell.ssh.config.environment import Environment
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.settings import ConnectionSettings
from pyclustershell.ssh.config.sshconfig import ConfigCache
from tests.helpers.disk import no_disk, stamp_clock
from tests.helpers.needs import require
from tests.servers import processes
from tests.servers.sshd import Sshd

PUBLICKEY = ("publickey",)
ALL = ("publickey", "password", "keyboard-interactive")


def make_key(path: Path, passphrase: str = "") -> bytes:
    """Write a key pair; return the public key's blob."""
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = form.encryption_builder().kdf_rounds(1).build(passphrase.encode())
    path.touch(mode=0o600)  # others must not read it
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_name(path.name + ".pub").write_bytes(line)
    public = KeyStore().load(str(path) + ".pub").public
    assert public
    return public


class FakeAgent:
    """Stands for the agent client: holds public keys, signs nothing."""

    def __init__(self, *blobs: bytes) -> None:
        self.path = "/run/agent"
        self.blobs = blobs
        self.asked = 0
        self.error = ""

    def __call__(self, path: str, timeout: Optional[float] = None) -> FakeAgent:
        assert timeout
        self.path = path
        return self

    def identities(self) -> list[Identity]:
        self.asked += 1
        if self.error:
            raise AgentError(self.error)
        return [Identity(blob, f"key {number}") for number, blob in enumerate(self.blobs)]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent()
    monkeypatch.setattr(auth, "AgentClient", fake)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    return fake


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def settings_for(home: Path, *overrides: str, **options: Any) -> ConnectionSettings:
    given = SSHOptions(config_files="none", user="bob", overrides=overrides, **options)
    cache = ConfigCache(Environment("me", str(home), "here"))
    return resolve("node1", given, config_cache=cache)


def authenticator(home: Path, *overrides: str, **options: Any) -> Authenticator:
    return Authenticator(settings_for(home, *overrides, **options), KeyStore())


def run(tried: Authenticator, allowed: Sequence[str] = ALL) -> Iterator[Attempt]:
    """Go through the attempts of a connection to a server that refuses them all, after 'none'."""
    attempt = tried.next(None, False)
    assert attempt is not None
    assert attempt.method == "none"
    attempt = tried.next(tuple(allowed), False)
    while attempt is not None:
        yield attempt
        attempt = tried.next(tuple(allowed), False)


def described(attempts: Iterator[Attempt]) -> list[str]:
    return [attempt.description for attempt in attempts]


# -- keys ------------------------------------------------------------------------------------------


def test_default_keys_that_exist_are_tried(home: Path) -> None:
    make_key(home / ".ssh" / "id_rsa")
    make_key(home / ".ssh" / "id_ed25519")
    tried = authenticator(home)
    expected = [f"key {home / '.ssh' / 'id_ed25519'}", f"key {home / '.ssh' / 'id_rsa'}"]
    assert described(run(tried, PUBLICKEY)) == expected
    assert tried.failure().sentence == "bob@node1: Permission denied (publickey)."


@pytest.mark.needs("ssh-keygen")
def test_keys_are_read_and_looked_at_by_threads_that_may_wait(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, store = stamp_clock(monkeypatch), KeyStore()
    paths = [home / ".ssh" / name for name in ("id_ed25519", "id_rsa")]
    for path in paths:
        make_key(path)
    make_key(home / "ca")
    processes.set_mode(home / "ca", 0o600)
    command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", "x", f"{paths[1]}.pub"]
    processes.run(*command)

    def attempts() -> list[str]:
        tried, found = Authenticator(settings_for(home), store), []
        with no_disk():
            tried.next(None, False, wait=False)
            attempt = tried.next(ALL, False, wait=False)
        while attempt is not None:
            found.append(attempt.description)
            if attempt is ASIDE:
                attempt = tried.next_after_wait()
                continue
            with no_disk():
                attempt = tried.next(ALL, False, wait=False)
        return found

    first, certificate, second = keys = [
        f"key {paths[0]}",
        f"certificate of key {paths[1]}",
        f"key {paths[1]}",
    ]
    aside = ASIDE.description
    # The thread that reads a key goes on as far as the next attempt: id_ecdsa does not exist.
    assert attempts() == [aside, first, aside, certificate, second]
    assert attempts() == keys
    clock[0] += 1.1
    assert attempts() == [aside, first, aside, certificate, second]
    assert attempts() == keys


def test_attempts_that_are_left_are_looked_for_by_threads_that_may_wait(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp_clock(monkeypatch)
    pkeys = [paramiko.ECDSAKey.generate() for _ in range(MAX_ATTEMPTS - 1)]
    for note in (False, True):
        tried = authenticator(home, pkeys=pkeys, password="secret", identity_files=home / "id")
        if note:
            make_key(home / "id")
        attempt: Optional[Attempt]
        attempt = tried.next(None, False, wait=False)
        for _ in range(MAX_ATTEMPTS):
            with no_disk():
                attempt = tried.next(ALL, False, wait=False)
        assert attempt is ASIDE
        attempt = tried.next_after_wait()
        assert attempt is not None
        assert attempt.method == "password"
        assert ("more are left" in str(tried.failure())) is note


def test_the_order_of_keys(home: Path, agent: FakeAgent) -> None:
    blobs = [make_key(home / name) for name in ("named", "in_code", "agents", "both")]
    agent.blobs = (blobs[2], blobs[3])
    pem = (home / "in_code").read_bytes()
    tried = authenticator(home, pkeys=[pem], identity_files=[home / "named", home / "both"])
    attempts = list(run(tried))
    assert [attempt.pkey and attempt.pkey.asbytes() for attempt in attempts] == [
        blobs[1],
        blobs[0],
        blobs[3],  # once, although the agent also has it
        blobs[2],
    ]
    assert attempts[3].description == "key 'key 0' of the agent"
    assert agent.asked == 1


def test_identities_only(home: Path, agent: FakeAgent) -> None:
    named = make_key(home / "named", "geheim")
    agent.blobs = (make_key(home / "other"), named)
    tried = authenticator(home, identity_files=[home / "named"], identities_only=True)
    (attempt,) = run(tried)
    assert isinstance(attempt.pkey, AgentKey)
    assert attempt.pkey.asbytes() == named
    assert attempt.description == f"key {home / 'named'} in the agent"


def test_a_public_key_names_one_of_the_agent(home: Path, agent: FakeAgent) -> None:
    blob = make_key(home / "key")
    (home / "key").unlink()
    agent.blobs = (blob,)
    for path in (home / "key", home / "key.pub"):
        (attempt,) = run(authenticator(home, identity_files=path, identities_only=True))
        assert attempt.pkey is not None
        assert attempt.pkey.asbytes() == blob


def test_default_keys_come_after_the_agents(home: Path, agent: FakeAgent) -> None:
    make_key(home / ".ssh" / "id_rsa")
    agent.blobs = (make_key(home / "a"),)
    tried = authenticator(home)
    expected = ["key 'key 0' of the agent", f"key {home / '.ssh' / 'id_rsa'}"]
    assert described(run(tried)) == expected


def test_no_agent_is_asked_if_agents_are_off(home: Path, agent: FakeAgent) -> None:
    assert described(run(authenticator(home, agent=False))) == []
    assert agent.asked == 0


def test_an_agent_is_only_asked_when_its_turn_comes(home: Path, agent: FakeAgent) -> None:
    make_key(home / "key")
    assert authenticator(home, identity_files=home / "key").next(None, False)
    assert agent.asked == 0


def test_the_agent_that_is_named_is_asked(home: Path, agent: FakeAgent) -> None:
    agent.blobs = (make_key(home / "a"),)
    assert len(list(run(authenticator(home, agent="~/socket")))) == 1
    assert agent.path == f"{home}/socket"


def test_an_agent_that_fails_is_named_in_the_failure(home: Path, agent: FakeAgent) -> None:
    agent.error = "the agent refused"
    tried = authenticator(home)
    assert described(run(tried, PUBLICKEY)) == []
    assert "(/run/agent: the agent refused)" in tried.failure().sentence


def test_never_more_attempts_than_servers_allow(home: Path, agent: FakeAgent) -> None:
    agent.blobs = tuple(make_key(home / f"key{number}") for number in range(10))
    tried = authenticator(home)
    assert len(list(run(tried))) == MAX_ATTEMPTS
    assert "gave up after 6 attempts" in tried.failure().sentence


def test_many_keys_leave_an_attempt_for_the_password(home: Path, agent: FakeAgent) -> None:
    agent.blobs = tuple(make_key(home / f"key{number}") for number in range(10))
    tried = authenticator(home, password="geheim")
    attempts = list(run(tried))
    assert [attempt.method for attempt in attempts] == ["publickey"] * 5 + ["password"]
    assert "tried 5 keys, and more are left" in tried.failure().sentence


def test_keys_that_are_objects(home: Path) -> None:
    key = paramiko.ECDSAKey.generate()
    (attempt,) = run(authenticator(home, pkeys=key))
    assert attempt.pkey is key
    assert key.fingerprint in attempt.description


@pytest.mark.needs("ssh-keygen")
def test_certificates_come_before_the_plain_key(home: Path) -> None:
    make_key(home / "ca")
    processes.set_mode(home / "ca", 0o600)
    for name in ("key", "other"):
        make_key(home / name)
        public = home / f"{name}.pub"
        command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", name, "-n", "bob", public]
        processes.run(*command)
    beside = list(run(authenticator(home, identity_files=home / "key")))
    assert [attempt.description for attempt in beside] == [
        f"certificate of key {home / 'key'}",
        f"key {home / 'key'}",
    ]
    certificate = home / "key-cert.pub"
    moved = certificate.rename(home / "moved-cert.pub")
    for given in (moved, moved.read_text()):
        options = {"identity_files": home / "key", "certificates": [given, home / "other-cert.pub"]}
        named = list(run(authenticator(home, **options)))
        assert [auth._identifier(a.pkey) for a in named if a.pkey] == [
            auth._identifier(a.pkey) for a in beside if a.pkey
        ]


@pytest.mark.needs("ssh-keygen")
def test_a_certificate_lies_beside_every_kind_of_key_file(home: Path, agent: FakeAgent) -> None:
    make_key(home / "ca")
    processes.set_mode(home / "ca", 0o600)
    agent.blobs = (make_key(home / "key"),)
    command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", "x", "-n", "bob", home / "key.pub"]
    processes.run(*command)
    only_key = {"identities_only": True}
    in_code = described(run(authenticator(home, pkeys=home / "key", **only_key)))
    assert in_code == [f"certificate of key {home / 'key'}", f"key {home / 'key'}"]
    (home / "key").unlink()
    # The agent has the private key; the file names it.
    for name in ("key", "key.pub"):
        tried = authenticator(home, identity_files=home / name, **only_key)
        kept = f"{home / name} in the agent"
        assert described(run(tried, PUBLICKEY)) == [f"certificate of key {kept}", f"key {kept}"]


def test_a_certificate_that_is_none_is_named(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", certificates=home / "key.pub")
    assert len(list(run(tried, PUBLICKEY))) == 1
    assert "key.pub is not an OpenSSH certificate" in tried.failure().sentence


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "no such identity file"),
        ("nonsense", "is not a private key"),
        ("encrypted", "is encrypted, and no passphrase was given"),
    ],
)
def test_keys_that_cannot_be_used_are_passed_over_and_named(
    home: Path, content: Optional[str], hint: str
) -> None:
    if content == "encrypted":
        make_key(home / "bad", "geheim")
    elif content is not None:
        (home / "bad").write_text(content)
    make_key(home / "good")
    tried = authenticator(home, identity_files=[home / "bad", home / "good"])
    assert described(run(tried, PUBLICKEY)) == [f"key {home / 'good'}"]
    sentence = tried.failure().sentence
    assert sentence.startswith(f"bob@node1: Permission denied (publickey). ({home / 'bad'}")
    assert hint in sentence


def test_a_default_key_that_is_encrypted_is_named(home: Path) -> None:
    make_key(home / ".ssh" / "id_rsa", "geheim")
    tried = authenticator(home)
    assert described(run(tried, PUBLICKEY)) == []
    assert "id_rsa is encrypted" in tried.failure().sentence
    (attempt,) = run(authenticator(home, passphrase=lambda _node: "geheim"))
    assert attempt.method == "publickey"


# -- methods ---------------------------------------------------------------------------------------


def test_nothing_to_offer(home: Path) -> None:
    tried = authenticator(home)
    assert not list(run(tried, ("publickey", "password")))
    error = tried.failure()
    assert (error.node, error.phase) == ("node1", "authentication")
    assert error.cause == "Permission denied (publickey,password)"
    assert error.sentence == (
        "bob@node1: Permission denied (publickey,password). (no key to offer)"
    )


def test_only_methods_that_the_server_allows(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    assert [attempt.method for attempt in run(tried, ("password",))] == ["password"]


def test_a_password_is_sent_in_both_ways_but_asked_for_once(home: Path) -> None:
    asked: list[str] = []

    def ask(node: str) -> str:
        asked.append(node)
        return "geheim"

    attempts = list(run(authenticator(home, password=ask)))
    assert [attempt.method for attempt in attempts] == ["password", "keyboard-interactive"]
    assert attempts[1].handler is not None
    # The server begins with a round without a question.
    assert list(attempts[1].handler("", "", [])) == []
    assert list(attempts[1].handler("", "", [("Password: ", False)])) == ["geheim"]
    assert asked == ["node1"]


@pytest.mark.parametrize("end", ["next", "ended"])
def test_a_password_that_is_refused_in_one_way_is_not_yet_refused(home: Path, end: str) -> None:
    once = AskOnce(lambda node: "geheim")
    tried, other = (authenticator(home, password=once) for _ in range(2))
    assert method_of(tried.next(None, False)) == "none"
    assert method_of(tried.next(ALL, False)) == "password"
    assert method_of(tried.next(ALL, False)) == "keyboard-interactive"
    assert method_of(other.next(None, False)) == "none"
    assert method_of(other.next(ALL, False)) == "wait"
    if end == "next":
        assert tried.next(ALL, False) is None
    else:
        tried.ended()
    assert other.next_after_wait() is None
    assert "the answer that node1 refused is not sent to other nodes" in other.failure().sentence


def test_a_password_that_has_to_be_changed(home: Path) -> None:
    tried = authenticator(home, password="geheim")
    assert next(run(tried, ("password",))).method == "password"
    tried.note_change_request("Choose another one")
    assert tried.next(None, False) is None
    error = tried.failure()
    assert error.cause.endswith("the server asks for a new password: Choose another one")
    assert error.sentence.endswith("(log in with ssh to change it)")


def test_preferred_authentications(home: Path) -> None:
    make_key(home / "key")
    options: dict[str, Any] = {"identity_files": home / "key", "password": "geheim"}
    tried = authenticator(home, "PreferredAuthentications=password,publickey", **options)
    assert [attempt.method for attempt in run(tried)] == ["password", "publickey"]
    tried = authenticator(home, "PubkeyAuthentication=no", **options)
    assert [attempt.method for attempt in run(tried)] == ["password", "keyboard-interactive"]
    tried = authenticator(home, "PasswordAuthentication=no", **options)
    assert [attempt.method for attempt in run(tried)] == ["publickey", "keyboard-interactive"]


def test_a_password_is_not_shown(home: Path) -> None:
    (attempt,) = run(authenticator(home, password="geheim"), ("password",))
    assert attempt.password == "geheim"
    assert "geheim" not in repr(attempt)


def test_a_password_of_a_function(home: Path) -> None:
    (attempt,) = run(authenticator(home, password=lambda node: f"{node}!"), ("password",))
    assert attempt.password == "node1!"


def _raise(*_: object) -> Any:
    raise RuntimeError("geheim")


@pytest.mark.parametrize(
    ("password", "hint"),
    [(_raise, "the password function failed: RuntimeError"), (lambda _: None, "no password")],
)
def test_a_function_that_gives_no_password(home: Path, password: Any, hint: str) -> None:
    tried = authenticator(home, password=password)
    assert described(run(tried, ("password",))) == []
    sentence = tried.failure().sentence
    assert hint in sentence
    assert "geheim" not in sentence


def test_a_password_answers_the_one_question(home: Path) -> None:
    tried = authenticator(home, password="geheim")
    attempts = list(run(tried, ("keyboard-interactive",)))
    assert [attempt.method for attempt in attempts] == ["keyboard-interactive"]
    handler = attempts[0].handler
    assert handler is not None
    assert list(handler("", "", [("Password: ", False)])) == ["geheim"]
    assert list(handler("", "", [])) == []
    # Asked again, it was wrong: giving it again would only cost another attempt.
    assert list(handler("", "", [("Password: ", False)])) == [""]
    assert "asks for more than a password" in tried.failure().sentence


@pytest.mark.parametrize(
    "prompts", [[("Name: ", True)], [("Password: ", False), ("Code: ", False)]]
)
def test_a_password_is_no_answer_to_other_questions(
    home: Path, prompts: list[tuple[str, bool]]
) -> None:
    tried = authenticator(home, "PreferredAuthentications=keyboard-interactive", password="geheim")
    (attempt,) = run(tried, ("keyboard-interactive",))
    assert attempt.handler is not None
    assert list(attempt.handler("", "", prompts)) == [""] * len(prompts)


def test_keyboard_interactive(home: Path) -> None:
    asked = []

    def answer(*question: object) -> list[str]:
        asked.append(question)
        return ["geheim", "123456"]

    tried = authenticator(home, keyboard_interactive=answer)
    (attempt,) = run(tried)
    assert attempt.method == "keyboard-interactive"
    assert attempt.handler is not None
    prompts = [("Password: ", False), ("Code: ", True)]
    assert list(attempt.handler("title", "instructions", prompts)) == ["geheim", "123456"]
    assert list(attempt.handler("", "", [])) == []
    assert asked == [("node1", "title", "instructions", tuple(prompts))]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (_raise, "the keyboard_interactive function failed: RuntimeError"),
        (lambda *_: [], "asked 1 questions, but keyboard_interactive returned 0 answers"),
        (lambda *_: [None], "keyboard_interactive returned answers that are not strings"),
        (lambda *_: None, "the keyboard_interactive function failed: TypeError"),
    ],
)
def test_wrong_answers_fail_the_attempt_only(home: Path, answer: Any, hint: str) -> None:
    tried = authenticator(home, keyboard_interactive=answer)
    (attempt,) = run(tried)
    assert attempt.handler is not None
    assert list(attempt.handler("", "", [("Code: ", False)])) == [""]
    assert hint in tried.failure().sentence


def test_a_failure_names_the_unsupported_settings_of_the_configuration(home: Path) -> None:
    notes = {
        "hostbased": "HostbasedAuthentication (the command line) is not supported",
        "publickey": "PKCS11Provider (the command line) is not supported",
    }
    for method in notes:
        tried = authenticator(home, "HostbasedAuthentication=yes", "PKCS11Provider=/lib/x.so")
        list(run(tried, (method,)))
        sentence = tried.failure().sentence
        assert [name for name, note in notes.items() if note in sentence] == [method]


def test_gssapi_comes_first_if_it_can_be_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "gssapi_obstacle", lambda: "")
    make_key(home / "key")
    settings = ["GSSAPIAuthentication=yes"]
    tried = authenticator(home, *settings, identity_files=home / "key")
    assert [a.method for a in run(tried, (*ALL, "gssapi-with-mic"))] == [
        "gssapi-with-mic",
        "publickey",
    ]
    assert "publickey" in [a.method for a in run(authenticator(home, identity_files=home / "key"))]


def test_gssapi_is_explained_only_if_the_server_offers_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "gssapi_obstacle", lambda: "paramiko 5 has none")
    tried = authenticator(home, "GSSAPIAuthentication=yes")
    assert not list(run(tried, PUBLICKEY))
    assert "GSSAPI" not in tried.failure().sentence
    tried = authenticator(home, "GSSAPIAuthentication=yes")
    assert not list(run(tried, ("gssapi-with-mic",)))
    sentence = tried.failure().sentence
    assert "(GSSAPI cannot be used: paramiko 5 has none)" in sentence


def test_a_server_that_has_had_enough_is_explained(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    list(run(tried, ("publickey", "password")))
    error = tried.disconnection("Too many authentication failures")
    assert error.cause == "Too many authentication failures"
    assert "after 2 attempts, 1 of them with keys: name the right key" in error.sentence
    assert tried.disconnection("Goodbye").sentence == "bob@node1: Goodbye"


def test_a_server_that_is_not_trusted_gets_no_secret(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(
        home, identity_files=home / "key", password="geheim", keyboard_interactive=_raise
    )
    tried.server_is_trusted = False
    assert [attempt.method for attempt in run(tried)] == ["publickey"]
    assert "has changed, so no password is sent to it" in tried.failure().sentence


# -- several steps ---------------------------------------------------------------------------------


def method_of(attempt: Optional[Attempt]) -> Optional[str]:
    return attempt and attempt.method


def test_a_key_and_then_a_password(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    assert method_of(tried.next(None, False)) == "none"
    assert method_of(tried.next(PUBLICKEY, False)) == "publickey"
    assert method_of(tried.next(("keyboard-interactive",), True)) == "keyboard-interactive"
    assert tried.next(("keyboard-interactive",), False) is None


def test_a_password_and_then_a_key_that_came_too_early(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    assert method_of(tried.next(None, False)) == "none"
    assert method_of(tried.next(PUBLICKEY, False)) == "publickey"
    assert method_of(tried.next(("password",), False)) == "password"
    assert method_of(tried.next(("publickey",), True)) == "publickey"
    assert tried.next(("publickey",), False) is None


def test_two_keys(home: Path) -> None:
    for name in "abc":
        make_key(home / name)
    tried = authenticator(home, identity_files=[home / name for name in "abc"])
    answers: list[tuple[Optional[tuple[str, ...]], bool]]
    assert method_of(tried.next(None, False)) == "none"
    answers = [(PUBLICKEY, False), (PUBLICKEY, False), (PUBLICKEY, True), (PUBLICKEY, False)]
    attempts = [tried.next(*answer) for answer in answers]
    assert [attempt and attempt.description[-1] for attempt in attempts] == ["a", "b", "a", "c"]
    assert tried.next(PUBLICKEY, False) is None


# -- a real server ---------------------------------------------------------------------------------


def log_in(server: Sshd, tried: Authenticator) -> list[str]:
    """Make the attempts on a connection until one succeeds; return their descriptions."""
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port), 10))
    made: list[str] = []
    try:
        transport.start_client(timeout=20)
        allowed: Optional[tuple[str, ...]] = None
        partial = False
        while not transport.is_authenticated():
            attempt = tried.next(allowed, partial)
            if attempt is None:
                raise tried.failure()
            if attempt.method == "none":
                with suppress(paramiko.BadAuthenticationType):
                    transport.auth_none(server.user)
                allowed = PUBLICKEY
                continue
            made.append(attempt.description)
            assert attempt.pkey is not None
            try:
                allowed = tuple(transport.auth_publickey(server.user, attempt.pkey))
                partial = bool(allowed)
            except paramiko.AuthenticationException:
                allowed, partial = PUBLICKEY, False
    finally:
        transport.close()
    return made


def test_openssh_takes_the_key_after_others(sshd: Sshd, home: Path) -> None:
    make_key(home / "wrong")
    tried = authenticator(home, identity_files=[home / "wrong", sshd.key])
    assert log_in(sshd, tried) == [f"key {home / 'wrong'}", f"key {sshd.key}"]


@pytest.mark.needs("ssh-keygen")
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_openssh_takes_two_keys_and_certificates(
    home: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    require("sshd")
    directory = tmp_path_factory.mktemp("sshd")
    make_key(home / "ca")
    processes.set_mode(home / "ca", 0o600)
    settings = {
        "TrustedUserCAKeys": home / "ca.pub",
        "AuthenticationMethods": "publickey,publickey",
    }
    with Sshd(directory, nodes=1, **settings) as server:
        path = home / "key"
        processes.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path)
        command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", "id", "-n", server.user]
        processes.run(*command, home / "key.pub")
        tried = authenticator(home, identity_files=[path, server.key])
        made = log_in(server, tried)
    assert made == [f"certificate of key {path}", f"key {path}", f"key {server.key}"]
