"""The agreement on algorithms (RFC 4253 7.1), worked out once for all servers of a kind."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Optional, TypeVar

import paramiko
from paramiko import IncompatiblePeer
from paramiko.common import cMSG_KEXINIT
from paramiko.message import Message
from paramiko.ssh_exception import MessageOrderError

from ...printable import printable
from ..config.settings import select_algorithms
from . import algorithms
from .received import check_end

K = TypeVar("K")
V = TypeVar("V")

logger = logging.getLogger("pyclustershell.ssh")

# A KEXINIT begins with its type and a cookie of random bytes; lists of algorithms follow.
_COOKIE_SIZE = 16

# How many different offers are remembered, and how many agreements.
_MOST = 256
_OFFERS: dict[tuple[object, ...], bytes] = {}
_AGREEMENTS: dict[tuple[object, ...], dict[str, Any]] = {}

# The attributes of the transport in which paramiko keeps an agreement.
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

# The sizes of a cipher, in bytes, for which a key exchange makes keys.
_SIZES = ("key-size", "block-size", "iv-size")

# The lists of a KEXINIT (RFC 4253 7.1), by paramiko's names, and the kind of algorithms in each.
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

    Most transports offer the same, and all servers of a kind answer the same, except for a cookie.
    paramiko makes the message and compares both sides in some 600 calls. This class lets it do so
    for the first server, and remembers the result for the others.
    """

    _kex_info: ClassVar[dict[str, Any]] = dict(algorithms.KEX_METHODS)
    _preferred_ciphers = algorithms.CIPHERS
    _preferred_macs = algorithms.MACS
    _preferred_kex = algorithms.KEX
    _preferred_keys = algorithms.KEYS
    _preferred_pubkeys = algorithms.PUBKEYS

    # The settings by kind that are not None, for messages.
    _wishes: Mapping[str, Sequence[str]] = {}

    def offer(
        self, kind: str, wanted: Optional[Sequence[str]], first: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Choose the algorithms that are offered, in order of preference.

        paramiko's ``get_security_options()`` refuses a whole list for one unknown name.

        Args:
            kind: 'ciphers', 'macs', 'kex' or 'keys'.
            wanted: the value of the setting, see :func:`select_algorithms`; None for the defaults.
            first: algorithms to put first, if they are offered.

        Returns:
            The algorithms offered. If paramiko has none of the wanted ones, this is empty, and the
            offer does not change.
        """
        table = self._known(kind)
        attribute = f"_preferred_{kind}"
        default = getattr(self, attribute)
        chosen = default if wanted is None else select_algorithms(wanted, tuple(table), default)
        if first:
            # With the defaults, certificates may be put first as well: the table has their types.
            possible = table if wanted is None else chosen
            chosen = (*(n for n in first if n in possible), *(n for n in chosen if n not in first))
        if chosen and chosen is not default:
            setattr(self, attribute, chosen)
        if wanted is not None:
            self._wishes = {**self._wishes, kind: wanted}
        return tuple(chosen)

    def explain_empty(self, kind: str) -> str:
        """Say why :meth:`offer` has returned nothing for a kind."""
        return algorithms.explain_empty(kind, self._wishes[kind], self._known(kind))

    def _known(self, kind: str) -> Mapping[str, Any]:
        """Return paramiko's algorithms of a kind."""
        tables: dict[str, Mapping[str, Any]] = {
            "ciphers": self._cipher_info,
            "macs": self._mac_info,
            "kex": self._kex_info,
            "keys": self._key_info,
        }
        return tables[kind]

    @property
    def strength(self) -> int:
        """The bits of the longest key of the session, for Diffie-Hellman: as OpenSSH's dh_need."""
        sizes: list[int] = []
        for cipher, mac in (
            (self.local_cipher, self.local_mac),
            (self.remote_cipher, self.remote_mac),
        ):
            details = self._cipher_info[cipher]
            sizes += [details[name] for name in _SIZES if name in details]
            if not details.get("is_aead"):
                sizes.append(self._mac_info[mac]["size"])
        return 8 * max(sizes)

    # paramiko's own properties filter disabled algorithms, name by name, at each access.
    preferred_ciphers = property(lambda self: self._preferred_ciphers)
    preferred_macs = property(lambda self: self._preferred_macs)
    preferred_kex = property(lambda self: self._preferred_kex)
    preferred_pubkeys = property(lambda self: self._preferred_pubkeys)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms to ask for, in order.

        paramiko's own property puts the certificates of all keys last, and would add a second
        suffix to the ones that :meth:`offer` has put first.
        """
        return algorithms.with_certificates(tuple(self._preferred_keys))

    def _offer(self) -> tuple[object, ...]:
        """Return the values that determine our KEXINIT, and with the server's the agreement."""
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
        # paramiko keeps values of an earlier agreement that the server does not renew.
        before = (self.initial_kex_done, self.agreed_on_strict_kex)
        case = (content[_COOKIE_SIZE:], self._offer(), before)
        agreed = _AGREEMENTS.get(case)
        # paramiko logs the whole agreement: let it do so if that is wanted.
        if agreed is None or logger.isEnabledFor(logging.DEBUG):
            self._agree(m)
            agreed = {name: getattr(self, name, None) for name in _AGREED}
            agreed["method"] = type(self.kex_engine)
            check_end(m)
            _remember(_AGREEMENTS, case, agreed)
            return
        for name in _AGREED:
            setattr(self, name, agreed[name])
        if self.agreed_on_strict_kex and not self.initial_kex_done and m.seqno != 0:
            raise MessageOrderError("KEXINIT was not the first packet, as strict key exchange asks")
        self.kex_engine = agreed["method"](self)
        self.remote_kex_init = cMSG_KEXINIT + content

    def _agree(self, m: Message) -> None:
        # paramiko's error names the kind without a common algorithm, but not the server's offer.
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer as error:
            m.rewind()
            raise self._mismatch(self._really_parse_kex_init(m)) or error from None

    def _mismatch(self, offers: Mapping[str, list[str]]) -> Optional[IncompatiblePeer]:
        """Return the error for the first kind without a common algorithm; None if all have one."""
        for field, kind in _NEGOTIATED.items():
            offered = [name for name in offers[field] if name not in algorithms.ANNOUNCEMENTS]
            if not set(getattr(self, f"preferred_{kind}")).intersection(offered):
                names = [printable(name) for name in offered]
                wanted = self._wishes.get(kind)
                return IncompatiblePeer(
                    algorithms.explain_mismatch(kind, names, self._known(kind), wanted)
                )
        return None


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= _MOST:
        memory.clear()
    memory[key] = value
