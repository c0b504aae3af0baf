"""The sources of node groups.

A group source answers four questions: which nodes are in a group (map), which groups there are
(list), which nodes there are at all (all), and to which groups a node belongs (reverse). It does so
from a dictionary, a YAML file, or the output of commands (*upcalls*).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pkgutil import resolve_name
from string import Template
from typing import Any, Callable, Optional, Union

from ..exceptions import GroupResolverConfigError, GroupSourceNoUpcall, GroupSourceQueryFailed

#: How long what a command or a file said is believed, in seconds.
DEFAULT_CACHE_TIME = 3600.0

#: How long a command may take, in seconds.
DEFAULT_UPCALL_TIMEOUT = 60.0

#: Runs a command: takes the command, its working directory (None: this process's) and a timeout in
#: seconds; gives its exit code and its standard output. Raises TimeoutError where it took too long,
#: OSError where it could not be run or said too much.
UpcallRunner = Callable[[str, Optional[str], float], "tuple[int, str]"]

#: What a source answers with: text, with the names separated by white space, or a list of names.
Answer = Union[str, Iterable[str]]

# Values set into a command line. Whatever means something to a shell, to sed or to awk is refused;
# there is no quoting that is right for all places of a command into which a value may be set.
_SAFE_VALUE = re.compile(r"[\w.:+=@%,][\w.:+=@%,-]*")

_LOGGER = logging.getLogger(__name__)


class _DefaultRunner:
    """The upcall runner, found by its name when the first upcall is made.

    Starting processes belongs to the transport layer, which node sets do not need and must not
    import. This is the one place where they reach it.
    """

    NAME = "pyclustershell.transport.upcall:run_upcall"

    def __init__(self) -> None:
        self.chosen: UpcallRunner | None = None

    def __call__(self, command: str, directory: str | None, timeout: float) -> tuple[int, str]:
        run: UpcallRunner = self.chosen or resolve_name(self.NAME)
        return run(command, directory, timeout)


_run_upcall = _DefaultRunner()


def set_upcall_runner(runner: UpcallRunner | None) -> None:
    """Set what runs the commands of group sources; None: as subprocesses, the default."""
    _run_upcall.chosen = runner


class GroupSource:
    """A group source that answers from a dictionary.

    Any object with these methods can be a group source; they may be called on any thread that
    works with node sets.

    Attributes:
        name: the name of the source.
        groups: the nodes by group, each as a pattern or as a list of patterns.
        allgroups: all nodes, as a pattern or a list of patterns, or None.
        has_reverse: whether resolv_reverse() works.
    """

    has_reverse = False

    def __init__(
        self,
        name: str,
        groups: Mapping[str, Answer] | None = None,
        allgroups: Answer | None = None,
    ) -> None:
        self.name = name
        self.groups: Mapping[str, Answer] = groups or {}
        self.allgroups = allgroups

    def resolv_map(self, group: str) -> Answer:
        """The nodes of a group; nothing if there is no such group."""
        return self.groups.get(group, "")

    def resolv_list(self) -> Answer:
        """The names of all groups."""
        return list(self.groups)

    def resolv_all(self) -> Answer:
        """All nodes.

        Raises:
            GroupSourceNoUpcall: this source does not know.
        """
        if self.allgroups is None:
            raise GroupSourceNoUpcall("All groups info not available", self)
        return self.allgroups

    def resolv_reverse(self, node: str) -> Answer:
        """The names of the groups of a node.

        Raises:
            GroupSourceNoUpcall: this source does not know.
        """
        raise GroupSourceNoUpcall("Not implemented", self)


class FileGroupSource(GroupSource):
    """A group source of a group file. Its group 'all', if it has one, is all nodes."""

    def __init__(self, name: str, loader: YAMLGroupLoader) -> None:
        self.name = name
        self.loader = loader

    @property
    def groups(self) -> Mapping[str, Answer]:  # type: ignore[override]
        """The nodes by group; reads the file again where the cache has expired."""
        return self.loader.groups(self.name)

    @property
    def allgroups(self) -> Answer | None:  # type: ignore[override]
        """The nodes of the group 'all', or None."""
        return self.groups.get("all")


class UpcallGroupSource(GroupSource):
    """A group source that runs commands and reads their output.

    In commands, ``$GROUP``, ``$NODE``, ``$SOURCE`` and ``$CFGDIR`` are replaced. Groups and nodes
    come from whoever wrote the pattern: names with characters that could mean something to a shell
    are refused before anything is run.

    Attributes:
        upcalls: the commands by question: 'map', 'all', 'list', 'reverse', 'mapall'.
        cfgdir: the directory in which they are run, and what ``$CFGDIR`` stands for.
        cache_time: how long answers are kept, in seconds.
        timeout: how long a command may take, in seconds; then it is ended, and has failed.
    """

    def __init__(
        self,
        name: str,
        map_upcall: str | None = None,
        all_upcall: str | None = None,
        list_upcall: str | None = None,
        reverse_upcall: str | None = None,
        cfgdir: str | None = None,
        cache_time: float | None = None,
        mapall_upcall: str | None = None,
        timeout: float = DEFAULT_UPCALL_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name)
        commands = {
            "map": map_upcall,
            "all": all_upcall,
            "list": list_upcall,
            "reverse": reverse_upcall,
            "mapall": mapall_upcall,
        }
        self.upcalls = {what: command for what, command in commands.items() if command}
        self.has_reverse = "reverse" in self.upcalls
        self.cfgdir = cfgdir
        self.cache_time = DEFAULT_CACHE_TIME if cache_time is None else cache_time
        self.timeout = timeout
        self._clock = clock
        # Answers, and when they expire, by question and by the group or node asked about.
        self._cache: dict[tuple[str, str], tuple[str, float]] = {}
        # What 'mapall' said, and when that expires.
        self._all_maps: tuple[dict[str, str], float] | None = None

    def clear_cache(self) -> None:
        """Forget all answers."""
        self._cache.clear()
        self._all_maps = None

    def resolv_map(self, group: str) -> str:
        """The nodes of a group. Errors of commands are GroupSourceQueryFailed, here and below."""
        maps = self._mapall()
        if maps is not None and (group in maps or "map" not in self.upcalls):
            return maps.get(group, "")
        return self._ask("map", GROUP=group)

    def resolv_list(self) -> str:
        """The names of all groups."""
        maps = self._mapall()
        return self._ask("list") if maps is None else " ".join(maps)

    def resolv_all(self) -> str:
        """All nodes."""
        return self._ask("all")

    def resolv_reverse(self, node: object) -> str:
        """The names of the groups of a node."""
        return self._ask("reverse", NODE=str(node))

    def _mapall(self) -> dict[str, str] | None:
        """The nodes by group as the 'mapall' command tells them; None if there is none."""
        if "mapall" not in self.upcalls:
            return None
        if self._all_maps is None or self._all_maps[1] <= self._clock():
            expiry = self._clock() + self.cache_time
            maps: dict[str, str] = {}
            for line in filter(str.strip, self._run("mapall", {}).splitlines()):
                group, colon, nodes = (part.strip() for part in line.partition(":"))
                if not colon or len(group.split()) != 1:
                    message = f"mapall: invalid line {line!r} (expected 'group: nodes')"
                    raise GroupSourceQueryFailed(message, self)
                known = maps.get(group)
                maps[group] = ",".join(filter(None, (known, nodes)))
            self._all_maps = (maps, expiry)
        return self._all_maps[0]

    def _ask(self, what: str, **values: str) -> str:
        """The answer to a question, from the cache or from the command."""
        key = (what, "".join(values.values()))
        answer = self._cache.get(key)
        if answer is None or answer[1] <= self._clock():
            expiry = self._clock() + self.cache_time
            answer = self._cache[key] = (self._run(what, values), expiry)
        return answer[0]

    def _run(self, what: str, values: dict[str, str]) -> str:
        """The output of a command.

        Raises:
            GroupSourceNoUpcall: there is no such command.
            GroupSourceQueryFailed: it failed or took too long, or a value may not be used.
        """
        template = self.upcalls.get(what)
        if template is None:
            raise GroupSourceNoUpcall(what, self)
        for variable, value in values.items():
            if not _SAFE_VALUE.fullmatch(value):
                message = f"{what}: {value[:100]!r} cannot be used as ${variable} in a command"
                raise GroupSourceQueryFailed(message, self)
        known = {**values, "SOURCE": self.name, "CFGDIR": self.cfgdir or ""}
        command = Template(template).safe_substitute(known)
        _LOGGER.debug("upcall %r", command)
        try:
            code, output = _run_upcall(command, self.cfgdir, self.timeout)
        except TimeoutError:
            message = f"{command}: no answer within {self.timeout:g} s"
            raise GroupSourceQueryFailed(message, self) from None
        except OSError as exc:
            raise GroupSourceQueryFailed(f"{command}: {exc}", self) from exc
        if code != 0:
            raise GroupSourceQueryFailed(command, self)
        return output.strip()


class YAMLGroupLoader:
    """Reads a YAML file of group sources: ``{source: {group: nodes, ...}, ...}``.

    Attributes:
        filename: the file.
        cache_time: after so many seconds the file is read again.
        sources: the group sources in it, by name. Sources that appear in the file later are
            ignored.
    """

    def __init__(
        self,
        filename: str,
        cache_time: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file.

        Raises:
            GroupResolverConfigError: the content is not as it should be, or PyYAML is missing.
            OSError: the file cannot be read.
        """
        self.filename = filename
        self.cache_time = DEFAULT_CACHE_TIME if cache_time is None else cache_time
        self._clock = clock
        self._groups = self._load()
        self._expiry = clock() + self.cache_time
        self.sources = {name: FileGroupSource(name, self) for name in self._groups}

    def __iter__(self) -> Iterator[FileGroupSource]:
        return iter(self.sources.values())

    def groups(self, sourcename: str) -> Mapping[str, Answer]:
        """The nodes by group of a source. Errors are those of YAMLGroupLoader()."""
        if self._expiry <= self._clock():
            loaded = self._load()
            self._groups = {name: loaded.get(name, {}) for name in self._groups}
            self._expiry = self._clock() + self.cache_time
        return self._groups[sourcename]

    def _error(self, message: str) -> GroupResolverConfigError:
        return GroupResolverConfigError(f"{self.filename}: {message}")

    def _load(self) -> dict[str, dict[str, Answer]]:
        """The content of the file, checked."""
        try:
            import yaml  # only who has YAML group files needs PyYAML
        except ImportError as exc:
            message = f"{exc}: reading YAML group files needs PyYAML (or switch 'autodir' off)"
            raise self._error(message) from exc
        try:
            with open(self.filename, encoding="utf-8") as file:
                content = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
            raise self._error(str(exc)) from exc
        if not isinstance(content, dict):
            raise self._error("invalid content (base is not a dict)")
        sources: dict[str, dict[str, Answer]] = {}
        for name, groups in content.items():
            if not isinstance(name, str):
                raise self._error(f"group source {name} not a string (add quotes?)")
            if not isinstance(groups, dict):
                raise self._error(f"invalid content (group source '{name}' is not a dict)")
            for group in groups:
                if not isinstance(group, str):
                    raise self._error(f"{name}: group name {group} not a string (add quotes?)")
            sources[name] = {group: _answer_of(nodes) for group, nodes in groups.items()}
        return sources


def _answer_of(value: Any) -> Answer:
    """The nodes of a group as they stand in a YAML file, where a node may look like a number."""
    if value is None:
        return ""
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value)
