"""The group sources of one run of a program."""

from __future__ import annotations

import optparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from ..nodeset import (
    GroupResolver,
    set_std_group_resolver,
    set_std_group_resolver_config,
    std_group_resolver,
)
from .program import Call


@contextmanager
def group_sources(call: Call, options: optparse.Values) -> Iterator[GroupResolver]:
    """Use the group sources of a command line while the with block lasts.

    Args:
        call: the call of the program: its manner says what a fault in a file does.
        options: the options: groupsconf is the file of --groupsconf, or None.

    Yields:
        The standard resolver.
    """
    before = std_group_resolver()
    set_std_group_resolver_config(options.groupsconf)
    resolver = std_group_resolver()
    strict = resolver.strict
    resolver.strict = not call.manner.skip_faulty_groups
    try:
        yield resolver
    finally:
        resolver.strict = strict
        set_std_group_resolver(before)


@contextmanager
def default_source(resolver: GroupResolver, name: Optional[str]) -> Iterator[None]:
    """Make a source the default one while the with block lasts.

    Args:
        resolver: the resolver.
        name: the name of the source; None or '': change nothing.

    Raises:
        GroupResolverSourceError: there is no such source.
    """
    if not name:
        yield
        return
    before = resolver.default_source_name
    resolver.default_source_name = name
    try:
        yield
    finally:
        if before is not None:
            resolver.default_source_name = before
