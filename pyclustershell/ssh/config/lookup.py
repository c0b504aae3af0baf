"""Finds the settings of one host in OpenSSH's configuration files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ...exceptions import ConfigurationError
from .configline import Setting
from .keywords import Treatment, find_keyword
from .query import Query
from .sshconfig import MAX_INCLUDE_DEPTH, ConfigCache, SSHConfig
from .tokens import expand_environment, expand_tokens


def lookup(
    configs: Sequence[SSHConfig],
    host: str,
    given: Sequence[Setting] = (),
    cache: Optional[ConfigCache] = None,
    allow_match_exec: bool = False,
    wait: bool = True,
) -> Query:
    """Find the settings of a host.

    Args:
        configs: the files, those of higher precedence first.
        host: the host as the user named it.
        given: settings of the command line and of code, which win over all files.
        cache: holds the environment, the results of commands and name lookups, and the warnings
            that were logged.
        allow_match_exec: True if ``Match exec`` may run its command.
        wait: True if the calling thread may wait for commands, name lookups and disks.

    Raises:
        ConfigurationError: a condition cannot be evaluated, or an included file is wrong.
        LookupPending: the calling thread would have to wait.
    """
    cache = cache or ConfigCache()
    query = Query(host, cache.environment, cache.memo, allow_match_exec, wait)
    for setting in given:
        _add(query, setting, cache)
    _pass(query, configs, cache)
    canonical = query.canonical_name()
    if canonical is not None or query.wants_final:
        # ssh_config(5): the files are processed again, now with the name to connect to.
        query.host = canonical or query.target.lower()
        query.final = True
        _pass(query, configs, cache)
    return query


def _pass(query: Query, configs: Sequence[SSHConfig], cache: ConfigCache) -> None:
    query.decided.clear()
    for config in configs:
        _apply(query, config, cache, 0)


def _apply(query: Query, config: SSHConfig, cache: ConfigCache, depth: int) -> None:
    query.wants_final |= config.has_final
    for section in config.candidates(query.host):
        if all(condition.is_met(query) for condition in section.conditions):
            for setting in section.settings:
                if setting.keyword == "Include":
                    _include(query, setting, config, cache, depth)
                else:
                    _add(query, setting, cache)


def _include(
    query: Query, setting: Setting, config: SSHConfig, cache: ConfigCache, depth: int
) -> None:
    """Apply files whose paths contain tokens, as OpenSSH does since release 9.9."""
    if depth >= MAX_INCLUDE_DEPTH:
        raise ConfigurationError(
            f"more than {MAX_INCLUDE_DEPTH} levels of Include: does the file include itself?",
            setting.filename,
            setting.line,
        )
    try:
        pattern = expand_tokens(expand_environment(str(setting.value)), query.tokens())
    except ValueError as error:
        raise ConfigurationError(f"Include: {error}", setting.filename, setting.line) from None
    for included in cache.included(config, pattern, query.wait):
        _apply(query, included, cache, depth + 1)


def _add(query: Query, setting: Setting, cache: ConfigCache) -> None:
    keyword = find_keyword(setting.keyword)
    if keyword is None or keyword.treatment is Treatment.SILENT or setting.value is None:
        return  # An interval of 'none' counts as unset, so that a later line wins, as in OpenSSH.
    if keyword.treatment is Treatment.WARNED and query.get(keyword.name) is None:
        words = setting.value if isinstance(setting.value, tuple) else ()
        if not (words and str(words[0]).lower() in keyword.neutral):
            cache.warn_once(setting, "is not supported and is ignored")
    query.add(setting, keyword)
