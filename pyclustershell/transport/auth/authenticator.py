"""Authentication (RFC 4252): what to try, in which order, and how to explain that it failed.

:class:`Authenticator` decides and does no I/O on the connection. It is asked for the next attempt
and told what the server said of the last one; it may block, for an agent or for a function of the
user (see :attr:`Authenticator.may_block`), and is called on a thread aside then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import paramiko

from ...exceptions import AuthenticationError
from ..config.askonce import AskOnce, Turn
from ..config.context import file_stamp
from ..config.settings import ConnectionSettings, describe_key
from ..paramiko_hooks import gssapi_obstacle
from .agent import AgentClient, AgentError, AgentKey, default_agent
from .keystore import Certificate, KeyStore, LoadedKey

__all__ = ["Attempt", "Authenticator", "KeyStore"]

logger = logging.getLogger("pyclustershell.auth")

MAX_ATTEMPTS = 6
"""How many refusals servers allow on one connection: OpenSSH's default, sshd_config(5)
MaxAuthTries."""

PromptHandler = Callable[[str, str, Sequence[tuple[str, bool]]], Sequence[str]]
"""Answers a request of RFC 4256: called with its name, its instruction and its prompts."""


# Any other key may be one that somebody else holds: an agent, a token.
_KEYS_AT_HAND = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@dataclass(frozen=True)
class Attempt:
    """One attempt to authenticate.

    Attributes:
        method: 'publickey', 'password', 'keyboard-interactive', 'gssapi-with-mic' or 'none'; or
            'wait': another connection tries the same answer first, see :class:`.askonce.AskOnce`.
        description: what is tried, without secrets, for the log.
        pkey: the key, for 'publickey'. It may be shared with other connections.
        password: the password, for 'password'.
        handler: answers the server's questions, for 'keyboard-interactive'; does not raise.
    """

    method: str
    description: str
    pkey: Optional[paramiko.PKey] = field(default=None, repr=False)
    password: Optional[str] = field(default=None, repr=False)
    handler: Optional[PromptHandler] = field(default=None, repr=False)


_WAIT = Attempt("wait", "another connection tries the answer first")


class Authenticator:
    """Says what to try next on one connection. Used by one thread at a time.

    The order of the keys: those given in code; identity files that the configuration names (by the
    agent, if it has them and they are encrypted or not here); the agent's other keys, unless
    IdentitiesOnly; the default identity files. What was named comes first, so that an agent with
    many keys does not use up the attempts that the server allows.

    Attributes:
        server_is_trusted: set to False, it keeps passwords and answers from a server that may not
            be the one meant, see :meth:`.hostkeys.HostKeyChecker.check`. OpenSSH does the same.
        wake: called, on any thread, after an attempt 'wait': :meth:`again` is to be asked.
    """

    def __init__(self, settings: ConnectionSettings, keys: KeyStore) -> None:
        """Prepare; nothing is read or asked yet.

        Args:
            settings: the connection's settings.
            keys: the keys read so far, shared between connections.
        """
        self.server_is_trusted = True
        self.wake: Callable[[], Any] = lambda: None
        self._settings = settings
        self._store = keys
        self._refusals = 0
        self._attempts = 0
        self._last: Optional[Attempt] = None
        self._allowed: Optional[tuple[str, ...]] = None
        self._done: set[str] = set()
        self._keys = self._key_attempts()
        self._keys_tried = 0
        self._offered: set[bytes] = set()
        self._accepted: set[bytes] = set()
        self._agent_keys: Optional[list[AgentKey]] = None
        # In the order in which they were found; a dict to have each once.
        self._notes: dict[str, None] = {}
        # Whose answer this connection tries for all of them.
        self._trial: Optional[AskOnce] = None
        self._ended = False
        self._held_back = ""

    @property
    def may_block(self) -> bool:
        """Whether an attempt may have to wait: for an agent, a user, or a key to be decrypted."""
        settings = self._settings
        if callable(settings.password) or settings.keyboard_interactive is not None:
            return True
        if "gssapi-with-mic" in settings.preferred_authentications and not gssapi_obstacle():
            return True
        if settings.agent and (settings.identity_agent or default_agent()) is not None:
            return True
        return not all(
            self._store.is_read(key, settings.passphrase)
            if isinstance(key, (str, bytes))
            else isinstance(key, _KEYS_AT_HAND)
            for key in (*settings.pkeys, *settings.identity_files)
        )

    def next(self, allowed: Optional[tuple[str, ...]], partial: bool) -> Optional[Attempt]:
        """Return what to try next, or None if there is nothing left.

        Args:
            allowed: the methods that can go on, as the server named them when it answered the last
                attempt; None if it has not answered yet, or did not say.
            partial: whether the last attempt succeeded, but the server wants another one, too.
        """
        self._note_answer(allowed, partial)
        return self.again()

    def again(self) -> Optional[Attempt]:
        """Return what to try next, after a wait: the server has said nothing since."""
        if self._refusals >= MAX_ATTEMPTS:
            self._note(f"gave up after {MAX_ATTEMPTS} attempts, as many as servers usually allow")
            return None
        for method in self._settings.preferred_authentications:
            if self._allowed is None or method in self._allowed:
                attempt = self._attempt(method)
                if attempt is not None:
                    if attempt.method != "wait":
                        self._last = attempt
                        self._attempts += 1
                    return attempt
        if self._last is None:
            # Nothing to offer: the answer tells which methods there are, or the server lets us in.
            self._last = Attempt("none", "no credentials")
            return self._last
        return None

    def failure(self, allowed: Optional[tuple[str, ...]]) -> AuthenticationError:
        """Return the exception for a connection that found no way in."""
        methods = self._allowed if allowed is None else allowed
        cause = f"Permission denied ({','.join(methods)})" if methods else "Permission denied"
        cause += self._held_back
        hints = "; ".join(self._hints(methods or ()))
        sentence = f"{self._settings.endpoint}: {cause}." + (f" ({hints})" if hints else "")
        return AuthenticationError(self._settings.node, cause, sentence)

    def cut_off(self, cause: str) -> AuthenticationError:
        """Return the exception for a connection that the server ended during authentication.

        Args:
            cause: what it said.
        """
        sentence = f"{self._settings.endpoint}: {cause}"
        if "too many authentication failures" in cause.lower():
            # OpenSSH's words where MaxAuthTries of its sshd_config(5) is reached.
            tried = f"after {self._attempts} attempts"
            if self._keys_tried:
                tried += f", {self._keys_tried} of them with keys"
            sentence += (
                f" ({tried}: name the right key with IdentityFile or pkeys, and set IdentitiesOnly "
                "to leave out the agent's others)"
            )
        return AuthenticationError(self._settings.node, cause, sentence)

    def _note_answer(self, allowed: Optional[tuple[str, ...]], partial: bool) -> None:
        if allowed is not None:
            self._allowed = allowed
        last = self._last
        if last is None:
            return
        self._decide(partial)
        if not partial:
            # sshd(8) does not count the method 'none'.
            self._refusals += last.method != "none"
            return
        # One of several steps is done. What was refused before may be wanted now, so everything
        # starts again, but what was accepted.
        self._done = set() if last.method == "publickey" else {last.method}
        if last.pkey is not None:
            self._accepted.add(_identifier(last.pkey))
        self._offered = set(self._accepted)
        self._keys = self._key_attempts()

    def _attempt(self, method: str) -> Optional[Attempt]:
        if method == "publickey":
            return self._next_key()
        if method in self._done:
            return None
        if not self.server_is_trusted:
            if self._other_ways():
                self._note("its host key has changed, so it is given no password")
            return None
        if method == "gssapi-with-mic":
            return self._gssapi()
        if method == "password":
            return self._password()
        return self._interactive()

    def _gssapi(self) -> Optional[Attempt]:
        obstacle = gssapi_obstacle()
        if obstacle:
            if self._allowed is not None:  # the server wants it
                self._note(f"GSSAPI cannot be used: {obstacle}")
            return None
        self._done.add("gssapi-with-mic")
        return Attempt("gssapi-with-mic", "GSSAPI")

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _hints(self, methods: Sequence[str]) -> Iterator[str]:
        if not self._keys_tried and "publickey" in methods and not self._notes:
            yield "no key to offer"
        yield from self._notes
        for note in self._settings.authentication_notes:
            wanted = "hostbased" if note.startswith("Hostbased") else "publickey"
            if wanted in methods:
                yield note

    # -- keys --

    def _next_key(self) -> Optional[Attempt]:
        # Some attempts are left for what else there is.
        if self._refusals >= MAX_ATTEMPTS - self._other_ways():
            if next(self._keys, None) is not None:
                self._note(
                    f"more than {self._refusals} keys: name the right one, and set IdentitiesOnly"
                )
                self._keys = iter(())
            return None
        attempt = next(self._keys, None)
        if attempt is not None:
            self._keys_tried += 1
        return attempt

    def _other_ways(self) -> int:
        settings = self._settings
        return (settings.password is not None) + (settings.keyboard_interactive is not None)

    def _key_attempts(self) -> Iterator[Attempt]:
        """Go through the keys, each read when its turn comes."""
        for pkey, name in self._key_candidates():
            for offered in (*self._certified(pkey, name), pkey):
                identifier = _identifier(offered)
                if identifier not in self._offered:
                    self._offered.add(identifier)
                    kind = "certificate of " if offered is not pkey else ""
                    yield Attempt("publickey", f"{kind}key {name}", pkey=offered)

    def _key_candidates(self) -> Iterator[tuple[paramiko.PKey, str]]:
        settings = self._settings
        for key in settings.pkeys:
            if isinstance(key, (str, bytes)):
                yield from self._load(key, needed=True)
            else:
                yield key, describe_key(key)
        named = list(settings.identity_files)
        if settings.identity_files_given:
            for path in named:
                yield from self._load(path, needed=True)
        if not settings.identities_only:
            for agent_key in self._agent():
                yield agent_key, f"{agent_key.comment!r} of the agent"
        if not settings.identity_files_given:
            for path in named:
                yield from self._load(path, needed=False)

    def _load(self, source: Any, needed: bool) -> Iterator[tuple[paramiko.PKey, str]]:
        """Find the key of a file or text, itself or in the agent."""
        name = describe_key(source)
        loaded: LoadedKey = self._store.load(source, self._settings.passphrase, self._settings.node)
        if loaded.pkey is not None:
            yield loaded.pkey, name
            return
        for agent_key in self._agent() if loaded.public else ():
            if agent_key.blob == loaded.public:
                yield agent_key, f"{name} in the agent"
                return
        if needed or not loaded.missing:
            self._note(loaded.reason)

    def _agent(self) -> list[AgentKey]:
        """Return the agent's keys, asked for once per connection."""
        if self._agent_keys is None:
            self._agent_keys = []
            path = self._settings.identity_agent or default_agent()
            if self._settings.agent and path is not None:
                client = AgentClient(path, self._settings.auth_timeout)
                try:
                    self._agent_keys = [AgentKey(client, key) for key in client.identities()]
                except AgentError as error:
                    self._note(f"{path}: {error}")
        return self._agent_keys

    def _certified(self, pkey: paramiko.PKey, name: str) -> Iterator[paramiko.PKey]:
        """Go through the key's certificates: those named, and the one beside its file."""
        sources = list(self._settings.certificates)
        beside = f"{name}-cert.pub"
        if name in self._settings.identity_files and file_stamp(beside):
            sources.append(beside)
        for source in sources:
            certificate = self._store.certificate(source)
            if not isinstance(certificate, Certificate):
                self._note(certificate)
            elif certificate.certifies(pkey.asbytes()):
                yield certificate.attach(pkey)

    # -- passwords and questions --

    def _password(self) -> Optional[Attempt]:
        turn = self._turn(self._settings.password)
        if turn is Turn.WAIT:
            return _WAIT
        self._done.add("password")
        if turn is Turn.REFUSED:
            return None
        password = self._ask_password()
        if password is None:
            return None
        return Attempt("password", "password", password=password)

    def _turn(self, secret: object) -> Turn:
        """Ask whether an answer may be used now; see :class:`.askonce.AskOnce`."""
        if not isinstance(secret, AskOnce):
            return Turn.GO
        turn = secret.begin(self._settings.node, self.wake)
        if turn is Turn.REFUSED:
            self._held_back = f", and what {secret.pilot} has refused is not tried on others"
        elif turn is Turn.TRY:
            self._trial = secret
            if self._ended:
                self._decide(None)
        return turn

    def _decide(self, accepted: Optional[bool]) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.decide(accepted)

    def succeed(self) -> None:
        """The server has let the connection in."""
        self._decide(True)
        # No more keys are asked for; and a generator refers to what it is a method of.
        self._keys = iter(())

    def end(self) -> None:
        """The connection has ended, whatever became of it. On any thread."""
        self._ended = True
        self._decide(None)

    def _ask_password(self) -> Optional[str]:
        password = self._settings.password
        if not callable(password):
            return password
        try:
            with self._store.prompting:
                answer = password(self._settings.node)
        except Exception as error:
            logger.debug("%s: no password", self._settings.node, exc_info=True)
            self._note(f"asking for the password failed: {type(error).__name__}")
            return None
        if not isinstance(answer, str):
            self._note("no password was given")
            return None
        return answer

    def _interactive(self) -> Optional[Attempt]:
        method = "keyboard-interactive"
        callback = self._settings.keyboard_interactive
        if callback is not None:
            turn = self._turn(callback)
            if turn is Turn.WAIT:
                return _WAIT
            self._done.add(method)
            if turn is Turn.REFUSED:
                return None
            return Attempt(method, method, handler=self._answer)
        # A password answers the one question of a server that asks for it in this way only.
        by_password = "password" in self._settings.preferred_authentications and (
            self._allowed is None or "password" in self._allowed
        )
        if self._settings.password is None or by_password:
            return None
        turn = self._turn(self._settings.password)
        if turn is Turn.WAIT:
            return _WAIT
        self._done.add(method)
        if turn is Turn.REFUSED:
            return None
        password = self._ask_password()
        if password is None:
            return None
        return Attempt(method, "password by keyboard-interactive", handler=self._once(password))

    def _answer(
        self, title: str, instructions: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str]:
        """Have the user's function answer; what it raises only fails this attempt."""
        callback = self._settings.keyboard_interactive
        if not prompts or callback is None:
            return []
        try:
            with self._store.prompting:
                answers = [*callback(self._settings.node, title, instructions, tuple(prompts))]
        except Exception as error:
            logger.debug("%s: no answers", self._settings.node, exc_info=True)
            self._note(f"asking for the answers failed: {type(error).__name__}")
            return [""] * len(prompts)
        if len(answers) != len(prompts) or not all(isinstance(text, str) for text in answers):
            self._note(f"the server asked {len(prompts)} questions, {len(answers)} answers came")
            return [""] * len(prompts)
        return answers

    def _once(self, password: str) -> PromptHandler:
        """Make a handler that gives the password to the first single question not to be shown."""
        pending = [password]

        def handler(
            _title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]
        ) -> Sequence[str]:
            if len(prompts) == 1 and not prompts[0][1] and pending:
                return [pending.pop()]
            if prompts:
                self._note("the server asks for more than a password: give keyboard_interactive")
            return [""] * len(prompts)

        return handler


def _identifier(pkey: paramiko.PKey) -> bytes:
    """What the server is shown of a key: it alone tells two attempts apart."""
    certificate = getattr(pkey, "public_blob", None)
    return certificate.key_blob if certificate else pkey.asbytes()
