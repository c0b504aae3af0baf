"""Files that cannot be opened for want of a descriptor do not look missing; they are read again."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from pyclustershell.exceptions import HostKeyError
from pyclustershell.ssh.auth.keystore import KeyStore
from pyclustershell.ssh.config.memo import Memo, Passing
from pyclustershell.ssh.hostkeys.checker import HostKeyChecker
from tests.helpers.tasks import fresh_task


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Call it with True, and no file can be opened; with False, and files can."""

    def refuse(path: Any, *_args: Any, **_options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    original = builtins.open
    return lambda short: monkeypatch.setattr(builtins, "open", refuse if short else original)


def test_a_known_host_does_not_look_unknown(
    tmp_path: Path, shortage: Callable[[bool], None]
) -> None:
    """Under the policy 'accept-new' the key of an impostor would be accepted, and added."""
    path = tmp_path / "known_hosts"
    path.write_text("")
    checker = HostKeyChecker()
    with fresh_task() as task:
        task.configure_ssh(
            config_files="none", known_hosts=[str(path)], host_key_policy="accept-new"
        )
        settings = task.connection_settings("node1")
    shortage(True)
    assert checker.known_algorithms(settings) == ()
    with pytest.raises(HostKeyError, match="Too many open files"):
        checker.check(settings, "ssh-ed25519", b"key", "127.0.0.1")
    shortage(False)
    assert checker.look_up(settings, b"key")


def test_keys_and_certificates_are_read_again(
    tmp_path: Path, shortage: Callable[[bool], None]
) -> None:
    path = tmp_path / "key"
    path.write_text("no key")
    path.chmod(0o600)
    keys = KeyStore()
    shortage(True)
    assert "Too many open files" in str(keys.load(str(path)))
    assert "Too many open files" in str(keys.certificate(str(path)))
    shortage(False)
    assert "Too many open files" not in str(keys.load(str(path)))
    assert "is not an OpenSSH certificate" in str(keys.certificate(str(path)))


def test_a_passing_result_is_not_kept() -> None:
    memo = Memo()
    results = iter([Passing("passing"), "final", "never"])
    assert [memo.get("key", lambda: next(results)) for _ in range(3)] == [
        "passing",
        "final",
        "final",
    ]
