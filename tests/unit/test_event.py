"""How a handler's methods are found and called."""

from __future__ import annotations

import contextlib
import functools
import gc
import warnings
import weakref
from typing import Any
from unittest import mock

import pytest

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
    dispatcher.read(worker, "node1", "stderr", b"line")
    with pytest.warns(DeprecationWarning, match="Old.ev_read"):
        dispatcher.read(worker, "node1", "stdout", b"line")
    assert heard == ["read"]


class OldForms(EventHandler):
    """Every method that has an old form, in that form."""

    def ev_pickup(self, worker: Any) -> None:  # type: ignore[override]
        pass

    def ev_read(self, worker: Any) -> None:  # type: ignore[override]
        pass

    def ev_error(self, worker: Any) -> None:
        pass

    def ev_hup(self, worker: Any) -> None:  # type: ignore[override]
        pass

    def ev_timeout(self, worker: Any) -> None:
        pass

    def ev_close(self, worker: Any) -> None:  # type: ignore[override]
        pass


def test_an_old_form_gives_one_warning_for_each_worker_and_method() -> None:
    handler, worker = OldForms(), object()
    for _ in range(2):
        dispatcher = Dispatcher(handler)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dispatcher.start(worker)
            for node in ("node1", "node2"):
                dispatcher.pickup(worker, node)
                dispatcher.read(worker, node, "stderr", b"line")
                dispatcher.read(worker, node, "stdout", b"line")
                dispatcher.read(worker, node, "stdout", b"line")
                dispatcher.hup(worker, node, 0)
            dispatcher.close(worker, True)
        assert {each.category for each in caught} == {DeprecationWarning}
        called, instead = zip(*(str(each.message).split(" is an old form: ") for each in caught))
        assert called == tuple(
            f"OldForms.ev_{event}(worker)"
            for event in ("pickup", "read", "hup", "timeout", "close")
        )
        assert instead == (
            "define ev_pickup(self, worker, node) instead",
            "define ev_read(self, worker, node, sname, msg) instead",
            "define ev_hup(self, worker, node, rc) instead",
            "define ev_close(self, worker, timedout) instead",
            "define ev_close(self, worker, timedout) instead",
        )


def test_signatures_are_read_once_per_class_not_per_handler() -> None:
    class Handler(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int | None) -> None:
            pass

    Dispatcher(Handler())
    with mock.patch("inspect.signature") as signature:
        Dispatcher(Handler())
    signature.assert_not_called()


def expecting(old: bool) -> contextlib.AbstractContextManager[Any]:
    """Expect a warning of an old form, or none."""
    if old:
        return pytest.warns(DeprecationWarning, match="is an old form")
    return contextlib.nullcontext()


def test_a_method_of_one_handler_is_told_apart_from_its_class() -> None:
    heard: list[Any] = []

    class Handler(EventHandler):
        def ev_hup(self, worker: Any, node: str, rc: int | None) -> None:
            heard.append(("new", node, rc))

    def old(worker: Any) -> None:
        heard.append("old")

    first, second = Handler(), Handler()
    second.ev_hup = old  # type: ignore[method-assign, context]
    worker: Any = object()
    for handler in (first, second, first):
        with expecting(handler is second):
            Dispatcher(handler).hup(worker, "node1", 0)
    assert heard == [("new", "node1", 0), "old", ("new", "node1", 0)]


@pytest.mark.parametrize(
    ("make", "old"),
    [
        (lambda heard: lambda worker: [heard(worker)], True),
        (lambda heard: lambda worker, timedout: [heard(worker, timedout)], False),
        (lambda heard: lambda worker, timedout=None: heard(worker, timedout), False),
        (lambda heard: lambda *details: [heard(*details)], False),
        (lambda heard: functools.partial(lambda extra, worker: heard(worker), "extra"), True),
        (lambda heard: functools.partial(lambda extra, w, t: heard(w, t), "extra"), False),
        (lambda heard: mock.Mock(side_effect=heard), False),
        (lambda heard: heard, False),
    ],
)
def test_callables_of_all_kinds(make: Any, old: bool) -> None:
    heard = mock.Mock()
    handler = EventHandler()
    handler.ev_close = make(heard)  # type: ignore[method-assign]
    worker: Any = object()
    with expecting(old):
        Dispatcher(handler).close(worker, False)
    heard.assert_called_once_with(*((worker,) if old else (worker, False)))


def test_what_a_handler_held_is_not_kept() -> None:
    class Handler(EventHandler):
        pass

    handler = Handler()
    handler.ev_close = functools.partial(print, handler)  # type: ignore[method-assign]
    Dispatcher(handler)
    remains = weakref.ref(handler)
    del handler
    gc.collect()
    assert remains() is None


def test_a_misspelled_event_is_told_once() -> None:
    class Misspelled(EventHandler):
        def ev_resutl(self, worker: Any, node: str, result: Any) -> None:
            """Never called."""

        def ev_own_helper(self) -> None:
            """The user's."""

    with pytest.warns(UserWarning, match=r"ev_resutl is no event, .*: did you mean 'ev_result'"):
        Dispatcher(Misspelled())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Dispatcher(Misspelled())
