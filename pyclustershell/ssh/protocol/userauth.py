"""User authentication (RFC 4252): the undocumented names of paramiko's that it takes."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, Callable, Optional, cast

import paramiko
from paramiko import SSHException
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_USERAUTH_REQUEST
from paramiko.message import Message

from ...printable import printable
from .callbackevent import CallbackEvent
from .limits import check_questions
from .received import check_end

logger = logging.getLogger("pyclustershell.ssh")

_GSSAPI = "gssapi-with-mic"
_SERVICE = b"ssh-userauth"

# RFC 4252 sections 7 and 8: both numbers are those of one method.
_PK_OK = _PASSWD_CHANGEREQ = 60

# RFC 4462 section 8; paramiko 5 knows none of them.
_GSSAPI_RESPONSE, _GSSAPI_TOKEN, _GSSAPI_ERROR, _GSSAPI_ERRTOK, _GSSAPI_MIC = 60, 61, 64, 65, 66


def gssapi_obstacle() -> str:
    """Say why GSSAPI cannot be used, or return '' if it can. paramiko 5 has dropped it."""
    try:
        gss = import_module("paramiko.ssh_gss")
    except ImportError:
        return f"paramiko {paramiko.__version__} has no GSSAPI, releases before 5 have"
    if not gss.GSS_AUTH_AVAILABLE:
        return "the package 'gssapi' is not installed (on Windows: 'pywin32')"
    return ""


class ClientAuthHandler(AuthHandler):
    """One attempt to authenticate.

    The caller calls one of the ``start_*`` methods. paramiko's own ``auth_*`` methods hold the
    transport's lock while a key signs, and an agent may take long.

    Attributes:
        then: set when the attempt is decided.
        allowed: the methods that can continue (RFC 4252 5.1), as the server's refusal names them;
            None if the attempt failed without a refusal.
        partial: True if the attempt succeeded, but the server asks for another method in addition.
        service_granted: True if the server has granted the service "ssh-userauth".
        change_request: the server's words if it wants another password (RFC 4252 section 8); None
            if it does not.

    Args:
        transport: the transport.
        then: set when the attempt is decided.
        service_granted: True if an earlier attempt on this transport has the service already.
    """

    def __init__(
        self, transport: paramiko.Transport, then: CallbackEvent, service_granted: bool = False
    ) -> None:
        super().__init__(transport)
        self.then = then
        self.service_granted = service_granted
        self.allowed: Optional[tuple[str, ...]] = None
        self.partial = False
        self._host = ""
        self._mechanism = b""
        self._gss: Any = None
        self._rounds = 0
        self.change_request: Optional[str] = None
        # The signed request, until it has been sent for a second time.
        self._signed: Optional[Message] = None

    def start_none(self, user: str) -> None:
        """Ask to be let in without credentials; the refusal names the server's methods."""
        self._start(user, "none")

    def start_publickey(self, user: str, key: paramiko.PKey) -> None:
        """Authenticate with a key. It signs now if the service is granted."""
        self.private_key = key
        self._start(user, "publickey")

    def start_password(self, user: str, password: str) -> None:
        """Authenticate with a password.

        Raises:
            SSHException: it has characters that cannot be sent.
        """
        self.password = cast("str", _encoded_secret(password))  # paramiko sends bytes as they are
        self._start(user, "password")

    def start_interactive(self, user: str, answer: Callable[..., Any]) -> None:
        """Authenticate with answers to the server's questions (RFC 4256).

        Args:
            user: the login name.
            answer: takes the title, the instructions and the prompts; returns the answers.
        """

        def encoded_answers(*request: Any) -> list[bytes]:
            return [_encoded_secret(text) for text in answer(*request)]

        self.interactive_handler = cast("Any", encoded_answers)
        self.submethods = ""
        self._start(user, "keyboard-interactive")

    def _start(self, user: str, method: str) -> None:
        self.auth_event = self.then
        self.auth_method = method
        self.username = user
        self._request_auth()

    def start_gssapi(self, user: str, host: str, delegate: bool) -> None:
        """Authenticate by GSSAPI (RFC 4462), if :func:`gssapi_obstacle` returns ''.

        paramiko's own method waits for the server's answers. The steps that may block, because
        they ask a ticket server, run on the thread that handles authentication messages.

        Args:
            user: the login name.
            host: the host to get a ticket for.
            delegate: True if the server gets the user's credentials.
        """
        self._host = host
        self._gss = import_module("paramiko.ssh_gss").GSSAuth(_GSSAPI, delegate)
        self._start(user, _GSSAPI)

    def _begin_gssapi(self) -> None:
        m = Message()
        m.add_byte(cMSG_USERAUTH_REQUEST)
        m.add_string(self.username or "")
        m.add_string("ssh-connection")
        m.add_string(_GSSAPI)
        m.add_bytes(self._gss.ssh_gss_oids())
        self.transport._send_message(m)

    def _parse_gssapi_response(self, m: Message) -> None:
        """Make the first token for the mechanism that the server has chosen."""
        self._mechanism = m.get_binary()
        self._step_gssapi()

    def _parse_gssapi_token(self, m: Message) -> None:
        self._step_gssapi(m.get_binary())

    def _step_gssapi(self, *received: bytes) -> None:
        failures = import_module("paramiko.ssh_gss").GSS_EXCEPTIONS
        try:
            token = self._gss.ssh_init_sec_context(
                self._host, self._mechanism, self.username, *received
            )
            if token is not None:
                self._send_gssapi(_GSSAPI_TOKEN, token)
                return
            # The context is complete: sign the session (RFC 4462 section 3.5).
            self._send_gssapi(_GSSAPI_MIC, self._gss.ssh_get_mic(self.transport.session_id))
        except failures as error:
            # There is no ticket, or none for this host. The server need not be told: the next
            # attempt cancels this one (RFC 4252 section 5.1).
            logger.debug("%s: GSSAPI: %s", self.transport.name, error)
            self.then.set()

    def _send_gssapi(self, kind: int, content: bytes) -> None:
        m = Message()
        m.add_byte(bytes([kind]))
        m.add_string(content)
        self.transport._send_message(m)

    def _ignore(self, m: Message) -> None:
        """Ignore the reason of a refusal: the refusal follows (RFC 4462 3.8, 3.9)."""

    @property
    def _client_handler_table(self) -> dict[int, Callable[[Message], Any]]:
        table: dict[int, Callable[[Message], Any]] = super()._client_handler_table
        # The meaning of these numbers depends on the method (RFC 4252 section 6).
        if self.auth_method == "publickey":
            return {**table, _PK_OK: self._parse_pk_ok}
        if self.auth_method == "password":
            return {**table, _PASSWD_CHANGEREQ: self._parse_change_request}
        if self.auth_method != _GSSAPI:
            return table
        return {
            **table,
            _GSSAPI_RESPONSE: self._parse_gssapi_response,
            _GSSAPI_TOKEN: self._parse_gssapi_token,
            _GSSAPI_ERROR: self._ignore,
            _GSSAPI_ERRTOK: self._ignore,
        }

    def _request_auth(self) -> None:
        # paramiko asks for the service "ssh-userauth" before each attempt. RFC 4253 section 10
        # asks once, and asyncssh's server ends the connection at the second request.
        if self.service_granted:
            self._begin()
            return
        super()._request_auth()
        if self.auth_method == "none":
            # Both go out together, so that asking for the methods costs no round trip. A server
            # handles messages in their order, and ends the connection if it refuses the service.
            self._begin()

    def _begin(self) -> None:
        """Send the request of the method; the service is granted, or asked for just before."""
        if self.auth_method == _GSSAPI:
            self._begin_gssapi()
        elif self.auth_method == "publickey":
            self._begin_publickey()
        else:
            m = Message()
            m.add_string(_SERVICE)
            m.rewind()
            super()._parse_service_accept(m)

    def _begin_publickey(self) -> None:
        # As paramiko does, but the request is kept: see _parse_pk_ok().
        key, user = self.private_key, self.username or ""
        key_type, public = self._get_key_type_and_bits(key)
        algorithm = cast("Any", self.transport).signature_algorithm(key) or key_type
        data = self._get_session_blob(key, "ssh-connection", user, algorithm)
        m = Message()
        m.add_byte(cMSG_USERAUTH_REQUEST)
        m.add_string(user)
        m.add_string("ssh-connection")
        m.add_string("publickey")
        m.add_boolean(True)
        m.add_string(algorithm)
        m.add_string(public)
        m.add_string(cast("Any", key).sign_ssh_data(data, algorithm))
        self._signed = m
        self.transport._send_message(m)

    def _parse_pk_ok(self, m: Message) -> None:
        """Send the signed request once more: some routers answer it as if it were a question."""
        m.get_binary()  # the algorithm
        m.get_binary()  # the key
        check_end(m)
        signed, self._signed = self._signed, None
        if signed is None:
            raise SSHException("The server asks for the signature of a key again and again")
        self.transport._send_message(signed)

    def _parse_change_request(self, m: Message) -> None:
        """Give this attempt up: the password is right, but the server wants another one."""
        self.change_request = printable(m.get_text())
        m.get_binary()  # the language
        check_end(m)
        self.then.set()

    def _parse_service_accept(self, m: Message) -> None:
        # A second grant must not lead to a second signature.
        if self.service_granted:
            raise SSHException("The server grants a service that was not asked for")
        # As OpenSSH does: some old servers name no service.
        if m.asbytes():
            name = m.get_binary()
            check_end(m)
            if name != _SERVICE:
                raise SSHException("The server grants another service than that asked for")
        self.service_granted = True
        if self.auth_method != "none":  # that request is already sent
            self._begin()

    def _check_granted(self) -> None:
        if not self.service_granted:
            raise SSHException("The server answers before it has granted the service")

    def _parse_userauth_success(self, m: Message) -> None:
        self._check_granted()
        super()._parse_userauth_success(m)

    def _parse_userauth_banner(self, m: Message) -> None:
        self._check_granted()
        super()._parse_userauth_banner(m)

    def _parse_userauth_info_request(self, m: Message) -> None:
        self._check_granted()
        self._rounds += 1
        check_questions(m, self._rounds)
        super()._parse_userauth_info_request(m)

    def _parse_userauth_failure(self, m: Message) -> None:
        self._check_granted()
        # paramiko keeps the list only if it does not contain the method itself.
        self.allowed = tuple(printable(name) for name in m.get_list())
        self.partial = m.get_boolean()
        check_end(m)
        m.rewind()
        super()._parse_userauth_failure(m)


def _encoded_secret(text: str) -> bytes:
    """Encode a password or an answer.

    Bytes that are not UTF-8 are surrogates in os.environ and in files read with 'surrogateescape'
    (PEP 383): they are sent as they were.

    Raises:
        SSHException: it has other surrogates. (A UnicodeEncodeError would have the secret in its
            repr(), which is logged.)
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SSHException("a password or answer has characters that UTF-8 does not have") from None
