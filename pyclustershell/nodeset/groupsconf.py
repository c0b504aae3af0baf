"""groups.conf: the configuration files of group sources."""

from __future__ import annotations

import configparser
import errno
import logging
import os
from collections.abc import Iterator
from string import Template

from .. import platform
from ..exceptions import GroupResolverConfigError
from ..filetrust import why_refused
from .groupsources import FileGroupSource, GroupSource, UpcallGroupSource, YAMLGroupLoader

_MAIN = "Main"

_LOGGER = logging.getLogger(__name__)


class GroupsConfig:
    """The contents of groups.conf and of the files that it names.

    Attributes:
        config: the contents of groups.conf.
        default_source: the name of the default source, or None.
        problems: the files, directories and sources that were skipped, and why.
    """

    def __init__(self, filenames: list[str], strict: bool = False) -> None:
        """Read groups.conf.

        Args:
            filenames: the files to read; later ones take precedence. Relative names in them are
                relative to the directory of the last file that exists.
            strict: True if faults of other files and of sources are errors, too.

        Raises:
            GroupResolverConfigError: one of these files cannot be parsed.
        """
        self.problems: list[str] = []
        self._strict = strict
        self.config, read = _read(filenames)
        self.filename = read[-1] if read else ""
        self.directory = os.path.dirname(self.filename)
        self.problems += [
            f"{filename}: the file cannot be read"
            for filename in filenames
            if filename not in read and os.path.exists(filename)
        ]
        self.default_source = self._main("default")

    def skip(self, problem: str, fault: str | None = None) -> None:
        """Log a problem with an item that is skipped, and keep it for later errors.

        Args:
            problem: the problem: the file, the item, what is wrong.
            fault: the attribute of the error, if the problem is one.

        Raises:
            GroupResolverConfigError: nothing is skipped: the configuration is read strictly.
        """
        if self._strict:
            raise GroupResolverConfigError(problem, fault)
        self.problems.append(problem)
        _LOGGER.warning("%s: it is skipped", problem)

    def _main(self, option: str) -> str | None:
        """An option of the main section, or None."""
        try:
            return self.config.get(_MAIN, option, fallback=None) or None
        except configparser.Error as exc:
            self.skip(f"{self.filename}: {option}: {exc}".replace("\n", " "))
            return None

    def sources(self) -> Iterator[tuple[GroupSource, str]]:
        """Iterate over the sources of confdir, of autodir, then of groups.conf, and their places.

        An invalid file or source is skipped with a warning: the others can be used.
        """
        has_old_name = self.config.has_option(_MAIN, "groupsdir")
        for directory in self._directories("groupsdir" if has_old_name else "confdir"):
            for path in self._files(directory, ".conf"):
                try:
                    config, _ = _read([path])
                except GroupResolverConfigError as exc:
                    self.skip(str(exc))
                    continue
                yield from self._upcall_sources(config, directory, path)
        for directory in self._directories("autodir"):
            for path in self._files(directory, ".yaml"):
                yield from ((source, path) for source in self._yaml_sources(path))
        yield from self._upcall_sources(self.config, self.directory, self.filename)

    def _files(self, directory: str, ending: str) -> Iterator[str]:
        """Iterate over the files with this ending in a directory, sorted, without hidden ones."""
        for name in sorted(os.listdir(directory)) if os.access(directory, os.R_OK) else ():
            if not name.endswith(ending) or name.startswith("."):
                continue
            path = os.path.join(directory, name)
            reason = why_refused(path)
            if reason is None:
                yield path
            else:
                self.skip(f"{path}: {reason}")

    def _yaml_sources(self, path: str) -> list[FileGroupSource]:
        try:
            return list(YAMLGroupLoader(path, strict=self._strict))
        except GroupResolverConfigError as exc:
            self.skip(str(exc))
        except OSError as exc:
            problem = f"{path}: {exc.strerror}"
            # Files that this user may not read are no mistake: no warning.
            if self._strict or exc.errno in (errno.EACCES, errno.EPERM):
                self.problems.append(problem)
            else:
                self.skip(problem)
        return []

    def _directories(self, option: str) -> Iterator[str]:
        """Iterate over the existing directories of an option, without repetitions."""
        value = self._main(option) or ""
        try:
            names = platform.split_words(value)
        except ValueError as exc:
            self.skip(f"{self.filename}: {option}: {exc}: {value!r}")
            return
        seen = set()
        for name in names:
            path = os.path.normpath(Template(name).safe_substitute(CFGDIR=self.directory))
            if path in seen or not os.path.exists(path):
                continue
            seen.add(path)
            if os.path.isdir(path):
                yield path
            else:
                fault = f"Defined {option} {path} is not a directory"
                self.skip(f"{self.filename}: {fault}", fault)

    def _upcall_sources(
        self, config: configparser.ConfigParser, directory: str, path: str
    ) -> Iterator[tuple[UpcallGroupSource, str]]:
        """Iterate over the sources of a file. A section ``[one,two]`` defines two sources."""
        for section in config.sections():
            for name in section.split(","):
                if name == _MAIN:
                    continue
                try:
                    yield (
                        _upcall_source(name, dict(config.items(section, raw=True)), directory),
                        path,
                    )
                except ValueError as exc:
                    fault = f"No option 'map' or 'mapall' in section: {section!r}"
                    if "map" in config[section] or "mapall" in config[section]:
                        fault = str(exc)
                    self.skip(f"{path}: group source {name!r}: {exc}", fault)


def _read(filenames: list[str]) -> tuple[configparser.ConfigParser, list[str]]:
    """Read configuration files; returns their contents and the names of the files read.

    Raises:
        GroupResolverConfigError: a file is invalid; the error names file and line.
    """
    config = configparser.ConfigParser()
    read = []
    for filename in filenames:
        try:
            read += config.read(filename, encoding="utf-8-sig")
        except configparser.ParsingError as exc:
            # A missing section header is an error of its own class, with another attribute.
            errors = getattr(exc, "errors", None)
            line = errors[0][0] if errors else getattr(exc, "lineno", 1)
            message = (
                f"{filename} line {line}: this is no section such as [name], no key and no value"
            )
            raise GroupResolverConfigError(message) from exc
        except configparser.Error as exc:
            raise GroupResolverConfigError(f"{filename}: {' '.join(str(exc).split())}") from exc
        except UnicodeDecodeError as exc:
            raise GroupResolverConfigError(f"{filename}: {exc}: write the file in UTF-8") from exc
    return config, read


def _upcall_source(name: str, options: dict[str, str], directory: str) -> UpcallGroupSource:
    """The source of a section.

    Raises:
        ValueError: an option is missing or invalid.
    """
    if "map" not in options and "mapall" not in options:
        raise ValueError("No option 'map' or 'mapall' in its section: add one")
    try:
        cache_time = float(options["cache_time"]) if "cache_time" in options else None
    except ValueError:
        text = options["cache_time"]
        raise ValueError(f"cache_time: {text!r} is not a number of seconds") from None
    return UpcallGroupSource(
        name,
        map_upcall=options.get("map"),
        all_upcall=options.get("all"),
        list_upcall=options.get("list"),
        reverse_upcall=options.get("reverse"),
        mapall_upcall=options.get("mapall"),
        cfgdir=directory,
        cache_time=cache_time,
    )
