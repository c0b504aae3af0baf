"""Node groups: resolvers, which look up groups in several named group sources.

No file is read and no command is run before the first lookup. The sources are in groupsources.py,
their configuration files in groupsconf.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import RLock
from typing import Any

from ..exceptions import (
    GroupResolverConfigError,
    GroupResolverError,
    GroupResolverIllegalCharError,
    GroupResolverSourceError,
    GroupSourceError,
    GroupSourceNoUpcall,
    GroupSourceQueryFailed,
)
from .groupsources import (
    Answer,
    FileGroupSource,
    GroupSource,
    UpcallGroupSource,
    YAMLGroupLoader,
    skip_group,
)

__all__ = [
    "FileGroupSource",
    "GroupResolver",
    "GroupResolverConfig",
    "GroupResolverConfigError",
    "GroupResolverError",
    "GroupResolverIllegalCharError",
    "GroupResolverSourceError",
    "GroupSource",
    "GroupSourceError",
    "GroupSourceNoUpcall",
    "GroupSourceQueryFailed",
    "UpcallGroupSource",
    "YAMLGroupLoader",
]

# The types of answers whose text is no name of a node that a user wrote.
_NOT_NAMES = (type(None), bool, int, float, bytes, Mapping)


class GroupResolver:
    """Resolves groups with several sources.

    Attributes:
        illegal_chars: the characters that the names of groups may not contain. A listed group with
            one of them is skipped with a warning.
        strict: False, unless it is set before the first lookup. True: a faulty configuration file,
            or name of a listed group, is an error.
    """

    strict = False

    def __init__(
        self, default_source: GroupSource | None = None, illegal_chars: Iterable[str] | None = None
    ) -> None:
        self.illegal_chars = frozenset(illegal_chars or ())
        self._default = default_source
        self._by_name: dict[str, GroupSource] = {}
        # Tasks on several threads use the standard resolver. _late_init() of a subclass may call
        # add_source() while the lock is held: hence an RLock.
        self._lock = RLock()
        self._initialized = False
        self._initializing = False

    def _late_init(self) -> None:
        """Load the sources; called once, when they are first needed."""
        if self._default is not None:
            self._by_name[self._default.name] = self._default

    def _known(self) -> dict[str, GroupSource]:
        """The sources by name."""
        if self._initialized:
            return self._by_name
        with self._lock:
            if not (self._initialized or self._initializing):
                self._initializing = True
                try:
                    self._late_init()
                    self._initialized = True
                except BaseException:
                    # The next call shall raise the same error, not use half of the sources.
                    self._by_name.clear()
                    raise
                finally:
                    self._initializing = False
        return self._by_name

    def add_source(self, group_source: GroupSource) -> None:
        """Add a source.

        Raises:
            ValueError: there is already a source of that name.
        """
        known = self._known()
        if group_source.name in known:
            raise ValueError(_collision(group_source.name))
        known[group_source.name] = group_source

    def sources(self) -> list[str]:
        """The names of all sources, the default one first."""
        names = list(self._known())
        default = self.default_source_name
        if default in names:
            names.remove(default)
            names.insert(0, default)
        return names

    @property
    def default_source_name(self) -> str | None:
        """The name of the source for groups without a source; None if there is none."""
        self._known()
        return None if self._default is None else self._default.name

    @default_source_name.setter
    def default_source_name(self, sourcename: str) -> None:
        try:
            self._default = self._known()[sourcename]
        except KeyError:
            raise self._no_source(sourcename) from None

    def _source(self, namespace: str | None) -> GroupSource:
        """The source of that name, or the default one.

        Raises:
            GroupResolverSourceError: there is no such source.
        """
        known = self._known()
        source = known.get(namespace) if namespace else self._default
        if source is None:
            raise self._no_source(namespace)
        return source

    def _no_source(self, namespace: str | None) -> GroupResolverError:
        """The error for a source that does not exist; None: the default one."""
        if not namespace:
            return GroupResolverSourceError(
                "there is no default group source: name the source, as in @source:group, or give "
                "the resolver a default source"
            )
        message = f"unknown group source {namespace!r}: {self._choice()}"
        return GroupResolverSourceError(message, namespace)

    def _choice(self) -> str:
        names = self.sources()
        return f"there are {', '.join(map(repr, names))}" if names else "there is no group source"

    def group_nodes(self, group: str, namespace: str | None = None) -> list[str]:
        """The nodes of a group, as patterns.

        Args:
            group: the name of the group, without @ and source.
            namespace: the source; None: the default one.

        Raises:
            GroupResolverSourceError: there is no such source.
            GroupSourceError: the source cannot answer.
        """
        source = self._source(namespace)
        return _words(source, f"group {group!r}", source.resolv_map(group), ",")

    def all_nodes(self, namespace: str | None = None) -> list[str]:
        """All nodes of a source, as patterns. Arguments and errors as in group_nodes()."""
        source = self._source(namespace)
        return _words(source, "all nodes", source.resolv_all(), ",")

    def grouplist(self, namespace: str | None = None) -> list[str]:
        """The names of all groups of a source. Arguments and errors as in group_nodes().

        Names with illegal characters are left out, with a warning for each.

        Raises:
            GroupResolverIllegalCharError: there is such a name, and the resolver is strict.
        """
        source = self._source(namespace)
        return self._checked(source, _words(source, "the groups", source.resolv_list(), "\n"))

    def has_node_groups(self, namespace: str | None = None) -> bool:
        """True if node_groups() works for a source."""
        try:
            return bool(self._source(namespace).has_reverse)
        except GroupResolverSourceError:
            return False

    def node_groups(self, node: str, namespace: str | None = None) -> list[str]:
        """The names of the groups of a node, as in grouplist()."""
        source = self._source(namespace)
        groups = _words(source, f"the groups of {node}", source.resolv_reverse(node), "\n")
        return self._checked(source, groups)

    def _checked(self, source: GroupSource, groups: list[str]) -> list[str]:
        """The groups whose names a pattern can contain."""
        usable = []
        for group in groups:
            illegal = self.illegal_chars.intersection(group)
            characters = " ".join(sorted(illegal))
            if illegal and self.strict:
                message = f"group source {source.name!r}: group {group!r}: its name contains "
                message += f"{characters}, which patterns cannot have in a name: rename it"
                raise GroupResolverIllegalCharError(message, characters)
            if illegal:
                skip_group(source.name, group, f"its name contains {characters}")
            else:
                usable.append(group)
        return usable


def _collision(name: str) -> str:
    return f"GroupSource '{name}': name collision"


def _words(source: GroupSource, query: str, answer: Answer, separator: str) -> list[str]:
    """The answer of a source as a list of words; a list is joined by the separator first.

    Raises:
        GroupSourceQueryFailed: the answer has another type. It would become the name of a node.
    """
    if isinstance(answer, str):
        return answer.split()
    items = [answer] if isinstance(answer, _NOT_NAMES) else list(answer)
    for item in items:
        if isinstance(item, _NOT_NAMES):
            raise GroupSourceQueryFailed(
                f"group source {source.name!r} answered {item!r} for {query}: answer with a "
                "string or with a list of strings",
                source,
            )
    return separator.join(map(str, items)).split()


class GroupResolverConfig(GroupResolver):
    """A resolver with sources from configuration files, which are read at the first lookup.

    Attributes:
        filenames: the configuration files.
        config: their contents (a ConfigParser), or None before they are read.
    """

    #: The name of the main section. Nothing here uses it: ClusterShell's class has it.
    SECTION_MAIN = "Main"

    def __init__(
        self, filenames: str | Iterable[str], illegal_chars: Iterable[str] | None = None
    ) -> None:
        """Make a resolver.

        Args:
            filenames: one or several files; later ones take precedence, missing ones are skipped.
            illegal_chars: as in GroupResolver().
        """
        super().__init__(illegal_chars=illegal_chars)
        self.filenames = [filenames] if isinstance(filenames, str) else list(filenames)
        self.config: Any = None
        self._problems: list[str] = []
        self._wanted: str | None = None

    def _late_init(self) -> None:
        # Imported here: programs without groups shall not pay for it.
        from .groupsconf import GroupsConfig

        super()._late_init()
        loaded = GroupsConfig(self.filenames, self.strict)
        self.config = loaded.config
        for source, place in loaded.sources():
            if source.name in self._by_name:
                problem = f"{place}: group source {source.name!r}: an earlier file defines it"
                loaded.skip(problem, _collision(source.name))
            else:
                self._by_name[source.name] = source
        self._problems = loaded.problems
        self._wanted = loaded.default_source
        if self._by_name:
            # A default source that does not exist is an error for groups without a source only.
            self._default = self._by_name.get(self._wanted or next(iter(self._by_name)))

    def _no_source(self, namespace: str | None) -> GroupResolverError:
        if namespace:
            message = f"unknown group source {namespace!r}: {self._choice()}"
            return GroupResolverSourceError(self._with_problems(message), namespace)
        if self._wanted:
            message = f"Default group source not found: {self._wanted!r}: {self._choice()}"
            fault = f'Default group source not found: "{self._wanted}"'
            return GroupResolverConfigError(self._with_problems(message), fault)
        message = (
            "there is no group source: define one in groups.conf, which is looked for as "
            + ", ".join(self.filenames)
        )
        if self._problems:
            return GroupResolverConfigError(self._with_problems(message))
        return GroupResolverSourceError(message)

    def _with_problems(self, message: str) -> str:
        return "; ".join([message, *(f"skipped: {problem}" for problem in self._problems)])
