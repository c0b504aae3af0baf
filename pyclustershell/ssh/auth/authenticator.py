"""Authentication (RFC 4252): chooses the attempts and their order, and explains a failure.

:class:`Authenticator` decides, and does no I/O on the connection. The caller passes in the server's
reply to the last attempt, and gets the next one. This may block, for an agent or for a function of
the user (see :attr:`Authenticator.may_block`): then the caller uses a worker thread. Otherwise it
blocks at most for a file of a key, and the attempt is :data:`ASIDE` if the caller may not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypeVar, Union

import paramiko

from ...exceptions import AuthenticationError
from ..config.askonce import AnswerState, AskOnce
from ..config.filestamp import file_stamp
from ..config.memo import LookupPending
from ..config.settings import ConnectionSettings, describe_key
from ..protocol import gssapi_obstacle
from ..protocol.algorithms import explain_signature_wishes
from .agent import AgentClient, AgentError, AgentKey, default_agent
from .keystore import Certificate, KeyStore

__all__ = ["ASIDE", "Attempt", "Authenticator", "KeyStore"]

logger = logging.getLogger("pyclustershell.auth")

MAX_ATTEMPTS = 6
"""How many failures servers allow on one connection: the default of sshd_config(5)
MaxAuthTries."""

T = TypeVar("T")

PromptHandler = Callable[[str, str, Sequence[tuple[str, bool]]], Sequence[str]]
"""Answers a request of RFC 4256: takes its name, its instruction and its prompts."""


# These keys sign in this process. Any other key may belong to an agent or a token.
_LOCAL_KEYS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@dataclass(frozen=True)
class Attempt:
    """One attempt to authenticate.

    Attributes:
        method: 'publickey', 'password', 'keyboard-interactive', 'gssapi-with-mic' or 'none'; or
            'wait' while another connection tries the same answer, see :class:`.askonce.AskOnce`;
            or 'aside', see :data:`ASIDE`.
        description: describes the attempt in the log, without secrets.
        pkey: the key, for 'publickey'. Other connections may share it.
        password: the password, for 'password'.
        handler: answers the server's questions, for 'keyboard-interactive'; does not raise.
    """

    method: str
    description: str
    pkey: Optional[paramiko.PKey] = field(default=None, repr=False)
    password: Optional[str] = field(default=None, repr=False)
    handler: Optional[PromptHandler] = field(default=None, repr=False)


_WAIT = Attempt("wait", "another connection tries the answer first")

ASIDE = Attempt("aside", "the file of a key has to be read or looked at")
"""In place of an attempt: call :meth:`Authenticator.next_after_wait` on a thread that may wait."""

# These are no attempts: nothing is sent.
_NOTHING_SENT = ("wait", "aside")


class Authenticator:
    """Chooses the next attempt of one connection. Used by one thread at a time.

    The first attempt is 'none', as in OpenSSH. It succeeds at once if no credentials are needed.
    Its refusal names the server's methods. No other method is tried: some servers hang up then.

    The order of the keys: those given in code; identity files that the configuration names (the
    agent's copy if the file is missing or encrypted without a passphrase); the agent's other keys,
    unless IdentitiesOnly; the default identity files. Named keys come first, so that an agent with
    many keys does not use up the attempts that the server allows.

    Attributes:
        server_is_trusted: set it to False to send no passwords and answers, because another server
            may have taken the host's place, see :meth:`.hostkeys.HostKeyChecker.check`. OpenSSH
            does the same.
        can_sign: returns False for a key whose signatures are not allowed, by the server or by
            PubkeyAcceptedAlgorithms: it is not tried.
        wake: called once after an attempt 'wait', on any thread: then call :meth:`next_after_wait`.
    """

    def __init__(self, settings: ConnectionSettings, keys: KeyStore) -> None:
        """Prepare; no key is read and no question asked yet.

        Args:
            settings: the connection's settings.
            keys: reads keys; shared by all connections.
        """
        self.server_is_trusted = True
        self.can_sign: Callable[[paramiko.PKey], bool] = lambda _key: True
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
        # For the error message, in order; a dict, to keep each note once.
        self._notes: dict[str, None] = {}
        # The answer that this connection tries on behalf of all nodes.
        self._trial: Optional[AskOnce] = None
        self._ended = False
        self._refused_by = ""
        # True between the two ways to send a password, if the first one was refused.
        self._refused_once = False
        self._sent_password: Optional[str] = None
        # The server's words if the password has to be changed.
        self._change_request = ""
        # True if the thread that asks for an attempt may wait for a disk.
        self._may_wait = True

    @property
    def may_block(self) -> bool:
        """True if a step may take long that is not marked by :data:`ASIDE`: an agent, a user."""
        settings = self._settings
        if callable(settings.password) or settings.keyboard_interactive is not None:
            return True
        if "gssapi-with-mic" in settings.preferred_authentications and not gssapi_obstacle():
            return True
        if settings.agent and (settings.identity_agent or default_agent()) is not None:
            return True
        return not all(isinstance(key, (str, bytes, *_LOCAL_KEYS)) for key in settings.pkeys)

    def next(
        self, allowed: Optional[tuple[str, ...]], partial: bool, wait: bool = True
    ) -> Optional[Attempt]:
        """Return the next attempt, or None if none is left.

        Args:
            allowed: the "authentications that can continue" of the server's last reply (RFC 4252
                section 5.1); None before the first reply, or if the server sent no list.
            partial: True if the last attempt succeeded, but the server requires another one.
            wait: True if the calling thread may wait for a disk and the decryption of a key. If
                not, the attempt may be :data:`ASIDE`.
        """
        self._note_reply(allowed, partial)
        return self.next_after_wait(wait)

    def next_after_wait(self, wait: bool = True) -> Optional[Attempt]:
        """Return the next attempt after 'wait' or 'aside', in which nothing was sent.

        Args:
            wait: see :meth:`next`.
        """
        self._may_wait = wait
        if self._last is None:
            self._last = Attempt("none", "no credentials")
            return self._last
        if self._refusals >= MAX_ATTEMPTS:
            self._note(f"gave up after {MAX_ATTEMPTS} attempts: most servers allow no more")
            return None
        for method in self._settings.preferred_authentications:
            if self._allowed is None or method in self._allowed:
                attempt = self._attempt(method)
                if attempt is not None:
                    if attempt.method not in _NOTHING_SENT:
                        self._last = attempt
                        self._attempts += 1
                    return attempt
        if self._refused_once:
            self._report(False)
        return None

    def note_change_request(self, prompt: str) -> None:
        """Note that the server wants another password than the one sent (RFC 4252 section 8).

        Args:
            prompt: the server's words.
        """
        self._change_request = prompt or "the password has expired"

    def failure(self) -> AuthenticationError:
        """Return the exception for a connection after its last attempt has failed."""
        methods = self._allowed or ()
        cause = f"Permission denied ({','.join(methods)})" if methods else "Permission denied"
        if self._refused_by:
            cause += f", and the answer that {self._refused_by} refused is not sent to other nodes"
        if self._change_request:
            cause += f", the server asks for a new password: {self._change_request}"
            self._note("log in with ssh to change it")
        hints = "; ".join(self._hints(methods))
        sentence = f"{self._settings.endpoint}: {cause}." + (f" ({hints})" if hints else "")
        return AuthenticationError(self._settings.node, cause, sentence)

    def disconnection(self, cause: str) -> AuthenticationError:
        """Return the exception for a connection that the server ended during authentication.

        Args:
            cause: the server's words.
        """
        sentence = f"{self._settings.endpoint}: {cause}"
        if "too many authentication failures" in cause.lower():
            # OpenSSH's words when MaxAuthTries of sshd_config(5) is reached.
            tried = f"after {self._attempts} attempts"
            if self._keys_tried:
                tried += f", {self._keys_tried} of them with keys"
            sentence += (
                f" ({tried}: name the right key with IdentityFile or pkeys, and set IdentitiesOnly "
                "to leave out the agent's others)"
            )
        return AuthenticationError(self._settings.node, cause, sentence)

    def _note_reply(self, allowed: Optional[tuple[str, ...]], partial: bool) -> None:
        if allowed is not None:
            self._allowed = allowed
        last = self._last
        if last is None:
            return
        if self._has_another_way(last, partial):
            self._refused_once = True
        else:
            self._report(partial)
        if not partial:
            # sshd(8) does not count the method 'none'.
            self._refusals += last.method != "none"
            return
        # One of several steps is done. A credential refused before may be accepted now, so all are
        # tried again, except for accepted ones.
        self._done = set() if last.method == "publickey" else {last.method}
        if last.pkey is not None:
            self._accepted.add(_identifier(last.pkey))
        self._offered = set(self._accepted)
        self._keys = self._key_attempts()

    def _has_another_way(self, last: Attempt, partial: bool) -> bool:
        """True if a refused password is still to be sent by keyboard-interactive."""
        method = "keyboard-interactive"
        return (
            last.method == "password"
            and not partial
            and method in (self._allowed or ())
            and method in self._settings.preferred_authentications
            and method not in self._done
            and self._settings.keyboard_interactive is None
        )

    def _attempt(self, method: str) -> Optional[Attempt]:
        if method == "publickey":
            return self._next_key()
        if method in self._done:
            return None
        if not self.server_is_trusted:
            if self._other_credentials():
                self._note("its host key has changed, so no password is sent to it")
            return None
        if method == "gssapi-with-mic":
            return self._gssapi()
        if method == "password":
            return self._password()
        return self._interactive()

    def _gssapi(self) -> Optional[Attempt]:
        obstacle = gssapi_obstacle()
        if obstacle:
            if self._allowed is not None:  # the server offers it
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
        wishes = explain_signature_wishes(self._settings.pubkey_algorithms)
        if wishes and "publickey" in methods:
            yield wishes
        for note in self._settings.authentication_notes:
            wanted = "hostbased" if note.startswith("Hostbased") else "publickey"
            if wanted in methods:
                yield note

    # -- keys --

    def _next_key(self) -> Optional[Attempt]:
        # Keep some attempts for the password and the answers.
        if self._refusals >= MAX_ATTEMPTS - self._other_credentials():
            unused = next(self._keys, None)
            if unused is ASIDE:
                return unused
            if unused is not None:
                self._note(
                    f"tried {self._refusals} keys, and more are left: name the right one with "
                    "IdentityFile or pkeys, and set IdentitiesOnly"
                )
                self._keys = iter(())
            return None
        attempt = next(self._keys, None)
        if attempt is not None and attempt is not ASIDE:
            self._keys_tried += 1
        return attempt

    def _other_credentials(self) -> int:
        settings = self._settings
        return (settings.password is not None) + (settings.keyboard_interactive is not None)

    def _key_attempts(self) -> Iterator[Attempt]:
        """Yield attempts with keys; each key is read just before its attempt."""
        settings = self._settings
        for key in settings.pkeys:
            if isinstance(key, (str, bytes)):
                yield from self._with_source(key, needed=True)
            else:
                yield from self._with_key(key, describe_key(key))
        named = settings.identity_files
        if settings.identity_files_given:
            for path in named:
                yield from self._with_source(path, needed=True)
        if not settings.identities_only:
            for agent_key in self._agent():
                yield from self._with_key(agent_key, f"{agent_key.comment!r} of the agent")
        if not settings.identity_files_given:
            for path in named:
                yield from self._with_source(path, needed=False)

    def _with_source(self, source: Union[str, bytes], needed: bool) -> Iterator[Attempt]:
        """Yield attempts with the key of a file or text, or with the agent's copy of it."""
        name = describe_key(source)
        path = source if isinstance(source, str) else ""
        settings = self._settings
        loaded = yield from self._unless_aside(
            lambda wait: self._store.load(source, settings.passphrase, settings.node, wait)
        )
        if loaded.pkey is not None:
            yield from self._with_key(loaded.pkey, name, path)
            return
        for agent_key in self._agent() if loaded.public else ():
            if agent_key.blob == loaded.public:
                yield from self._with_key(agent_key, f"{name} in the agent", path)
                return
        if needed or not loaded.missing:
            self._note(loaded.reason)

    def _with_key(self, pkey: paramiko.PKey, name: str, path: str = "") -> Iterator[Attempt]:
        """Yield attempts with the certificates of a key, then with the key itself.

        Args:
            pkey: the key.
            name: describes it in messages.
            path: the path of its file, '' for a key without a file.
        """
        certificates = yield from self._unless_aside(lambda wait: self._certificates(path, wait))
        public = pkey.asbytes() if certificates else b""
        certified = [c.attach(pkey) for c in certificates if c.certifies(public)]
        for offered in (*certified, pkey):
            identifier = _identifier(offered)
            if identifier in self._offered:
                continue
            kind = "certificate of " if offered is not pkey else ""
            if self.can_sign(offered):
                self._offered.add(identifier)
                yield Attempt("publickey", f"{kind}key {name}", pkey=offered)
            else:
                self._note(
                    f"{kind}key {name} is not used: no algorithm for its signature is in "
                    "PubkeyAcceptedAlgorithms and in the server's list"
                )

    def _unless_aside(self, ask: Callable[[bool], T]) -> Generator[Attempt, None, T]:
        """Return the value of ``ask(wait)``; yield ASIDE if this thread would have to wait."""
        try:
            return ask(self._may_wait)
        except LookupPending:
            yield ASIDE
        return ask(True)

    def _agent(self) -> list[AgentKey]:
        """Return the agent's keys; the agent is asked once per connection."""
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

    def _certificates(self, path: str, wait: bool) -> list[Certificate]:
        """Return the certificates that are named, and those beside the file of a key.

        Args:
            path: the path of the key's file, '' for a key without a file.
            wait: True if the calling thread may wait for a disk.

        Raises:
            LookupPending: the calling thread may not wait.
        """
        sources = list(self._settings.certificates)
        # Beside id_ed25519.pub, which names a key of the agent, it is id_ed25519-cert.pub as well.
        private = path[: -len(".pub")] if path.endswith(".pub") else path
        for beside in dict.fromkeys((f"{path}-cert.pub", f"{private}-cert.pub")):
            if path and beside not in sources and file_stamp(beside, wait):
                sources.append(beside)
        found = []
        for source in sources:
            certificate = self._store.certificate(source, wait)
            if isinstance(certificate, Certificate):
                found.append(certificate)
            else:
                self._note(certificate)
        return found

    # -- passwords and questions --

    def _password(self) -> Optional[Attempt]:
        state = self._claim(self._settings.password)
        if state is AnswerState.ON_TRIAL:
            return _WAIT
        self._done.add("password")
        if state is AnswerState.REFUSED:
            return None
        password = self._sent_password = self._ask_password()
        if password is None:
            return None
        return Attempt("password", "password", password=password)

    def _claim(self, secret: object) -> AnswerState:
        """Return the next step for an answer; see :class:`.askonce.AskOnce`."""
        if not isinstance(secret, AskOnce) or secret is self._trial:
            return AnswerState.ACCEPTED
        state = secret.claim(self._settings.node, self.wake)
        if state is AnswerState.REFUSED:
            self._refused_by = secret.first_node
        elif state is AnswerState.UNTRIED:
            self._trial = secret
            if self._ended:
                self._report(None)
        return state

    def _report(self, accepted: Optional[bool]) -> None:
        trial, self._trial = self._trial, None
        if accepted is None and self._refused_once:
            accepted = False
        self._refused_once = False
        if trial is not None:
            trial.report(accepted)

    def succeeded(self) -> None:
        """Note that the server has accepted the connection."""
        self._report(True)
        # No more keys are needed, and a generator refers to its object.
        self._keys = iter(())

    def ended(self) -> None:
        """Note that the connection has ended, for any reason. May be called on any thread."""
        self._ended = True
        self._keys = iter(())  # as after a success
        self._report(None)

    def _ask_password(self) -> Optional[str]:
        password = self._settings.password
        if not callable(password):
            return password
        try:
            with self._store.prompt_lock:
                answer = password(self._settings.node)
        except Exception as error:
            logger.debug("%s: no password", self._settings.node, exc_info=True)
            self._note(f"the password function failed: {type(error).__name__}")
            return None
        if not isinstance(answer, str):
            self._note(f"no password was given: the function returned {type(answer).__name__}")
            return None
        return answer

    def _interactive(self) -> Optional[Attempt]:
        method = "keyboard-interactive"
        callback = self._settings.keyboard_interactive
        if callback is not None:
            state = self._claim(callback)
            if state is AnswerState.ON_TRIAL:
                return _WAIT
            self._done.add(method)
            if state is AnswerState.REFUSED:
                return None
            return Attempt(method, method, handler=self._answer)
        # A password answers the single question of a server that does not offer 'password', or has
        # refused it: some servers check the two against different sources.
        by_password = (
            "password" in self._settings.preferred_authentications
            and "password" in (self._allowed or ())
            and "password" not in self._done
        )
        if self._settings.password is None or by_password:
            return None
        state = self._claim(self._settings.password)
        if state is AnswerState.ON_TRIAL:
            return _WAIT
        self._done.add(method)
        if state is AnswerState.REFUSED:
            return None
        password = self._sent_password or self._ask_password()
        if password is None:
            return None
        return Attempt(
            method, "password by keyboard-interactive", handler=self._password_handler(password)
        )

    def _answer(
        self, title: str, instructions: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str]:
        """Call the user's function. An exception of it only fails this attempt."""
        callback = self._settings.keyboard_interactive
        if not prompts or callback is None:
            return []
        try:
            with self._store.prompt_lock:
                answers = [*callback(self._settings.node, title, instructions, tuple(prompts))]
        except Exception as error:
            logger.debug("%s: no answers", self._settings.node, exc_info=True)
            self._note(f"the keyboard_interactive function failed: {type(error).__name__}")
            return [""] * len(prompts)
        if len(answers) != len(prompts):
            self._note(
                f"the server asked {len(prompts)} questions, but keyboard_interactive returned "
                f"{len(answers)} answers"
            )
            return [""] * len(prompts)
        if not all(isinstance(text, str) for text in answers):
            self._note("keyboard_interactive returned answers that are not strings")
            return [""] * len(prompts)
        return answers

    def _password_handler(self, password: str) -> PromptHandler:
        """Return a handler that answers a single question with a hidden answer, once."""
        pending = [password]

        def handler(
            _title: str, _instructions: str, prompts: Sequence[tuple[str, bool]]
        ) -> Sequence[str]:
            if len(prompts) == 1 and not prompts[0][1] and pending:
                return [pending.pop()]
            if prompts:
                self._note("the server asks for more than a password: set keyboard_interactive")
            return [""] * len(prompts)

        return handler


def _identifier(pkey: paramiko.PKey) -> bytes:
    """Return the public key or certificate that the server sees: it identifies an attempt."""
    certificate = getattr(pkey, "public_blob", None)
    return certificate.key_blob if certificate else pkey.asbytes()
