"""The names of paramiko's authentication that it does not document, see :mod:`.paramiko_hooks`."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Optional

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_USERAUTH_REQUEST
from paramiko.message import Message

from ...printable import printable
from .bounds import check_questions
from .then import Then

if TYPE_CHECKING:
    from .transport import ClientTransport

logger = logging.getLogger("pyclustershell.transport")

_GSSAPI = "gssapi-with-mic"

# RFC 4462 section 8; paramiko 5 knows none of them.
_GSSAPI_RESPONSE, _GSSAPI_TOKEN, _GSSAPI_ERROR, _GSSAPI_ERRTOK, _GSSAPI_MIC = 60, 61, 64, 65, 66


def gssapi_obstacle() -> str:
    """Say why GSSAPI cannot be used, or return '' if it can. paramiko 5 has given it up."""
    try:
        gss = import_module("paramiko.ssh_gss")
    except ImportError:
        return f"paramiko {paramiko.__version__} has no GSSAPI, releases before 5 have"
    if not gss.GSS_AUTH_AVAILABLE:
        return "the package 'gssapi' is not installed (on Windows: 'pywin32')"
    return ""


class ClientAuthHandler(AuthHandler):
    """One attempt to authenticate.

    Attributes:
        then: the event-like object to pass to the ``auth_*`` methods.
        allowed: the methods with which the server lets the client go on (RFC 4252 5.1), as its
            refusal names them; None where the attempt has failed without one.
        partial: whether the attempt succeeded, but the server wants another method, too.
    """

    def __init__(self, transport: ClientTransport, then: Then) -> None:
        super().__init__(transport)
        self.then = then
        self.allowed: Optional[tuple[str, ...]] = None
        self.partial = False
        self._host = ""
        self._mechanism = b""
        self._gss: Any = None
        self._rounds = 0

    def start_gssapi(self, user: str, host: str, delegate: bool) -> None:
        """Authenticate by GSSAPI (RFC 4462), where :func:`gssapi_obstacle` says nothing.

        paramiko's own method waits for the server's answers. The steps that may block, because
        they ask a ticket server, are taken where messages of the authentication are handled.

        Args:
            user: the login name.
            host: the host whose ticket is asked for.
            delegate: whether the server gets the user's credentials.
        """
        self.auth_event = self.then
        self.auth_method = _GSSAPI
        self.username = user
        self._host = host
        self._gss = import_module("paramiko.ssh_gss").GSSAuth(_GSSAPI, delegate)
        self._request_auth()

    def _begin_gssapi(self) -> None:
        m = Message()
        m.add_byte(cMSG_USERAUTH_REQUEST)
        m.add_string(self.username or "")
        m.add_string("ssh-connection")
        m.add_string(_GSSAPI)
        m.add_bytes(self._gss.ssh_gss_oids())
        self.transport._send_message(m)

    def _parse_gssapi_response(self, m: Message) -> None:
        """The server has chosen a mechanism: make the first token for it."""
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
            # The context is complete: sign what has been agreed on (RFC 4462 section 3.5).
            self._send_gssapi(_GSSAPI_MIC, self._gss.ssh_get_mic(self.transport.session_id))
        except failures as error:
            # No ticket, or none for this host. The server needs no word of it: the next attempt
            # makes this one void (RFC 4252 section 5.1).
            logger.debug("%s: GSSAPI: %s", self.transport.name, error)
            self.then.set()

    def _send_gssapi(self, kind: int, content: bytes) -> None:
        m = Message()
        m.add_byte(bytes([kind]))
        m.add_string(content)
        self.transport._send_message(m)

    def _pass_over(self, m: Message) -> None:
        """Do nothing: the server tells why it will refuse, and then does (RFC 4462 3.8, 3.9)."""

    @property
    def _client_handler_table(self) -> dict[int, Callable[[Message], Any]]:
        table: dict[int, Callable[[Message], Any]] = super()._client_handler_table
        if self.auth_method != _GSSAPI:
            return table
        # These numbers mean something else in each method (RFC 4252 section 6).
        return {
            **table,
            _GSSAPI_RESPONSE: self._parse_gssapi_response,
            _GSSAPI_TOKEN: self._parse_gssapi_token,
            _GSSAPI_ERROR: self._pass_over,
            _GSSAPI_ERRTOK: self._pass_over,
        }

    def _request_auth(self) -> None:
        # paramiko asks for the service "ssh-userauth" again before each attempt. RFC 4253 section
        # 10 has it once; asyncssh's server ends the connection at the second time.
        if not self.transport.auth_service_granted:
            super()._request_auth()
            return
        m = Message()
        m.add_string("ssh-userauth")
        m.rewind()
        self._parse_service_accept(m)

    def _parse_service_accept(self, m: Message) -> None:
        self.transport.auth_service_granted = True
        if self.auth_method == _GSSAPI:
            self._begin_gssapi()
        else:
            super()._parse_service_accept(m)

    def _parse_userauth_info_request(self, m: Message) -> None:
        self._rounds += 1
        check_questions(m, self._rounds)
        super()._parse_userauth_info_request(m)

    def _parse_userauth_failure(self, m: Message) -> None:
        # paramiko keeps the list only where the method itself is not in it.
        self.allowed = tuple(printable(name) for name in m.get_list())
        self.partial = m.get_boolean()
        m.rewind()
        super()._parse_userauth_failure(m)
