"""Node groups: the resolvers that know several group sources by name, and ask them.

Nothing here reads a file or runs a command before it is asked. The sources are in groupsources.py,
their configuration files in groupsconf.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import Any

from .exceptions import (
    GroupResolverConfigError,
    GroupResolverError,
    GroupResolverIllegalCharError,
    GroupResolverSourceError,
    GroupSourceError,
    GroupSourceNoUpcall,
    GroupSourceQueryFailed,
)
from .nodesets.groupsources import (
    Answer,
    FileGroupSource,
    GroupSource,
    UpcallGroupSource,
    YAMLGroupLoader,
    set_upcall_runner,
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
    "set_upcall_runner",
]


class GroupResolver:
    """Resolves groups with several sources.

    Attributes:
        illegal_chars: what the names of groups that sources list may not contain.
    """

    def __init__(
        self, default_source: GroupSource | None = None, illegal_chars: Iterable[str] | None = None
    ) -> None:
        self.illegal_chars = frozenset(illegal_chars or ())
        self._default = default_source
        self._by_name: dict[str, GroupSource] = {}
        # Tasks of several threads ask the standard resolver. Overriding methods may add sources
        # while the lock is held.
        self._lock = RLock()
        self._initialized = False
        self._initializing = False

    def _late_init(self) -> None:
        """Find the sources; called once, when they are first needed."""
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
                    # The same error again for who asks again, not half of the sources.
                    self._by_name.clear()
                    raise
                finally:
                    self._initializing = False
        return self._by_name

    def add_source(self, group_source: GroupSource) -> None:
        """Add a source.

        Raises:
            ValueError: there is one of that name.
        """
        known = self._known()
        if group_source.name in known:
            raise ValueError(f"GroupSource '{group_source.name}': name collision")
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
        """The name of the source for groups that do not name theirs; None: there is none."""
        self._known()
        return None if self._default is None else self._default.name

    @default_source_name.setter
    def default_source_name(self, sourcename: str) -> None:
        try:
            self._default = self._known()[sourcename]
        except KeyError:
            raise GroupResolverSourceError(sourcename) from None

    def _source(self, namespace: str | None) -> GroupSource:
        """The source of that name, or the default one.

        Raises:
            GroupResolverSourceError: there is none.
        """
        known = self._known()
        source = known.get(namespace) if namespace else self._default
        if source is None:
            raise GroupResolverSourceError(namespace or "<default>")
        return source

    def group_nodes(self, group: str, namespace: str | None = None) -> list[str]:
        """The nodes of a group, as patterns.

        Args:
            group: its name, without @ and source.
            namespace: the source; None: the default one.

        Raises:
            GroupResolverSourceError: there is no such source.
            GroupSourceError: the source cannot answer.
        """
        return _words(self._source(namespace).resolv_map(group), ",")

    def all_nodes(self, namespace: str | None = None) -> list[str]:
        """All nodes of a source, as patterns. Arguments and errors as in group_nodes()."""
        return _words(self._source(namespace).resolv_all(), ",")

    def grouplist(self, namespace: str | None = None) -> list[str]:
        """The names of all groups of a source. Arguments and errors as in group_nodes().

        Raises:
            GroupResolverIllegalCharError: one of the names has an illegal character.
        """
        return self._checked(_words(self._source(namespace).resolv_list(), "\n"))

    def has_node_groups(self, namespace: str | None = None) -> bool:
        """Whether node_groups() works for a source."""
        try:
            return bool(self._source(namespace).has_reverse)
        except GroupResolverSourceError:
            return False

    def node_groups(self, node: str, namespace: str | None = None) -> list[str]:
        """The names of the groups of a node. Errors as in grouplist()."""
        return self._checked(_words(self._source(namespace).resolv_reverse(node), "\n"))

    def _checked(self, groups: list[str]) -> list[str]:
        for group in groups:
            illegal = self.illegal_chars.intersection(group)
            if illegal:
                raise GroupResolverIllegalCharError(" ".join(sorted(illegal)))
        return groups


def _words(answer: Answer, separator: str) -> list[str]:
    """The answer of a source as a list; lists are joined by the separator first."""
    return (answer if isinstance(answer, str) else separator.join(map(str, answer))).split()


class GroupResolverConfig(GroupResolver):
    """A resolver whose sources are configured in files; they are read when it is first asked.

    Attributes:
        filenames: the configuration files.
        config: what they hold (a ConfigParser), or None before they were read.
    """

    SECTION_MAIN = "Main"

    def __init__(
        self, filenames: str | Iterable[str], illegal_chars: Iterable[str] | None = None
    ) -> None:
        """Make a resolver.

        Args:
            filenames: one or several files, the later ones having precedence; those that do not
                exist are skipped.
            illegal_chars: as in GroupResolver().
        """
        super().__init__(illegal_chars=illegal_chars)
        self.filenames = [filenames] if isinstance(filenames, str) else list(filenames)
        self.config: Any = None

    def _late_init(self) -> None:
        # Only who has groups needs the parser and the reader, and pays for their import.
        from .nodesets.groupsconf import GroupsConfig

        super()._late_init()
        loaded = GroupsConfig(self.filenames)
        self.config = loaded.config
        for source in loaded.sources():
            if source.name in self._by_name:
                raise GroupResolverConfigError(f"GroupSource '{source.name}': name collision")
            self._by_name[source.name] = source
        wanted = loaded.default_source
        if wanted and wanted not in self._by_name:
            raise GroupResolverConfigError(f'Default group source not found: "{wanted}"')
        if wanted or self._by_name:
            self._default = self._by_name[wanted or next(iter(self._by_name))]
