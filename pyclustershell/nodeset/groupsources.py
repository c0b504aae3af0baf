"""The sources of node groups.

A group source answers four queries: the nodes of a group (map), the groups (list), all nodes (all),
and the groups of a node (reverse). The answers come from a dictionary, from a YAML file, or from
the output of commands (*upcalls*).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from string import Template
from typing import TYPE_CHECKING, Callable, Union

from ..exceptions import GroupResolverConfigError, GroupSourceNoUpcall, GroupSourceQueryFailed
from ..printable import printable

if TYPE_CHECKING:
    from yaml import MappingNode, Node, SafeLoader

#: How long the answers of commands and files are cached, in seconds.
DEFAULT_CACHE_TIME = 3600.0

#: How long a command may run, in seconds.
DEFAULT_UPCALL_TIMEOUT = 60.0

#: The answer of a source: text with names separated by white space, or a list of names.
Answer = Union[str, Iterable[str]]

# The values that may replace variables in a command line. Characters with a meaning to a shell, to
# sed or to awk are refused, as no quoting is right at every place of a command.
_SAFE_VALUE = re.compile(r"[\w.:+=@%,][\w.:+=@%,-]*")

# A slash or a hash sign has a meaning to sed and awk only. A name with them is passed on if the
# source itself lists it, and not if only a pattern contains it.
_SAFE_IF_LISTED = re.compile(r"[\w.:+=@%,/][\w.:+=@%,/#-]*")

_LOGGER = logging.getLogger(__name__)


@lru_cache(maxsize=4096)
def warn_once(problem: str) -> None:
    """Log a problem with an item that is skipped, once: regroup() meets it again and again."""
    _LOGGER.warning("%s", problem)


def skip_group(source: str | None, group: str, reason: str) -> None:
    """Log that a group is skipped.

    Args:
        source: the name of its source; None: the default one.
        group: its name.
        reason: why.
    """
    name = printable(group[:100])
    warn_once(f"group source {source or 'default'!r}: group {name!r} is skipped: {reason}")


class GroupSource:
    """A group source that answers from a dictionary.

    Any object with these methods can be a group source. They may be called on any thread
    that uses node sets.

    Attributes:
        name: the name of the source.
        groups: the nodes by group, each as a pattern or as a list of patterns.
        allgroups: all nodes, as a pattern or a list of patterns, or None.
        has_reverse: True if resolv_reverse() works.
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
        """The nodes of a group; an empty answer if there is no such group."""
        return self.groups.get(group, "")

    def resolv_list(self) -> Answer:
        """The names of all groups."""
        return list(self.groups)

    def resolv_all(self) -> Answer:
        """All nodes.

        Raises:
            GroupSourceNoUpcall: this source cannot answer the query.
        """
        if self.allgroups is None:
            raise GroupSourceNoUpcall(
                f"group source {self.name!r} has no list of all nodes: give it one (allgroups, or "
                "a group 'all' in a file)",
                self,
            )
        return self.allgroups

    def resolv_reverse(self, node: str) -> Answer:
        """The names of the groups of a node.

        Raises:
            GroupSourceNoUpcall: this source cannot answer the query.
        """
        raise GroupSourceNoUpcall(
            f"group source {self.name!r} cannot look up the groups of a node: "
            "define resolv_reverse()",
            self,
        )


class FileGroupSource(GroupSource):
    """A group source from a group file. Its group 'all', if there is one, contains all nodes.

    Groups whose value is invalid are not listed, and asking for one of them is an error.
    """

    def __init__(self, name: str, loader: YAMLGroupLoader) -> None:
        self.name = name
        self.loader = loader

    @property
    def groups(self) -> Mapping[str, Answer]:  # type: ignore[override]
        """The nodes by group; reads the file again if the cache has expired."""
        return self.loader.groups(self.name)

    @property
    def allgroups(self) -> Answer | None:  # type: ignore[override]
        """The nodes of the group 'all', or None."""
        return self.groups.get("all")

    def resolv_map(self, group: str) -> Answer:
        """The nodes of a group; an empty answer if there is no such group.

        Raises:
            GroupSourceQueryFailed: the file has an invalid value for this group.
        """
        answer = self.groups.get(group)
        if answer is None:
            invalid = self.loader.invalid(self.name).get(group)
            if invalid is not None:
                raise GroupSourceQueryFailed(invalid, self)
        return answer or ""

    def resolv_all(self) -> Answer:
        """All nodes.

        Raises:
            GroupSourceNoUpcall: the file has no group 'all'.
            GroupSourceQueryFailed: the file has an invalid value for it.
        """
        if "all" in self.loader.invalid(self.name):
            return self.resolv_map("all")
        return super().resolv_all()


