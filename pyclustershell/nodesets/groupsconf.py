"""groups.conf: the configuration files of group sources."""

from __future__ import annotations

import configparser
import errno
import os
import shlex
from collections.abc import Iterator
from string import Template

from .. import platform
from ..exceptions import GroupResolverConfigError
from .groupsources import GroupSource, UpcallGroupSource, YAMLGroupLoader

_MAIN = "Main"


class GroupsConfig:
    """What groups.conf, and the files that it points to, say.

    Attributes:
        config: groups.conf itself.
        default_source: the name of the default source, or None.
    """

    def __init__(self, filenames: list[str]) -> None:
        """Read groups.conf.

        Args:
            filenames: where it may be; what a later one says wins. Relative names in it are found
                from the directory of the last one that exists.

        Raises:
            GroupResolverConfigError: one of the files cannot be parsed.
        """
        self.config, read = _read(filenames)
        self.directory = os.path.dirname(read[-1]) if read else ""
        self.default_source = self._main("default")

    def _main(self, option: str) -> str | None:
        """An option of the main section, or None."""
        try:
            return self.config.get(_MAIN, option, fallback=None) or None
        except configparser.Error as exc:
            raise GroupResolverConfigError(str(exc)) from exc

    def sources(self) -> Iterator[GroupSource]:
        """Iterate over the sources: those of confdir, of autodir, then of groups.conf itself.

        Raises:
            GroupResolverConfigError: one of the files is wrong.
        """
        has_old_name = self.config.has_option(_MAIN, "groupsdir")
        for directory in self._directories("groupsdir" if has_old_name else "confdir"):
            for path in _files(directory, ".conf"):
                config, _ = _read([path])
                yield from _upcall_sources(config, directory)
        for directory in self._directories("autodir"):
            for path in _files(directory, ".yaml"):
                try:
                    yield from YAMLGroupLoader(path)
                except OSError as exc:
                    # Files that others keep for themselves are no concern of this user.
                    if exc.errno not in (errno.EACCES, errno.EPERM):
                        raise GroupResolverConfigError(str(exc)) from exc
        yield from _upcall_sources(self.config, self.directory)

    def _directories(self, option: str) -> Iterator[str]:
        """Iterate over the existing directories of an option, each once."""
        value = self._main(option) or ""
        try:
            names = shlex.split(value, posix=not platform.WINDOWS_PATHS)
        except ValueError as exc:
            raise GroupResolverConfigError(f"{option}: {exc}: {value!r}") from exc
        seen = set()
        for name in names:
            path = os.path.normpath(Template(name).safe_substitute(CFGDIR=self.directory))
            if path in seen or not os.path.exists(path):
                continue
            seen.add(path)
            if not os.path.isdir(path):
                raise GroupResolverConfigError(f"Defined {option} {path} is not a directory")
            yield path


def _read(filenames: list[str]) -> tuple[configparser.ConfigParser, list[str]]:
    """Read configuration files; gives also the names of those that could be read."""
    config = configparser.ConfigParser()
    try:
        return config, config.read(filenames, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise GroupResolverConfigError(str(exc)) from exc


def _files(directory: str, ending: str) -> list[str]:
    """The files with this ending in a directory, sorted; hidden ones are left out."""
    names = sorted(os.listdir(directory)) if os.access(directory, os.R_OK) else []
    return [
        os.path.join(directory, name)
        for name in names
        if name.endswith(ending) and not name.startswith(".")
    ]


def _upcall_sources(
    config: configparser.ConfigParser, directory: str
) -> Iterator[UpcallGroupSource]:
    """Iterate over the sources of a file. ``[one,two]`` is one section for two of them."""
    for section in config.sections():
        for name in section.split(","):
            if name == _MAIN:
                continue
            options = dict(config.items(section, raw=True))
            if "map" not in options and "mapall" not in options:
                raise GroupResolverConfigError(
                    f"No option 'map' or 'mapall' in section: {section!r}"
                )
            try:
                cache_time = float(options["cache_time"]) if "cache_time" in options else None
            except ValueError as exc:
                raise GroupResolverConfigError(f"{section}: cache_time: {exc}") from exc
            yield UpcallGroupSource(
                name,
                map_upcall=options.get("map"),
                all_upcall=options.get("all"),
                list_upcall=options.get("list"),
                reverse_upcall=options.get("reverse"),
                mapall_upcall=options.get("mapall"),
                cfgdir=directory,
                cache_time=cache_time,
            )
