"""An asyncssh server for passwords and questions: sshd needs PAM and real accounts for them.

Every name that a test gives to 127.0.0.1 and the server's port is one more node.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import asyncssh

PASSWORD = "correct horse"
START_DEADLINE = 20.0


class PasswordServer:
    """An asyncssh server in a thread. A context manager.

    Attributes:
        attempts: each password and each answer that a client sent, with the user's name.
        methods: the methods that it accepts, of 'password' and 'keyboard-interactive'.
        prompts: its questions of keyboard-interactive, in their order.
        port: its port on 127.0.0.1.
        host_key: its public host key, type and base64.
    """

    def __init__(
        self,
        methods: Sequence[str],
        *,
        prompts: Sequence[str] = ("Password: ",),
        password: str = PASSWORD,
    ) -> None:
        self.methods = list(methods)
        self.prompts = list(prompts)
        self.attempts: list[tuple[str, str]] = []
        self.password = password
        self.port = 0
        self.host_key = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> PasswordServer:
        self._thread.start()
        assert self._ready.wait(START_DEADLINE)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_DEADLINE)

    def options(self, **options: Any) -> dict[str, Any]:
        """All that is needed to reach it but for a way to authenticate."""
        return {
            "config_files": [],
            "user": "somebody",
            "hostname": "127.0.0.1",
            "port": self.port,
            "known_hosts": [f"[127.0.0.1]:{self.port} {self.host_key}"],
            "agent": False,
            "identity_files": [],
            **options,
        }

    def _make_session(self) -> Any:
        outer = self

        class Server(asyncssh.SSHServer):
            def __init__(self) -> None:
                self.asked = 0

            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return "password" in outer.methods

            def validate_password(self, username: str, password: str) -> bool:
                outer.attempts.append((username, password))
                return password == outer.password

            def kbdint_auth_supported(self) -> bool:
                return "keyboard-interactive" in outer.methods

            def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
                self.asked = 0
                return "", "", "", [(outer.prompts[0], False)]

            def validate_kbdint_response(self, username: str, responses: Any) -> Any:
                outer.attempts.append((username, responses[0]))
                self.asked += 1
                if responses[0] != outer.password:
                    return False
                if self.asked < len(outer.prompts):
                    return "", "", "", [(outer.prompts[self.asked], False)]
                return True

        return Server()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)

        def run(process: Any) -> None:
            process.stdout.write("ok\n")
            process.exit(0)

        async def listen() -> Any:
            key = asyncssh.generate_private_key("ssh-ed25519")
            self.host_key = key.export_public_key().decode().strip()
            return await asyncssh.create_server(
                self._make_session, "127.0.0.1", 0, server_host_keys=[key], process_factory=run
            )

        listener = self._loop.run_until_complete(listen())
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        listener.close()
        self._loop.run_until_complete(listener.wait_closed())
        pending = asyncio.all_tasks(self._loop)
        for unfinished in pending:
            unfinished.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()
