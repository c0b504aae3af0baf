"""How a handler's methods are found and called."""

from __future__ import annotations

from typing import Any
from unittest import mock

from pyclustershell.event import Dispatcher, EventHandler


def test_the_base_class_hears_nothing() -> None:
    dispatcher = Dispatcher(EventHandler())
    assert not dispatcher.reads
    worker: Any = object()
    dispatcher.start(worker)
    dispatcher.pickup(worker, "node1")
    dispatcher.read(worker, "node1", "stdout", b"line")
    dispatcher.written(worker, "node1", "stdin", 3)
    dispatcher.hup(worker, "node1", 0)
    dispatcher.close(worker, False)


def test_new_forms_get_all_arguments() -> None:
    handler = mock.create_autospec(EventHandler, instance=True)
    dispatcher = Dispatcher(handler)
    worker: Any = object()
    dispatcher.pickup(worker, "node1")
    dispatcher.read(worker, "node1", "stderr", b"line")
    dispatcher.hup(worker, "node1", 3)
    dispatcher.close(worker, True)
    handler.ev_pickup.assert_called_once_with(worker, "node1")
    handler.ev_read.assert_called_once_with(worker, "node1", "stderr", b"line")
    handler.ev_hup.assert_called_once_with(worker, "node1", 3)
    handler.ev_close.assert_called_once_with(worker, True)


def test_methods_set_on_an_instance_and_open_signatures_are_new_forms() -> None:
    heard: list[Any] = []
    handler = EventHandler()
    handler.ev_read = lambda *args: heard.append(args)  # type: ignore[method-assign]
    handler.ev_hup = lambda worker, node, rc: heard.append(rc)  # type: ignore[method-assign]
    dispatcher = Dispatcher(handler)
    worker: Any = object()
    dispatcher.read(worker, "node1", "stdout", b"line")
    dispatcher.hup(worker, "node1", 3)
    assert heard == [(worker, "node1", "stdout", b"line"), 3]


def test_the_old_ev_read_does_not_hear_stderr() -> None:
    heard: list[Any] = []

    class Old(EventHandler):
        def ev_read(self, worker: Any) -> None:  # type: ignore[override]
            heard.append("read")

    dispatcher = Dispatcher(Old())
    worker: Any = object()
    dispatcher.read(worker, "node1", "stdout", b"line")
    dispatcher.read(worker, "node1", "stderr", b"line")
    assert heard == ["read"]


def test_a_signature_is_read_once_per_function_not_per_handler() -> None:
    class Handler(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int | None) -> None:
            pass

    Dispatcher(Handler())
    with mock.patch("inspect.signature") as signature:
        Dispatcher(Handler())
    signature.assert_not_called()
