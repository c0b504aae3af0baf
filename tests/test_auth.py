"""Which attempts are made, in which order, and how a failure is explained."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pyclustershell.transport.auth import authenticator as auth
from pyclustershell.transport.auth.agent import AgentError, AgentKey, Identity
from pyclustershell.transport.auth.authenticator import (
    MAX_ATTEMPTS,
    Attempt,
    Authenticator,
    KeyStore,
)
from pyclustershell.transport.config.context import LocalContext
from pyclustershell.transport.config.options import SSHOptions
from pyclustershell.transport.config.resolution import resolve
from pyclustershell.transport.config.settings import ConnectionSettings
from pyclustershell.transport.config.sshconfig import ConfigCache
from tests.conftest import require_sshd
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
    cache = ConfigCache(LocalContext("me", str(home), "here"))
    return resolve("node1", given, config_cache=cache)


def authenticator(home: Path, *overrides: str, **options: Any) -> Authenticator:
    return Authenticator(settings_for(home, *overrides, **options), KeyStore())


def run(tried: Authenticator, allowed: Sequence[str] = ALL) -> Iterator[Attempt]:
    """Go through the attempts of a connection to a server that refuses them all."""
    attempt = tried.next(None, False)
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
    expected = [f"key {home}/.ssh/id_ed25519", f"key {home}/.ssh/id_rsa"]
    assert described(run(tried)) == expected
    assert tried.failure(PUBLICKEY).sentence == "bob@node1: Permission denied (publickey)."


def test_the_order_of_keys(home: Path, agent: FakeAgent) -> None:
    blobs = [make_key(home / name) for name in ("named", "in_code", "agents", "both")]
    agent.blobs = (blobs[2], blobs[3])
    pem = (home / "in_code").read_bytes()
    tried = authenticator(home, pkeys=[pem], identity_files=[home / "named", home / "both"])
    attempts = list(run(tried))
    assert [attempt.pkey and attempt.pkey.asbytes() for attempt in attempts] == [
        blobs[1],
        blobs[0],
        blobs[3],  # once, though the agent has it, too
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
    assert attempt.description == f"key {home}/named in the agent"


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
    expected = ["key 'key 0' of the agent", f"key {home}/.ssh/id_rsa"]
    assert described(run(tried)) == expected


def test_no_agent_is_asked_where_none_is_wanted(home: Path, agent: FakeAgent) -> None:
    assert described(run(authenticator(home, agent=False))) == ["no credentials"]
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
    assert described(run(tried)) == ["no credentials"]
    assert "(/run/agent: the agent refused)" in tried.failure(PUBLICKEY).sentence


def test_never_more_attempts_than_servers_allow(home: Path, agent: FakeAgent) -> None:
    agent.blobs = tuple(make_key(home / f"key{number}") for number in range(10))
    tried = authenticator(home)
    assert len(list(run(tried))) == MAX_ATTEMPTS
    assert "gave up after 6 attempts" in tried.failure(ALL).sentence


def test_many_keys_leave_an_attempt_for_the_password(home: Path, agent: FakeAgent) -> None:
    agent.blobs = tuple(make_key(home / f"key{number}") for number in range(10))
    tried = authenticator(home, password="geheim")
    attempts = list(run(tried))
    assert [attempt.method for attempt in attempts] == ["publickey"] * 5 + ["password"]
    assert "more than 5 keys" in tried.failure(ALL).sentence


def test_keys_that_are_objects(home: Path) -> None:
    key = paramiko.ECDSAKey.generate()
    (attempt,) = run(authenticator(home, pkeys=key))
    assert attempt.pkey is key
    assert key.fingerprint in attempt.description


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen to make it with")
def test_certificates_come_before_the_plain_key(home: Path) -> None:
    make_key(home / "ca")
    (home / "ca").chmod(0o600)
    for name in ("key", "other"):
        make_key(home / name)
        public = home / f"{name}.pub"
        command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", name, "-n", "bob", public]
        subprocess.run(command, check=True)
    beside = list(run(authenticator(home, identity_files=home / "key")))
    assert [attempt.description for attempt in beside] == [
        f"certificate of key {home}/key",
        f"key {home}/key",
    ]
    certificate = home / "key-cert.pub"
    moved = certificate.rename(home / "moved-cert.pub")
    for given in (moved, moved.read_text()):
        options = {"identity_files": home / "key", "certificates": [given, home / "other-cert.pub"]}
        named = list(run(authenticator(home, **options)))
        assert [auth._identifier(a.pkey) for a in named if a.pkey] == [
            auth._identifier(a.pkey) for a in beside if a.pkey
        ]


def test_a_certificate_that_is_none_is_named(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", certificates=home / "key.pub")
    assert len(list(run(tried))) == 1
    assert "key.pub is no certificate" in tried.failure(PUBLICKEY).sentence


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "no such identity file"),
        ("nonsense", "is no private key"),
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
    assert described(run(tried)) == [f"key {home}/good"]
    sentence = tried.failure(PUBLICKEY).sentence
    assert sentence.startswith(f"bob@node1: Permission denied (publickey). ({home}/bad")
    assert hint in sentence


def test_a_default_key_that_is_encrypted_is_named(home: Path) -> None:
    make_key(home / ".ssh" / "id_rsa", "geheim")
    tried = authenticator(home)
    assert described(run(tried)) == ["no credentials"]
    assert "id_rsa is encrypted" in tried.failure(PUBLICKEY).sentence
    (attempt,) = run(authenticator(home, passphrase=lambda _node: "geheim"))
    assert attempt.method == "publickey"


# -- methods ---------------------------------------------------------------------------------------


def test_nothing_to_offer(home: Path) -> None:
    tried = authenticator(home)
    (attempt,) = run(tried, ("publickey", "password"))
    assert attempt.method == "none"
    error = tried.failure(("publickey", "password"))
    assert (error.node, error.phase) == ("node1", "authentication")
    assert error.cause == "Permission denied (publickey,password)"
    assert error.sentence == (
        "bob@node1: Permission denied (publickey,password). (no key to offer)"
    )


def test_only_methods_that_the_server_allows(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    first = tried.next(("password",), False)
    assert first is not None
    assert first.method == "password"
    assert tried.next(("password",), False) is None


def test_preferred_authentications(home: Path) -> None:
    make_key(home / "key")
    options: dict[str, Any] = {"identity_files": home / "key", "password": "geheim"}
    tried = authenticator(home, "PreferredAuthentications=password,publickey", **options)
    assert [attempt.method for attempt in run(tried)] == ["password", "publickey"]
    tried = authenticator(home, "PubkeyAuthentication=no", **options)
    assert [attempt.method for attempt in run(tried)] == ["password"]
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
    [(_raise, "asking for the password failed: RuntimeError"), (lambda _: None, "no password")],
)
def test_a_function_that_gives_no_password(home: Path, password: Any, hint: str) -> None:
    tried = authenticator(home, password=password)
    assert described(run(tried, ("password",))) == ["no credentials"]
    sentence = tried.failure(("password",)).sentence
    assert hint in sentence
    assert "geheim" not in sentence


def test_a_password_answers_the_one_question(home: Path) -> None:
    tried = authenticator(home, password="geheim")
    attempts = list(run(tried, ("keyboard-interactive",)))
    assert [attempt.method for attempt in attempts] == ["password", "keyboard-interactive"]
    handler = attempts[1].handler
    assert handler is not None
    assert list(handler("", "", [("Password: ", False)])) == ["geheim"]
    assert list(handler("", "", [])) == []
    # Asked again, it was wrong: giving it again would only cost another attempt.
    assert list(handler("", "", [("Password: ", False)])) == [""]
    assert "asks for more than a password" in tried.failure(None).sentence


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
        (_raise, "asking for the answers failed: RuntimeError"),
        (lambda *_: [], "asked 1 questions, 0 answers came"),
        (lambda *_: [None], "asked 1 questions, 1 answers came"),
        (lambda *_: None, "asking for the answers failed: TypeError"),
    ],
)
def test_wrong_answers_fail_the_attempt_only(home: Path, answer: Any, hint: str) -> None:
    tried = authenticator(home, keyboard_interactive=answer)
    (attempt,) = run(tried)
    assert attempt.handler is not None
    assert list(attempt.handler("", "", [("Code: ", False)])) == [""]
    assert hint in tried.failure(ALL).sentence


def test_what_the_configuration_asks_for_is_named_where_it_was_needed(home: Path) -> None:
    tried = authenticator(home, "HostbasedAuthentication=yes", "PKCS11Provider=/lib/x.so")
    list(run(tried))
    note = "HostbasedAuthentication (the command line) is not supported"
    assert note in tried.failure(("hostbased",)).sentence
    assert note not in tried.failure(PUBLICKEY).sentence
    note = "PKCS11Provider (the command line) is not supported"
    assert note not in tried.failure(("hostbased",)).sentence
    assert note in tried.failure(PUBLICKEY).sentence


def test_gssapi_comes_first_where_it_can_be_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "gssapi_obstacle", lambda: "")
    make_key(home / "key")
    settings = ["GSSAPIAuthentication=yes"]
    tried = authenticator(home, *settings, identity_files=home / "key")
    assert [a.method for a in run(tried, (*ALL, "gssapi-with-mic"))] == [
        "gssapi-with-mic",
        "publickey",
    ]
    assert "publickey" in [a.method for a in run(authenticator(home, identity_files=home / "key"))]


def test_gssapi_is_explained_only_where_the_server_wants_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "gssapi_obstacle", lambda: "paramiko 5 has none")
    tried = authenticator(home, "GSSAPIAuthentication=yes")
    assert [a.method for a in run(tried, PUBLICKEY)] == ["none"]
    assert "GSSAPI" not in tried.failure(PUBLICKEY).sentence
    tried = authenticator(home, "GSSAPIAuthentication=yes")
    assert [a.method for a in run(tried, ("gssapi-with-mic",))] == ["none"]
    sentence = tried.failure(("gssapi-with-mic",)).sentence
    assert "(GSSAPI cannot be used: paramiko 5 has none)" in sentence


def test_a_server_that_has_had_enough_is_explained(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    list(run(tried))
    error = tried.cut_off("Too many authentication failures")
    assert error.cause == "Too many authentication failures"
    assert "after 2 attempts, 1 of them with keys: name the right key" in error.sentence
    assert tried.cut_off("Goodbye").sentence == "bob@node1: Goodbye"


def test_a_server_that_is_not_trusted_gets_no_secret(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(
        home, identity_files=home / "key", password="geheim", keyboard_interactive=_raise
    )
    tried.server_is_trusted = False
    assert [attempt.method for attempt in run(tried)] == ["publickey"]
    assert "has changed, so it is given no password" in tried.failure(ALL).sentence


# -- several steps ---------------------------------------------------------------------------------


def method_of(attempt: Optional[Attempt]) -> Optional[str]:
    return attempt and attempt.method


def test_a_key_and_then_a_password(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    assert method_of(tried.next(None, False)) == "publickey"
    assert method_of(tried.next(("keyboard-interactive",), True)) == "keyboard-interactive"
    assert tried.next(("keyboard-interactive",), False) is None


def test_a_password_and_then_a_key_that_came_too_early(home: Path) -> None:
    make_key(home / "key")
    tried = authenticator(home, identity_files=home / "key", password="geheim")
    assert method_of(tried.next(None, False)) == "publickey"
    assert method_of(tried.next(("password",), False)) == "password"
    assert method_of(tried.next(("publickey",), True)) == "publickey"
    assert tried.next(("publickey",), False) is None


def test_two_keys(home: Path) -> None:
    for name in "abc":
        make_key(home / name)
    tried = authenticator(home, identity_files=[home / name for name in "abc"])
    answers: list[tuple[Optional[tuple[str, ...]], bool]]
    answers = [(None, False), (PUBLICKEY, False), (PUBLICKEY, True), (PUBLICKEY, False)]
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
                raise tried.failure(allowed)
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
    assert log_in(sshd, tried) == [f"key {home}/wrong", f"key {sshd.key}"]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen to make it with")
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_openssh_takes_two_keys_and_certificates(
    home: Path, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    require_sshd()
    directory = tmp_path_factory.mktemp("sshd")
    make_key(home / "ca")
    (home / "ca").chmod(0o600)
    settings = {
        "TrustedUserCAKeys": home / "ca.pub",
        "AuthenticationMethods": "publickey,publickey",
    }
    with Sshd(directory, nodes=1, **settings) as server:
        path = home / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", "id", "-n", server.user]
        subprocess.run([*command, home / "key.pub"], check=True)
        tried = authenticator(home, identity_files=[path, server.key])
        made = log_in(server, tried)
    assert made == [f"certificate of key {path}", f"key {path}", f"key {server.key}"]
