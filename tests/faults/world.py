"""The laboratory's servers, in a process of their own: the client's threads and files are its own.

``python -m tests.faults.world DIRECTORY`` starts them, prints one line of JSON (see :class:`World`)
and takes the plans of the proxies, a line each, until the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Optional

import asyncssh

from tests.faults.copies import make_samples
from tests.faults.nodes import COMMAND, CUT, HEALTHY, NODES, PHASE, RAW, server_for
from tests.servers.faults import dropping_address, refusing_address
from tests.servers.phases import host_key
from tests.servers.proxy import FaultyProxy, Plan
from tests.servers.sftp import end_other_tasks
from tests.servers.sshd import SFTP_SERVER, Sshd, node_address

Block = dict[str, Any]

ROOT = Path(__file__).parents[2]
_STOP_DEADLINE = 30.0


class World:
    """The servers, seen from the client's process. A context manager.

    Attributes:
        ssh_config: an OpenSSH client configuration file for every node of nodes.NODES.
        homes: the directory of the OpenSSH nodes' home directories.
        samples: a directory with the samples that are copied to nodes.
        nodes: the home directories by node, of those that have one.
    """

    def __init__(self) -> None:
        # sshd's commands run as another account, which must be able to read the files.
        self._directory = Path(tempfile.mkdtemp(prefix="laboratory-"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.world", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        told: dict[str, Any] = json.loads(self._read_line())
        self.ssh_config: str = told["ssh_config"]
        self.nodes: dict[str, str] = told["homes"]
        self.homes = self._directory / "homes"
        self.samples = self._directory / "samples"

    def _read_line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the servers ended with {self._process.wait()}")
        return line

    def home(self, node: str) -> Path:
        """The directory of a node's relative paths."""
        return Path(self.nodes[node])

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        """Give the proxies new plans, for connections that are made from now on."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(plans) + "\n")
            self._process.stdin.flush()
        self._read_line()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        with self._process:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(_STOP_DEADLINE)
            finally:
                self._process.kill()
        shutil.rmtree(self._directory)


# -- the servers' process --------------------------------------------------------------------------


def _sftp_at_home(script: Path, homes: Path) -> Path:
    """Write a program for sshd's Subsystem: each address of the server has a home of its own."""
    script.write_text(
        f'#!/bin/sh\nset -- $SSH_CONNECTION\nexec {SFTP_SERVER} -d "{homes}/$3"\n',
        encoding="ascii",
    )
    script.chmod(0o755)
    return script


def _make_home(home: Path) -> str:
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o777)  # for the nodes' account
    make_samples(home)
    return str(home)


def _openssh(server: Sshd, kind: str) -> dict[str, Block]:
    """The nodes of one OpenSSH server."""
    return {
        f"{kind}{index}": {
            "HostName": node_address(index),
            "Port": server.port,
            "HostKeyAlias": "pyclustershell-tests",
            "User": server.user,
            "IdentityFile": server.key,
            "UserKnownHostsFile": server.known_hosts,
        }
        for index in range(1, HEALTHY[kind] + 1)
    }


async def _pump(read: Any, write: Any, drain: Any, close: Any = None) -> bool:
    """Pass bytes on until their end, for asyncssh. Returns False if the stream broke before."""
    try:
        while data := await read(65536):
            write(data)
            await drain()
    except (OSError, asyncssh.Error):
        return False
    finally:
        if close is not None:
            close()
    return True


