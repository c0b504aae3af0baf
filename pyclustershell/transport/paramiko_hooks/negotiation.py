"""Which algorithms client and server agree on (RFC 4253 7.1), found out once for many servers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypeVar

import paramiko
from paramiko import IncompatiblePeer
from paramiko.common import cMSG_KEXINIT
from paramiko.message import Message
from paramiko.ssh_exception import MessageOrderError

from ...printable import printable
from ..config.settings import select_algorithms
from . import algorithms

K = TypeVar("K")
V = TypeVar("V")

logger = logging.getLogger("pyclustershell.transport")

# A KEXINIT begins with its type and a cookie of random bytes; lists of algorithms follow.
_COOKIE_SIZE = 16

# So many different offers, and agreements, are remembered.
_MOST = 256
_OFFERS: dict[tuple[object, ...], bytes] = {}
_AGREEMENTS: dict[tuple[object, ...], dict[str, Any]] = {}

# What paramiko notes of an agreement, in attributes of the transport.
_AGREED = (
    "_remote_ext_info",
    "_remote_strict_kex",
    "agreed_on_strict_kex",
    "host_key_type",
    "local_cipher",
    "remote_cipher",
    "local_mac",
    "remote_mac",
    "local_compression",
    "remote_compression",
)

# The lists of a KEXINIT (RFC 4253 7.1), as paramiko names them, and what they are lists of.
_NEGOTIATED = {
    "kex_algo_list": "kex",
    "server_key_algo_list": "keys",
    "client_encrypt_algo_list": "ciphers",
    "server_encrypt_algo_list": "ciphers",
    "client_mac_algo_list": "macs",
    "server_mac_algo_list": "macs",
}


class Negotiation(paramiko.Transport):
    """The part of a transport that agrees on algorithms.

    What is offered is the same for most transports, and what a server answers is the same for all
    of its kind, but for a cookie. So paramiko puts a message together, and compares two of them,
    for the first one, in some 600 calls; for the others that is remembered.
    """

    _preferred_ciphers = algorithms.CIPHERS
    _preferred_macs = algorithms.MACS
    _preferred_kex = algorithms.KEX
    _preferred_keys = algorithms.KEYS
    _preferred_pubkeys = algorithms.PUBKEYS

    def offer(
        self, kind: str, wanted: Optional[Sequence[str]], first: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Choose the algorithms that are offered, in order of preference.

        ``get_security_options()`` refuses a whole list for one name that it does not know.

        Args:
            kind: 'ciphers', 'macs', 'kex' or 'keys'.
            wanted: what the settings say, see :func:`select_algorithms`; None for the defaults.
            first: those of them to put first.

        Returns:
            What is offered; nothing (and nothing changes) where paramiko has none of the wanted.
        """
        table = self._known(kind)
        attribute = f"_preferred_{kind}"
        default = getattr(self, attribute)
        chosen = default if wanted is None else select_algorithms(wanted, tuple(table), default)
        if first:
            # Without a wish, that also lets the certificates of these keys be put first.
            possible = table if wanted is None else chosen
            chosen = (*(n for n in first if n in possible), *(n for n in chosen if n not in first))
        if chosen and chosen is not default:
            setattr(self, attribute, chosen)
        return tuple(chosen)

    def _known(self, kind: str) -> Mapping[str, Any]:
        """What paramiko has of a kind of algorithms."""
        tables: dict[str, Mapping[str, Any]] = {
            "ciphers": self._cipher_info,
            "macs": self._mac_info,
            "kex": self._kex_info,
            "keys": self._key_info,
        }
        return tables[kind]

    # paramiko compares each list with one of disabled algorithms, name by name, whenever it looks.
    preferred_ciphers = property(lambda self: self._preferred_ciphers)
    preferred_macs = property(lambda self: self._preferred_macs)
    preferred_kex = property(lambda self: self._preferred_kex)
    preferred_pubkeys = property(lambda self: self._preferred_pubkeys)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms that are asked for, in order.

        paramiko's own property puts the certificates of all keys last, and would add a second
        suffix to those that :meth:`offer` has put first.
        """
        return algorithms.with_certificates(tuple(self._preferred_keys))

    def _offer(self) -> tuple[object, ...]:
        """All that decides about our message, and with the server's about the agreement."""
        return (
            self._preferred_kex,
            self.preferred_keys,
            self._preferred_ciphers,
            self._preferred_macs,
            tuple(self._preferred_compression),
            self.advertise_strict_kex,
        )

    def _send_kex_init(self) -> None:
        offer = self._offer()
        lists = _OFFERS.get(offer)
        if lists is None:
            super()._send_kex_init()
            sent: Any = self.local_kex_init
            _remember(_OFFERS, offer, sent[1 + _COOKIE_SIZE :])
            return
        with self.clear_to_send_lock:
            self.clear_to_send.clear()
        self.gss_kex_used = False
        self.in_kex = True
        payload = cMSG_KEXINIT + os.urandom(_COOKIE_SIZE) + lists
        self.local_kex_init = self._latest_kex_init = payload
        self._send_message(Message(payload))

    def _parse_kex_init(self, m: Message) -> None:
        content = m.asbytes()
        # What was agreed on before is kept where the server says nothing new.
        before = (self.initial_kex_done, self.agreed_on_strict_kex)
        case = (content[_COOKIE_SIZE:], self._offer(), before)
        agreed = _AGREEMENTS.get(case)
        # paramiko logs all of it.
        if agreed is None or logger.isEnabledFor(logging.DEBUG):
            self._agree(m)
            agreed = {name: getattr(self, name, None) for name in _AGREED}
            agreed["method"] = type(self.kex_engine)
            agreed["size"] = len(m.get_so_far())
            _remember(_AGREEMENTS, case, agreed)
            return
        for name in _AGREED:
            setattr(self, name, agreed[name])
        if self.agreed_on_strict_kex and not self.initial_kex_done and m.seqno != 0:
            raise MessageOrderError("KEXINIT was not the first packet, as strict key exchange asks")
        self.kex_engine = agreed["method"](self)
        # Without what may follow the fields: it is no part of the exchange's hash.
        self.remote_kex_init = cMSG_KEXINIT + content[: agreed["size"]]

    def _agree(self, m: Message) -> None:
        # paramiko says of what kind there is no common algorithm, and not what the server has.
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer as error:
            m.rewind()
            raise self._mismatch(self._really_parse_kex_init(m)) or error from None

    def _mismatch(self, offers: Mapping[str, list[str]]) -> Optional[IncompatiblePeer]:
        """Say what the server has where it has nothing that we want."""
        for field, kind in _NEGOTIATED.items():
            offered = [name for name in offers[field] if name not in algorithms.ANNOUNCEMENTS]
            if not set(getattr(self, f"preferred_{kind}")).intersection(offered):
                names = [printable(name) for name in offered]
                return IncompatiblePeer(algorithms.explain_mismatch(kind, names, self._known(kind)))
        return None


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= _MOST:
        memory.clear()
    memory[key] = value
