"""Checks that paramiko has the undocumented names that this package overrides, calls and reads.

An override of a method that paramiko has renamed is never called. Among them are the limits on a
server's messages and the checks of its host key, so nobody would notice: fail at first use instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler

SUPPORTED = "paramiko>=3.4,<6"
"""The releases that this package works with."""

# Methods, with the names of their parameters after ``self``.
METHODS: dict[Any, dict[str, str]] = {
    paramiko.Transport: {
        "_activate_inbound": "",
        "_activate_outbound": "",
        "_compute_key": "id nbytes",
        "_enforce_strict_kex": "ptype",
        "_expect_packet": "ptypes",
        "_log": "level msg args",
        "_negotiate_keys": "m",
        "_next_channel": "",
        "_parse_channel_open": "m",
        "_parse_channel_open_failure": "m",
        "_parse_channel_open_success": "m",
        "_parse_disconnect": "m",
        "_parse_ext_info": "msg",
        "_parse_global_request": "m",
        "_parse_kex_init": "m",
        "_parse_newkeys": "m",
        "_really_parse_kex_init": "m ignore_first_byte",
        "_sanitize_packet_size": "max_packet_size",
        "_sanitize_window_size": "window_size",
        "_send_kex_init": "",
        "_send_message": "data",
        "_send_user_message": "data",
        "_set_K_H": "k h",
        "_unlink_channel": "chanid",
        "_verify_key": "host_key sig",
    },
    paramiko.Channel: {
        "_check_add_window": "n",
        "_log": "level msg args",
        "_send": "s m",
        "_set_closed": "",
        "_set_remote_channel": "chanid window_size max_packet_size",
        "_set_transport": "transport",
        "_set_window": "window_size max_packet_size",
        "_unlink": "",
    },
    AuthHandler: {
        "_get_key_type_and_bits": "key",
        "_get_session_blob": "key service username algorithm",
        "_parse_service_accept": "m",
        "_parse_userauth_failure": "m",
        "_parse_userauth_info_request": "m",
        "_parse_userauth_success": "m",
        "_request_auth": "",
    },
    paramiko.Message: {"get_bytes": "n"},
}

# Attributes of a class, and those that its methods set or read on instances.
ATTRIBUTES: dict[Any, str] = {
    paramiko.Transport: (
        "_cipher_info _mac_info _kex_info _key_info _compression_info _preferred_compression "
        "_preferred_keys _preferred_pubkeys preferred_ciphers preferred_macs preferred_kex "
        "preferred_keys preferred_pubkeys _channels _handler_table _latest_kex_init "
        "_remote_ext_info _remote_strict_kex advertise_strict_kex agreed_on_strict_kex "
        "auth_handler clear_to_send clear_to_send_lock completion_event host_key "
        "host_key_type in_kex initial_kex_done kex_engine local_cipher local_compression "
        "local_kex_init local_mac packetizer remote_cipher remote_compression remote_kex_init "
        "remote_mac remote_version saved_exception session_id"
    ),
    paramiko.Channel: (
        "active closed combine_stderr eof_received eof_sent event event_ready exit_status "
        "in_buffer in_max_packet_size in_stderr_buffer in_window_size in_window_sofar "
        "in_window_threshold lock out_buffer_cv out_max_packet_size out_window_size "
        "remote_chanid status_event transport _pipe"
    ),
    AuthHandler: "_client_handler_table _handler_table auth_event auth_method username",
    paramiko.Message: "packet",
}


def check_paramiko() -> None:
    """Check all names.

    Raises:
        ImportError: this release of paramiko lacks one, or a method has other parameters.
    """
    for owner, methods in METHODS.items():
        for name, expected in methods.items():
            function = getattr(owner, name, None)
            if function is None:
                raise _lacks(owner, name)
            found = " ".join(list(inspect.signature(function).parameters)[1:])
            if found != expected:
                raise _lacks(owner, f"{name}({expected.replace(' ', ', ')})")
    for owner, names in ATTRIBUTES.items():
        used = {name for function in _functions(owner) for name in function.__code__.co_names}
        for name in names.split():
            if not hasattr(owner, name) and name not in used:
                raise _lacks(owner, name)


def _functions(owner: Any) -> Iterator[FunctionType]:
    for member in vars(owner).values():
        function = member.fget if isinstance(member, property) else member
        if isinstance(function, FunctionType):
            yield function


def _lacks(owner: Any, name: str) -> ImportError:
    return ImportError(
        f"paramiko {paramiko.__version__} has no {owner.__name__}.{name}, which pyclustershell "
        f"needs: install a release that it knows, pip install '{SUPPORTED}'"
    )
