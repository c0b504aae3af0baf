"""A name of paramiko's that is renamed is noticed at first use."""

from __future__ import annotations

from typing import Any

import paramiko
import pytest

from pyclustershell.ssh.protocol import paramikonames
from pyclustershell.ssh.protocol.paramikonames import ATTRIBUTES, METHODS, check_paramiko
from pyclustershell.ssh.protocol.transport import ClientTransport

ALL_METHODS = [(owner, name) for owner, names in METHODS.items() for name in names]
ALL_ATTRIBUTES = [(owner, name) for owner, names in ATTRIBUTES.items() for name in names.split()]


def test_this_release_has_all_names() -> None:
    check_paramiko()


@pytest.mark.parametrize(("owner", "name"), ALL_METHODS)
def test_a_renamed_method_is_noticed(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "renamed", getattr(owner, name), raising=False)
    monkeypatch.delattr(owner, name)
    expected = rf"paramiko {paramiko.__version__} has no {owner.__name__}\.{name}, .*<6"
    with pytest.raises(ImportError, match=expected):
        check_paramiko()


@pytest.mark.parametrize(("owner", "name"), ALL_METHODS)
def test_other_parameters_are_noticed(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, lambda self, quite, other: None)
    with pytest.raises(ImportError, match=rf"has no {owner.__name__}\.{name}\("):
        check_paramiko()


@pytest.mark.parametrize(("owner", "name"), ALL_ATTRIBUTES)
def test_a_renamed_attribute_is_noticed(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(owner, name):
        monkeypatch.delattr(owner, name)
    for function in paramikonames._functions(owner):
        code = function.__code__
        names = tuple("renamed" if other == name else other for other in code.co_names)
        monkeypatch.setattr(function, "__code__", code.replace(co_names=names))
    with pytest.raises(ImportError, match=rf"has no {owner.__name__}\.{name}, which"):
        check_paramiko()


def test_every_private_name_that_is_overridden_is_checked() -> None:
    paramikos = {name for name in vars(paramiko.Transport) if not name.startswith("__")}
    ours = {
        name
        for cls in ClientTransport.__mro__
        if cls.__module__.startswith("pyclustershell")
        for name in vars(cls)
        if name.startswith("_") and not name.startswith("__")
    }
    checked = {*METHODS[paramiko.Transport], *ATTRIBUTES[paramiko.Transport].split()}
    # Ours, by paramiko's defaults: they are set and not read from it.
    defaults = {"_preferred_ciphers", "_preferred_macs", "_preferred_kex"}
    assert (ours & paramikos) - checked - defaults == set()