class UpcallGroupSource(GroupSource):
    """A group source that runs commands and reads their output.

    In commands, ``$GROUP``, ``$NODE``, ``$SOURCE`` and ``$CFGDIR`` are replaced. Groups and nodes
    come from the pattern, which may be hostile: a name with characters that have a meaning to a
    shell is refused before a command is run.

    Attributes:
        upcalls: the commands by query: 'map', 'all', 'list', 'reverse', 'mapall'.
        cfgdir: the working directory of the commands, and the value of ``$CFGDIR``.
        cache_time: how long answers are cached, in seconds.
        timeout: how long a command may run, in seconds. A command that runs longer is ended, and
            the query fails.
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
        self.upcalls = {query: command for query, command in commands.items() if command}
        self.has_reverse = "reverse" in self.upcalls
        self.cfgdir = cfgdir
        self.cache_time = DEFAULT_CACHE_TIME if cache_time is None else cache_time
        self.timeout = timeout
        self._clock = clock
        # Answers and when they expire, by query and by group or node.
        self._cache: dict[tuple[str, str], tuple[str, float]] = {}
        # The answer to 'mapall', and when it expires.
        self._all_maps: tuple[dict[str, str], float] | None = None

    def clear_cache(self) -> None:
        """Drop all cached answers."""
        self._cache.clear()
        self._all_maps = None

    def resolv_map(self, group: str) -> str:
        """The nodes of a group.

        Raises:
            GroupSourceQueryFailed: the command failed. All queries raise it.
            GroupSourceNoUpcall: there is no command for the query. All queries raise it.
        """
        maps = self._mapall()
        if maps is not None and (group in maps or "map" not in self.upcalls):
            return maps.get(group, "")
        return self._query("map", GROUP=group)

    def resolv_list(self) -> str:
        """The names of all groups, without those that 'map' would refuse."""
        maps = self._mapall()
        return self._usable(self._query("list")) if maps is None else " ".join(maps)

    def resolv_all(self) -> str:
        """All nodes."""
        return self._query("all")

    def resolv_reverse(self, node: object) -> str:
        """The names of the groups of a node, without those that 'map' would refuse."""
        return self._usable(self._query("reverse", NODE=str(node)))

    def _usable(self, answer: str) -> str:
        """The names of an answer that can be used in commands; the others are logged."""
        names = answer.split()
        refused = [name for name in names if not _SAFE_IF_LISTED.fullmatch(name)]
        for name in refused:
            skip_group(self.name, name, "its name has characters that have a meaning to a shell")
        return "\n".join(name for name in names if name not in refused) if refused else answer

    def _mapall(self) -> dict[str, str] | None:
        """The nodes by group, from the 'mapall' command; None if there is no such command."""
        if "mapall" not in self.upcalls:
            return None
        if self._all_maps is None or self._all_maps[1] <= self._clock():
            expiry = self._clock() + self.cache_time
            maps: dict[str, str] = {}
            invalid: list[str] = []
            for line in filter(str.strip, self._run("mapall", {}).splitlines()):
                group, colon, nodes = (part.strip() for part in line.partition(":"))
                if not colon or len(group.split()) != 1:
                    message = f"mapall: invalid line {printable(line[:100])!r}"
                    invalid.append(f"{message} (expected 'group: nodes')")
                    continue
                known = maps.get(group)
                maps[group] = ",".join(filter(None, (known, nodes)))
            if invalid and not maps:
                raise GroupSourceQueryFailed(invalid[0], self)
            for problem in invalid:
                warn_once(f"group source {self.name!r}: {problem}: it is skipped")
            self._all_maps = (maps, expiry)
        return self._all_maps[0]

    def _query(self, query: str, **values: str) -> str:
        """The answer to a query, from the cache or from the command."""
        key = (query, "".join(values.values()))
        answer = self._cache.get(key)
        if answer is None or answer[1] <= self._clock():
            expiry = self._clock() + self.cache_time
            answer = self._cache[key] = (self._run(query, values), expiry)
        return answer[0]

    def _run(self, query: str, values: dict[str, str]) -> str:
        """The output of a command.

        Raises:
            GroupSourceNoUpcall: there is no such command.
            GroupSourceQueryFailed: the command failed or took too long, or a value is refused.
        """
        template = self.upcalls.get(query)
        if template is None:
            raise GroupSourceNoUpcall(
                f"group source {self.name!r} has no command {query!r}: add it to groups.conf",
                self,
                query,
            )
        for variable, value in values.items():
            if not (_SAFE_VALUE.fullmatch(value) or (query == "map" and self._lists(value))):
                message = (
                    f"{query}: {printable(value[:100])!r} cannot be used as ${variable} in a "
                    "command: it has characters that have a meaning to a shell"
                )
                raise GroupSourceQueryFailed(message, self)
        known = {**values, "SOURCE": self.name, "CFGDIR": self.cfgdir or ""}
        command = Template(template).safe_substitute(known)
        # This imports subprocess, and node sets without upcalls do not need it.
        from ..local.shell import run_upcall

        _LOGGER.debug("upcall %r", command)
        try:
            code, output = run_upcall(command, self.cfgdir, self.timeout)
        except TimeoutError:
            message = f"{command}: no answer within {self.timeout:g} s"
            raise GroupSourceQueryFailed(message, self) from None
        except OSError as exc:
            raise GroupSourceQueryFailed(f"{command}: {exc}", self) from exc
        if code != 0:
            message = f"{command}: it exited with status {code}: try it in a shell"
            raise GroupSourceQueryFailed(message, self, command)
        return output.strip()

    def _lists(self, group: str) -> bool:
        """True if 'list' prints this name, and it is safe then."""
        if "list" not in self.upcalls or not _SAFE_IF_LISTED.fullmatch(group):
            return False
        return group in self._query("list").split()


class YAMLGroupLoader:
    """Reads a YAML file of group sources: ``{source: {group: nodes, ...}, ...}``.

    Nodes are a string, a list of strings, or nothing. YAML reads some words as other values: 0101
    as 65, yes as true, 12:30 as 750. Such a value never names a node. A group with one is skipped
    with a warning, and asking for it is an error; the other groups can be used.

    Iterating gives the group sources.

    Attributes:
        filename: the file.
        cache_time: after this many seconds the file is read again.
        cache_expiry: the time of the next reading, in seconds of the clock.
        sources: the group sources of the file, by name. Sources that are added to the file later
            are ignored.
    """

    def __init__(
        self,
        filename: str,
        cache_time: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        strict: bool = False,
    ) -> None:
        """Read the file.

        Args:
            filename: the file.
            cache_time: as the attribute; None: an hour.
            clock: returns a time in seconds.
            strict: True if one faulty source makes the whole file invalid.

        Raises:
            GroupResolverConfigError: the content is invalid, or PyYAML is missing.
            OSError: the file cannot be read.
        """
        self.filename = filename
        self.cache_time = DEFAULT_CACHE_TIME if cache_time is None else cache_time
        self._clock = clock
        self._strict = strict
        self._contents = self._load()
        self.cache_expiry = clock() + self.cache_time
        self.sources = {name: FileGroupSource(name, self) for name in self._contents}

    def __iter__(self) -> Iterator[FileGroupSource]:
        return iter(self.sources.values())

    def groups(self, sourcename: str) -> Mapping[str, Answer]:
        """The nodes by group of a source.

        Raises:
            GroupResolverConfigError: the file has changed, and can no longer be read.
        """
        return self._content(sourcename).groups

    def invalid(self, sourcename: str) -> Mapping[str, str]:
        """The groups of a source with an invalid value: why, by group. Errors as in groups()."""
        return self._content(sourcename).invalid

    def _content(self, sourcename: str) -> _Content:
        if self.cache_expiry <= self._clock():
            try:
                loaded = self._load()
            except OSError as exc:
                raise self._error(f"the file cannot be read again: {exc.strerror}") from exc
            self._contents = {name: loaded.get(name, _Content()) for name in self._contents}
            self.cache_expiry = self._clock() + self.cache_time
        return self._contents[sourcename]

    def _error(self, message: str) -> GroupResolverConfigError:
        return GroupResolverConfigError(f"{self.filename}: {message}")

    def _load(self) -> dict[str, _Content]:
        """The content of the file, checked."""
        try:
            import yaml  # only needed for YAML group files
        except ImportError as exc:
            message = f"{exc}: reading YAML group files needs PyYAML, which is not installed"
            raise self._error(message) from exc
        try:
            with open(self.filename, encoding="utf-8") as file:
                loader = yaml.SafeLoader(file)
                # The document before words become values: errors can show them as written.
                root = loader.get_single_node()
                if not isinstance(root, yaml.MappingNode):
                    raise self._error("invalid content (base is not a dict)")
                return self._sources_of(loader, root)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
            raise self._error(str(exc)) from exc

    def _sources_of(self, loader: SafeLoader, root: MappingNode) -> dict[str, _Content]:
        sources: dict[str, _Content] = {}
        problems: list[str] = []
        for key, node in root.value:
            name = _text(key)
            if name is None:
                problems.append(f"group source {_shown(key)} not a string (add quotes?)")
            elif node.tag != "tag:yaml.org,2002:map":
                problems.append(f"invalid content (group source '{name}' is not a dict)")
            elif name in sources:
                problems.append(f"the second group source {name!r}")
            else:
                self._warn_of_doubles(name, node)
                loader.flatten_mapping(node)
                sources[name] = self._groups_of(name, node)
        if problems and (self._strict or not sources):
            raise self._error(problems[0])
        for problem in problems:
            warn_once(f"{self.filename}: {problem}: it is skipped")
        return sources

    def _warn_of_doubles(self, source: str, node: MappingNode) -> None:
        """Warn of groups that occur twice: the last one counts, as in ClusterShell."""
        names = [name for name in (_text(key) for key, _ in node.value) if name is not None]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problem = f"group {name!r} is defined several times: only the last one counts"
            warn_once(f"{self.filename}: {source}: {problem}")

    def _groups_of(self, source: str, node: MappingNode) -> _Content:
        content = _Content()
        for key, value in node.value:
            group = _text(key)
            if group is None:
                problem = f"group name {_shown(key)} not a string (add quotes?)"
                warn_once(f"{self.filename}: {source}: {problem}: it is skipped")
                continue
            content.groups.pop(group, None)
            content.invalid.pop(group, None)
            try:
                content.groups[group] = _answer_of(value)
            except ValueError as exc:
                problem = f"{self.filename}: {source}: group {group!r}: {exc}"
                content.invalid[group] = problem
                warn_once(f"{problem}: it is skipped")
        return content


class _Content:
    """The groups of one source in a YAML file: the nodes, or why the value is invalid."""

    def __init__(self) -> None:
        self.groups: dict[str, Answer] = {}
        self.invalid: dict[str, str] = {}


def _text(node: Node) -> str | None:
    """The text of a YAML node; None if YAML reads it as another value than a string."""
    return str(node.value) if node.tag == "tag:yaml.org,2002:str" else None


def _shown(node: Node) -> str:
    """A YAML node as it is written, for messages."""
    return printable(node.value[:100]) if isinstance(node.value, str) else "a list or mapping"


def _answer_of(node: Node) -> Answer:
    """The nodes of a group.

    Raises:
        ValueError: the value is no string, no list of strings, and not empty.
    """
    if node.tag == "tag:yaml.org,2002:null":
        return ""
    if node.tag != "tag:yaml.org,2002:seq":
        return _nodes_text(node)
    return [_nodes_text(item) for item in node.value]


def _nodes_text(node: Node) -> str:
    text = _text(node)
    if text is None:
        if not isinstance(node.value, str):
            raise ValueError("a mapping or a list in a list is not a string: write names of nodes")
        kind = node.tag.rpartition(":")[2]
        read = {"int": "a number", "float": "a number", "bool": "true or false"}.get(kind, kind)
        raise ValueError(
            f"{_shown(node)} is not a string, YAML reads it as {read}: put it between quotes"
        )
    return text
