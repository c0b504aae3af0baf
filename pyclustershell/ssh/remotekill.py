"""Ends a command by a script that runs on the node, in a second session of the same connection.

A ``signal`` request (RFC 4254 6.9) is not enough. sshd up to 9.7 refuses it in the sessions of
root, and every sshd in those of a forced command. OpenSSH before 7.9 does not know it. After TERM,
the shell may end while one of its children ignores TERM: no session is left then that KILL could be
sent to.
dropbear signals the shell only, and not its children. No server reports any of this.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Callable, Optional

from paramiko import ChannelException

from .protocol import ClientChannel, ClientTransport, read_available

# The script writes this word in front of each of its reports. Start-up files may print other lines.
_MARK = b"pyclustershell-kill:"

# The server's own processes, by name: they are not the command's.
_SERVERS = "(sshd|*/sshd|sshd:*|sshd-*|dropbear|dropbearmulti|sftp-server)"

# Bytes of output after which the answer is not the script's.
_MOST_OUTPUT = 1 << 16

# The script, for any POSIX shell. It becomes one line in single quotes: see kill_command(). A row
# of the table is PID:parent:session:kind. grep finds the few processes that matter: a shell is
# slow, and a node may have thousands. Without /proc the process group stands for the session:
# sshd's commands lead both.
_SCRIPT = r"""
trap "" HUP PIPE TERM INT;
LC_ALL=C; PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH; export LC_ALL PATH;
echo "MARK begun";

