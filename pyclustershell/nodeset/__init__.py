"""Node sets: sets of nodes, of the indices in their names, and the groups that sources define."""

from __future__ import annotations

from ..exceptions import (
    NodeSetError,
    NodeSetException,
    NodeSetExternalError,
    NodeSetParseError,
    NodeSetParseRangeError,
    RangeSetParseError,
)
from .base import NodeSetBase
from .groups import (
    FileGroupSource,
    GroupResolver,
    GroupResolverConfig,
    GroupSource,
    UpcallGroupSource,
    YAMLGroupLoader,
)
from .nodeset import (
    ILLEGAL_GROUP_CHARS,
    RESOLVER_NOGROUP,
    NodeSet,
    expand,
    fold,
    grouplist,
    set_std_group_resolver,
    set_std_group_resolver_config,
    std_group_resolver,
)
from .parser import ParsingEngine
from .rangeset1d import AUTOSTEP_DISABLED, RangeSet
from .rangesetnd import RangeSetND

__all__ = [
    "AUTOSTEP_DISABLED",
    "ILLEGAL_GROUP_CHARS",
    "RESOLVER_NOGROUP",
    "FileGroupSource",
    "GroupResolver",
    "GroupResolverConfig",
    "GroupSource",
    "NodeSet",
    "NodeSetBase",
    "NodeSetError",
    "NodeSetException",
    "NodeSetExternalError",
    "NodeSetParseError",
    "NodeSetParseRangeError",
    "ParsingEngine",
    "RangeSet",
    "RangeSetND",
    "RangeSetParseError",
    "UpcallGroupSource",
    "YAMLGroupLoader",
    "expand",
    "fold",
    "grouplist",
    "set_std_group_resolver",
    "set_std_group_resolver_config",
    "std_group_resolver",
]
