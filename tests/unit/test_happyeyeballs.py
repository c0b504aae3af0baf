"""From a host name to a connected socket."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from pyclustershell.engine.engine import Engine, EngineClient
from pyclustershell.ssh.connect import happyeyeballs as happy_eyeballs
from pyclustershell.ssh.connect.happyeyeballs import Address, HappyEyeballs, Resolver, interleave
from tests.servers.faults import dropping_address, refusing_address


def address(host: str, port: int, *_scope: int) -> Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(family, socket.SOCK_STREAM, 0, "", (host, port))


class DialingClient(EngineClient):
    """Dials when it is started, and keeps the outcome."""

    def __init__(self, addresses: list[Address], bind_address: str | None) -> None:
        self.addresses = addresses
        self.bind_address = bind_address
        self.outcome: tuple[Any, Any] | None = None

    def start(self, engine: Engine) -> None:
        def then(sock: Any, error: Any) -> None:
            self.outcome = (sock, error)
            engine.finished(self)

        HappyEyeballs(engine, self.addresses, self.bind_address, True, then).start()

    def on_timeout(self) -> None:
        raise AssertionError("it has no timeout")

    def abort(self, timed_out: bool = False) -> None:
        raise AssertionError("it was to end by itself")


def dial(addresses: list[Address], bind_address: str | None = None) -> tuple[Any, Any]:
    """Dial in an engine of its own; returns the outcome."""
    engine = Engine()
    client = DialingClient(addresses, bind_address)
    engine.add(client)
    try:
        engine.run(timeout=20)
    finally:
        engine.close()
    assert client.outcome is not None
    return client.outcome


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_the_first_address_that_answers(listener: Any) -> None:
    with refusing_address() as refusing:
        sock, error = dial([address(*refusing), address(*listener.getsockname())])
    assert error is None
    assert sock.getpeername() == listener.getsockname()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    sock.close()


def test_an_address_that_does_not_answer_does_not_hold_up_the_next(listener: Any) -> None:
    with dropping_address() as dropping:
        sock, _error = dial([address(*dropping), address(*listener.getsockname())])
        assert sock.getpeername() == listener.getsockname()
        sock.close()


def test_no_address_answers() -> None:
    with refusing_address() as refusing:
        sock, error = dial([address(*refusing), address(*refusing)])
    assert sock is None
    assert error.strerror == "Connection refused"


def test_the_local_address(listener: Any) -> None:
    sock, _error = dial([address(*listener.getsockname())], bind_address="127.0.0.9")
    assert sock.getsockname()[0] == "127.0.0.9"
    sock.close()
    sock, error = dial([address(*listener.getsockname())], bind_address="192.0.2.1")
    assert sock is None
    assert error is not None


@pytest.fixture
def listener6() -> Any:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 on the loopback interface: {error}")
    with listener:
        yield listener


def test_the_other_family_where_the_first_one_does_not_answer(
    listener: Any, listener6: Any
) -> None:
    four, six = listener.getsockname(), listener6.getsockname()
    with refusing_address() as refusing, dropping_address() as dropping:
        for dead in (refusing, dropping):
            sock, error = dial([address(*dead), address(*six)])
            assert (error, sock.getpeername()) == (None, six)
            sock.close()
    with refusing_address("::1") as refusing6:
        sock, error = dial([address(*refusing6), address(*four)])
        assert (error, sock.getpeername()) == (None, four)
        sock.close()


def test_the_local_address_chooses_the_family(listener: Any, listener6: Any) -> None:
    # As with ssh: of the server's addresses, those of the local one's family are left.
    addresses = [address(*listener.getsockname()), address(*listener6.getsockname())]
    for local, listening in (("::1", listener6), ("127.0.0.9", listener)):
        sock, _error = dial(addresses, bind_address=local)
        assert sock.getpeername() == listening.getsockname()
        assert sock.getsockname()[0] == local
        sock.close()
    sock, error = dial(addresses[:1], bind_address="::1")
    assert sock is None
    assert error is not None


def test_families_take_turns() -> None:
    four = [Address(socket.AF_INET, 1, 0, "", (str(n), 1)) for n in range(3)]
    six = [Address(socket.AF_INET6, 1, 0, "", (str(n), 1)) for n in range(2)]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert interleave(four) == four


def resolve(host: str) -> tuple[list[Address], Any, threading.Thread]:
    done = threading.Event()
    result: list[Any] = []

    def then(addresses: list[Address], error: Any) -> None:
        result.append((addresses, error, threading.current_thread()))
        done.set()

    Resolver().resolve(host, 22, socket.AF_UNSPEC, then)
    assert done.wait(20)
    answer: tuple[list[Address], Any, threading.Thread] = result[0]
    return answer


def test_an_address_needs_no_thread() -> None:
    addresses, error, thread = resolve("127.0.0.1")
    assert [a.sockaddr for a in addresses] == [("127.0.0.1", 22)]
    assert error is None
    assert thread is threading.current_thread()


def test_a_name_is_looked_up_in_a_thread_that_ends() -> None:
    addresses, error, thread = resolve("localhost")
    assert ("127.0.0.1", 22) in [a.sockaddr for a in addresses]
    assert error is None
    assert thread is not threading.current_thread()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 70 + ".invalid", "a..b"])
def test_a_name_that_has_no_address(name: str) -> None:
    addresses, error, _thread = resolve(name)
    assert addresses == []
    assert isinstance(error, OSError)


def test_many_names_share_a_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    done = threading.Semaphore(0)
    gate = threading.Event()

    def look_up(*_args: Any) -> list[Address]:
        if threading.current_thread() is threading.main_thread():
            raise OSError  # not an address
        threads.add(threading.get_ident())
        assert gate.wait(10)
        return [address("127.0.0.1", 22)]

    monkeypatch.setattr(Resolver, "_look_up", staticmethod(look_up))
    resolver = Resolver()
    for number in range(100):
        resolver.resolve(f"name{number}", 22, 0, lambda *_args: done.release())
    gate.set()
    for _ in range(100):
        assert done.acquire(timeout=10)
    assert len(threads) <= happy_eyeballs._RESOLVER_THREADS


@pytest.mark.parametrize(
    ("family", "host", "found"),
    [
        (socket.AF_UNSPEC, "::1", True),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET, "::1", False),
        (socket.AF_INET6, "127.0.0.1", False),
    ],
)
def test_the_address_family(family: int, host: str, found: bool) -> None:
    answers: list[Any] = []
    done = threading.Event()

    def then(addresses: list[Address], error: Any) -> None:
        answers.extend([addresses, error])
        done.set()

    Resolver().resolve(host, 22, family, then)
    assert done.wait(20)
    addresses, error = answers
    assert bool(addresses) is found
    assert (error is None) is found