rows() {
  if [ $proc ]; then
    grep -hsE "^($$|$PPID) |[)] [A-Za-z] $PPID |[)] [A-Za-z] [0-9]+ [0-9]+ ($mine$others) "
      PROC/[0-9]*/stat | sed -n
      "s/^\([0-9]*\) (\(.*\)) \([A-Za-z]\) \([0-9]*\) [-0-9]* \([0-9]*\) .*/\1 \4 \5 \3 \2/p";
  else
    ps -A -o pid= -o ppid= -o pgid= -o state= -o comm=;
  fi 2>/dev/null;
};
scan() {
  table=$(rows | while read -r pid parent session state name; do
    case $state in (Z*|X*) continue;; esac;
    case $name in SERVERS kind=server;; (*) kind=other;; esac;
    echo "$pid:$parent:$session:$kind";
  done);
};
row() {
  pid=${1%%:*}; rest=${1#*:};
  parent=${rest%%:*}; rest=${rest#*:};
  session=${rest%%:*}; kind=${rest#*:};
};
find_row() {
  session=; kind=;
  for found in $table; do case $found in ($1:*) row $found; return;; esac; done;
};
same_connection() {
  tr "\0" "\n" 2>/dev/null <PROC/$1/environ | grep -qxF "SSH_CONNECTION=$SSH_CONNECTION";
} 2>/dev/null;

find_command() {
  find_row $$; mine=$session;
  find_row $PPID; server=$session;
  for each in $table; do
    row $each;
    [ $parent = $PPID ] && [ $kind = other ] || continue;
    [ $pid = $$ ] && continue;
    [ $dedicated ] || same_connection $pid || continue;
    case $session in
      ($mine|$server) tree="$tree $pid";;
      (*) sessions="$sessions $session"; others="$others|$session";;
    esac;
  done;
};
find_victims() {
  victims=; more=1;
  for each in $table; do
    row $each;
    case " $sessions " in (*" $session "*) victims="$victims $pid";; esac;
  done;
  while [ $more ]; do
    more=;
    for each in $table; do
      row $each;
      [ "$session" = "$mine" ] || continue;
      case " $tree " in
        (*" $pid "*) ;;
        (*" $parent "*) tree="$tree $pid"; more=1;;
      esac;
    done;
  done;
  for each in $table; do
    row $each;
    [ "$session" = "$mine" ] || continue;
    case " $tree " in (*" $pid "*) victims="$victims $pid";; esac;
  done;
};
nap() {
  if sleep 0.$1 2>/dev/null; then passed=$((passed + $1));
  else sleep 1; passed=$((passed + 10)); fi;
};

sessions=; others=; tree=; dedicated=; passed=0; step=1; mine=; proc=;
if [ -r PROC/$$/stat ]; then
  read -r line <PROC/$$/stat; set -- ${line##*\) }; mine=$4; proc=1;
fi;
scan; find_row $PPID;
if [ "$kind" = server ]; then dedicated=1;
elif [ -z "$SSH_CONNECTION" ] || same_connection $PPID; then echo "MARK unknown"; exit; fi;
find_command;
while [ -z "$sessions$tree" ]; do
  if [ $passed -ge 10 ]; then echo "MARK unknown"; exit; fi;
  nap 1; scan; find_command;
done;
scan; find_victims;
kill -TERM $victims 2>/dev/null;
passed=0;
while [ $passed -lt GRACE ]; do
  [ $step -lt $((GRACE - passed)) ] || step=$((GRACE - passed));
  nap $step; [ $step -lt 4 ] && step=$((step + 1));
  scan; find_victims;
  [ "$victims" ] || break;
done;
passed=0;
while [ "$victims" ] && [ $passed -lt 10 ]; do
  kill -KILL $victims 2>/dev/null;
  nap 1; scan; find_victims;
done;
if [ "$victims" ]; then echo "MARK left";
elif [ "$table" ]; then echo "MARK gone";
else echo "MARK unknown"; fi
"""


def kill_command(grace: float, proc: str = "/proc") -> bytes:
    """Return the command that ends the other command of its own connection.

    The script sends TERM to each process of the command, and KILL after the grace period to those
    that are left. A process belongs to the command if its session (setsid(2)) is that of the shell
    that the server started. A process that has made a session of its own has detached itself on
    purpose: it is left alone. dropbear starts its commands in its own session; there, the
    descendants of the shell belong to the command.

    The server's process is the parent of both shells. sshd and dropbear have a process for each
    connection. Another server may have one for all connections: there, the environment of the shell
    must have the same ``SSH_CONNECTION`` as the script's, and the server's own must not have it.

    The login shell may be csh or fish: they do not understand a POSIX script, but single quotes and
    ``exec``. The script has neither single quotes nor exclamation marks (the history of csh).

    Args:
        grace: seconds between TERM and KILL.
        proc: the directory of the process file system; another one for tests.
    """
    script = " ".join(filter(None, map(str.strip, _SCRIPT.splitlines())))
    tenths = max(0, round(grace * 10))
    for name, value in (
        ("MARK", _MARK.decode()),
        ("SERVERS", _SERVERS),
        ("PROC", proc),
        ("GRACE", str(tenths)),
    ):
        script = script.replace(name, value)
    return f"exec /bin/sh -c '{script}'".encode()


class KillState(Enum):
    """The states of a :class:`RemoteKill`."""

    STARTING = "starting"  # nothing was heard of the script
    RUNNING = "running"  # the script runs
    GONE = "gone"  # the command's processes are gone
    FAILED = "failed"  # the script could not run, or could not end the command


def _ignore() -> None:
    """Nobody listens any more."""


class RemoteKill:
    """Runs the script of :func:`kill_command` in a session channel of its own.

    The callbacks of the channel only keep the server's answers and post. The owner's thread calls
    :meth:`read`, which moves the state.

    Args:
        transport: the connection's transport.
        grace: seconds between TERM and KILL.
        on_change: called on the thread that feeds the transport when :meth:`read` should be called.
            A lock of the channel may be held: it must only post.

    Attributes:
        state: the state.
        reason: the reason for which the command may still run.
        left: True if the script has found the command's processes, and could not end them.
        impossible: True if the server runs no script: there is no need to try again.
        begun: True if the script has begun.
    """

    def __init__(
        self, transport: ClientTransport, grace: float, on_change: Callable[[], Any]
    ) -> None:
        self.state = KillState.STARTING
        self.reason = "the server has not opened another session in time"
        self.left = False
        self.impossible = False
        self.begun = False
        self._transport = transport
        self._command = kill_command(grace)
        self._on_change = on_change
        self._channel: Optional[ClientChannel] = None
        self._refusal: Optional[str] = None
        self._output = b""
        self._dropped = False

    @property
    def ended(self) -> bool:
        """True if nothing more is heard of the script."""
        return self.state in (KillState.GONE, KillState.FAILED)

    @property
    def was_granted(self) -> bool:
        """True if the server has started the script, or something else in its place."""
        return self._channel is not None and self._channel.was_granted

    def start(self) -> None:
        """Request the channel, and run the script in it."""
        self._transport.open_session_channel(self._on_opened)

    def _on_opened(
        self, channel: Optional[ClientChannel], refusal: Optional[ChannelException]
    ) -> None:
        if channel is None:
            self._refusal = refusal.args[1] if refusal is not None else "no reason given"
            self._on_change()
        elif self._dropped:
            channel.drop()
        else:
            self._channel = channel
            channel.set_combine_stderr(True)
            channel.watch(self._on_change, lambda: None)
            channel.request_exec(self._command, self._on_change)
            channel.watch_data(self._on_change)

    def read(self) -> None:
        """Handle the server's answers and the script's reports that have arrived."""
        channel = self._channel
        if self.ended:
            return
        if self._refusal is not None:
            self.impossible = True
            self._fail(f"the server refuses another session ({self._refusal})")
        elif channel is not None:
            # Asked first: after the end no output follows.
            ended = bool(channel.eof_received or channel.closed)
            self._output += read_available(channel, stderr=False)
            *lines, self._output = self._output.split(b"\n")
            for line in lines:
                if line.startswith(_MARK):
                    self._take(line[len(_MARK) :].split())
            if ended and not self.ended:
                self._on_end(channel)
            elif self.state is KillState.STARTING:
                self.reason = "the server has not run /bin/sh in time"

    def _take(self, words: list[bytes]) -> None:
        """Handle one report."""
        if words == [b"begun"]:
            self.begun = True
            self.state = KillState.RUNNING
            self.reason = "its processes have not ended in time"
        elif words == [b"gone"]:
            self.state = KillState.GONE
        elif words == [b"unknown"]:
            self._fail("its processes cannot be found")
        elif words == [b"left"]:
            self.left = True
            self._fail("some of its processes are left after KILL")

    def _on_end(self, channel: ClientChannel) -> None:
        """The script has ended without a last report, or it did not run."""
        if self.state is KillState.STARTING:
            # Not a POSIX system, a forced command (authorized_keys), or a shell without a way out.
            self.impossible = channel.closed_by_server or channel.was_refused
            self._fail("the server does not run /bin/sh")
        else:
            self._fail("the script that ends it was ended")

    def _fail(self, reason: str) -> None:
        self.state = KillState.FAILED
        self.reason = reason

    def drop(self) -> None:
        """Close the channel. The script goes on: it needs no connection any more."""
        self._dropped = True
        # Its owner refers to this object: such a cycle would wait for the collector.
        self._on_change = _ignore
        channel = self._channel
        if channel is not None:
            channel.drop()