async def _run_for(process: Any) -> None:
    """Run a command of asyncssh's server."""
    local: Any = await asyncio.create_subprocess_shell(
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    stdin = local.stdin
    output = asyncio.gather(
        _pump(local.stdout.read, process.stdout.write, process.stdout.drain),
        _pump(local.stderr.read, process.stderr.write, process.stderr.drain),
    )
    feed = asyncio.ensure_future(_pump(process.stdin.read, stdin.write, stdin.drain, stdin.close))
    gone = asyncio.ensure_future(process.channel.wait_closed())
    try:
        await asyncio.wait([output, gone], return_when=asyncio.FIRST_COMPLETED)
        if output.done() and all(output.result()):
            await local.wait()
    finally:
        # If the client or the server went away, the command's output has no reader any more. The
        # command must end before the loop does: asyncio needs the loop to release its pipes.
        for work in (gone, feed, output):
            work.cancel()
        await asyncio.gather(gone, feed, output, return_exceptions=True)
        if local.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(local.pid, signal.SIGKILL)
        code = await local.wait()
    if code < 0:
        process.exit_with_signal({-9: "KILL", -15: "TERM"}.get(code, "TERM"))
    else:
        process.exit(code)


@contextlib.contextmanager
def _asyncssh(directory: Path, homes: Mapping[str, str]) -> Iterator[dict[str, Block]]:
    """An asyncssh server for each node of ``homes``; their blocks. One thread runs their loop."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    identity, known_hosts = directory / "async_key", directory / "async_hosts"
    identity.touch(0o600)
    identity.write_bytes(user_key.export_private_key())
    known_hosts.write_text(f"async {key.export_public_key().decode()}")
    accepted = user_key.export_public_key().decode()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="asyncssh servers")

    async def listen(home: str) -> Any:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            authorized_client_keys=asyncssh.import_authorized_keys(accepted),
            process_factory=_run_for,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=home.encode()),
            encoding=None,
        )

    async def close() -> None:
        for server in servers.values():
            server.close()
            await server.wait_closed()
        await end_other_tasks()

    def wait_for(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_STOP_DEADLINE)

    thread.start()
    servers: dict[str, Any] = {}
    try:
        for node, home in homes.items():
            servers[node] = wait_for(listen(home))
        yield {
            node: {
                "HostName": "127.0.0.1",
                "Port": server.get_port(),
                "HostKeyAlias": "async",
                "User": "me",
                "IdentityFile": identity,
                "UserKnownHostsFile": known_hosts,
            }
            for node, server in servers.items()
        }
    finally:
        wait_for(close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Servers(NamedTuple):
    """The servers that were started.

    Attributes:
        blocks: configuration by node.
        proxies: the proxies with changing plans, by node.
        homes: home directories by node, of those that have one.
        ssh_config: a file with more configuration.
    """

    blocks: dict[str, Block]
    proxies: dict[str, FaultyProxy]
    homes: dict[str, str]
    ssh_config: Path


@contextlib.contextmanager
def _servers(directory: Path) -> Iterator[Servers]:
    """All servers."""
    from pyclustershell.loopback import LoopbackCluster

    blocks: dict[str, Block] = {}
    proxies: dict[str, FaultyProxy] = {}
    homes: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        for kind, settings in (
            ("ssh", {}),
            ("rekey", {"RekeyLimit": "16K"}),
            ("single", {"MaxSessions": 1}),
            ("own", {"user": getpass.getuser()}),
        ):
            (directory / kind).mkdir()
            place = directory / "homes" / kind
            sftp = f"sftp {_sftp_at_home(directory / f'{kind}-sftp', place)}"
            server = enter(Sshd(directory / kind, Subsystem=sftp, **settings))
            blocks.update(_openssh(server, kind))
            for index in range(1, HEALTHY[kind] + 1):
                homes[f"{kind}{index}"] = _make_home(place / node_address(index))
            if kind == "ssh":
                behind_proxies = [
                    *(f"slow{index}" for index in range(1, HEALTHY["slow"] + 1)),
                    *(f"cut{index}" for index in range(1, CUT + 1)),
                ]
                # Behind those that have names.
                for index, name in enumerate(behind_proxies, HEALTHY["ssh"] + 1):
                    address = node_address(index)
                    proxy = proxies[name] = enter(FaultyProxy((address, server.port)))
                    homes[name] = _make_home(place / address)
                    where = {"HostName": "127.0.0.1", "Port": proxy.port}
                    blocks[name] = {**blocks["ssh1"], **where}
        cluster = enter(LoopbackCluster(f"loop[1-{HEALTHY['loop']}]"))
        homes.update({node: _make_home(Path(cluster.home(node))) for node in cluster.nodes})
        async_homes = {
            f"async{index}": _make_home(directory / "homes" / f"async{index}")
            for index in range(1, HEALTHY["async"] + 1)
        }
        homes.update(async_homes)
        blocks.update(enter(_asyncssh(directory, async_homes)))
        key = host_key()
        known = directory / "known_hosts"
        known.write_text(f"phases {key.get_name()} {key.get_base64()}\n")
        faulty: Block = {
            "HostName": "127.0.0.1",
            "User": "me",
            "HostKeyAlias": "phases",
            "IdentityFile": blocks["ssh1"]["IdentityFile"],
            "UserKnownHostsFile": known,
        }
        for name in (
            *(f"raw-{n}" for n in RAW),
            *(f"phase-{n}" for n in PHASE),
            *(f"command-{n}" for n in COMMAND),
        ):
            blocks[name] = {**faulty, "Port": enter(server_for(name, key)).port}
        blocks["refused"] = {**faulty, "Port": enter(refusing_address())[1]}
        blocks["dropped"] = {**faulty, "Port": enter(dropping_address())[1]}
        blocks["nowhere"] = {**faulty, "HostName": "nowhere.invalid"}
        yield Servers(blocks, proxies, homes, Path(cluster.ssh_config))


def _main(directory: Path) -> None:
    directory.chmod(0o755)
    # If a client goes away, asyncssh leaves a coroutine unawaited, and Python warns of it.
    warnings.simplefilter("ignore", RuntimeWarning)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    samples = directory / "samples"
    samples.mkdir()
    make_samples(samples)
    with _servers(directory) as servers:
        lines = [
            f"Host {name}\n"
            + "".join(f"    {keyword} {value}\n" for keyword, value in block.items())
            + "    IdentitiesOnly yes\n    StrictHostKeyChecking yes\n"
            for name, block in servers.blocks.items()
        ]
        config = directory / "ssh_config"
        config.write_text(servers.ssh_config.read_text() + "".join(lines))
        missing = [
            name for name in NODES if name not in servers.blocks and not name.startswith("loop")
        ]
        if missing:
            raise RuntimeError(f"no servers for {missing}")
        print(json.dumps({"ssh_config": str(config), "homes": servers.homes}), flush=True)
        for line in sys.stdin:
            for name, plan in json.loads(line).items():
                servers.proxies[name].plan = Plan(*plan)
            print("{}", flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
