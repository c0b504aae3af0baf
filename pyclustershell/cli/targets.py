"""The nodes that a command line of clush names."""

from __future__ import annotations

import optparse
import os
import random
from collections.abc import Iterable, Iterator, Sequence

from ..exceptions import (
    GroupResolverError,
    GroupSourceError,
    NodeSetException,
    RangeSetException,
)
from ..nodeset import RESOLVER_NOGROUP, NodeSet
from .labelled import VERB_DEBUG, VERB_STD, VERB_VERB, Display
from .namedgroups import check_groups
from .program import Call, Failure, UsageError


class Targets:
    """Selects the nodes: those of -w, -a, -g and --hostfile without those of -x and -X.

    Args:
        call: the call of the program.
        options: its options.
        display: prints warnings.

    Attributes:
        empty: a message for each pattern that names no node.
        warnings: a message for each pattern, or group in it, that may not be what was meant.
    """

    def __init__(self, call: Call, options: optparse.Values, display: Display) -> None:
        self._call = call
        self._options = options
        self._display = display
        self._own = call.manner.own_words
        self.empty: list[str] = []
        self.warnings: list[str] = []

    def select(self) -> NodeSet:
        """The nodes.

        Raises:
            UsageError: no nodes are named, or none are left; in this package's manner, also if a
                pattern is wrong, or names a group that does not exist.
            NodeSetException, GroupResolverError, GroupSourceError: a pattern is wrong.
            OSError: a host file cannot be read.
        """
        options = self._options
        named = self._patterns("-w", options.nodes or ())
        excluded = self._patterns("-x", options.exclude or (), excluded=True)
        self._warn_of_paths("w", named)
        self._warn_of_paths("x", excluded)
        named += [self._of_file(path) for path in options.hostfile]
        nodes, without = NodeSet.fromlist(named), NodeSet.fromlist(excluded)
        if options.nodes_all:
            everything = NodeSet.fromall()
            self._debug(f"Adding nodes from option -a: {everything}")
            if not everything:
                self.empty.append("-a: the group source lists no node")
            nodes.update(everything)
        for group, members in self._groups("-g", options.group or ()):
            self._debug(f"Adding nodes from option -g {group}: {members}")
            nodes.update(members)
        spared = [(f"-x {text!r}", each) for text, each in zip(options.exclude or (), excluded)]
        for group, members in self._groups("-X", options.exgroup or (), excluded=True):
            self._debug(f"Excluding nodes from option -X {group}: {members}")
            without.update(members)
            spared.append((f"-X {group!r}", members))
        if not nodes and self.empty:
            raise UsageError(self.empty[0])
        for place, each in spared:
            if each and not nodes & each:
                self.warnings.append(f"{place}: none of these nodes would be run on without it")
        any_named = bool(nodes)
        nodes.difference_update(without)
        if not nodes:
            raise UsageError(self._no_node(any_named))
        return self._picked(nodes)

    def parse(self, option: str, text: str) -> NodeSet:
        """The nodes of an option that is not among those of :meth:`select`.

        Raises:
            UsageError: the pattern is wrong, or names no node.
        """
        nodes = self._patterns(option, [text])[0]
        if not nodes:
            raise UsageError((self.empty or [f"{option} {text!r} names no node"])[0])
        return nodes

    def _debug(self, text: str) -> None:
        self._display.vprint(VERB_DEBUG, text)

    def _no_node(self, any_named: bool) -> str:
        if not self._own:
            return "No node to run on."
        if any_named:
            return "-x and -X leave no node of those that are named: leave out fewer"
        return "no nodes: name them with -w, such as: -w 'node[1-8]'"

    def _patterns(self, option: str, texts: Iterable[str], excluded: bool = False) -> list[NodeSet]:
        """The node set of each text."""
        found = []
        for text in texts:
            nodes = self._pattern(f"{option} {text!r}", text, excluded)
            found.append(nodes)
            if not nodes and text.strip():
                reason = ": a group in it is empty or unknown" if "@" in text else ""
                self.empty.append(f"{option} {text!r} names no node{reason}")
        return found

    def _pattern(self, place: str, text: str, excluded: bool = False) -> NodeSet:
        try:
            nodes = NodeSet(text)
            if self._own:
                empty = check_groups(text, excluded)
                self.warnings += [f"{place}: {each}" for each in empty]
            return nodes
        except Failure as error:
            raise UsageError(f"{place}: {error}") from None
        except (NodeSetException, RangeSetException) as error:
            message = f"{place}: {error}; write nodes such as 'node[1-8],login'"
            if self._own:
                raise UsageError(message) from error
            raise
        except (GroupResolverError, GroupSourceError) as error:
            if self._own:
                raise UsageError(f"{place}: {error}") from error
            raise

    def _groups(
        self, option: str, texts: Sequence[str], excluded: bool = False
    ) -> Iterator[tuple[str, NodeSet]]:
        """The nodes of each group that the texts name."""
        if not texts:
            return
        for text in texts if self._own else ():
            if text.startswith("@"):
                raise UsageError(f"{option} {text!r}: write it without the @, or use -w")
        try:
            names = NodeSet.fromlist(texts, resolver=RESOLVER_NOGROUP)
        except (NodeSetException, RangeSetException) as error:
            if self._own:
                raise UsageError(f"{option}: {error}; write groups such as 'rack[1-4]'") from error
            raise
        for name in names:
            members = self._pattern(f"{option} {name!r}", f"@{name}", excluded)
            if not members:
                self.empty.append(
                    f"{option} {name!r} names no node: this group is empty or unknown"
                )
            yield name, members

    def _warn_of_paths(self, option: str, found: Iterable[NodeSet]) -> None:
        """A shell may have replaced a pattern by the name of a file."""
        for nodes in found:
            if len(nodes) == 1 and os.path.exists(str(nodes)):
                self._display.vprint_err(
                    VERB_STD,
                    f"Warning: using '-{option} {nodes}' and local path '{nodes}' exists, was it "
                    "expanded by the shell?",
                )

    def _of_file(self, path: str) -> NodeSet:
        """The nodes of a host file: node sets between blanks; # begins a comment."""
        nodes = NodeSet()
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                for number, line in enumerate(file, 1):
                    for word in line.partition("#")[0].split():
                        nodes.update(self._pattern(f"{path}:{number}: {word!r}", word))
        except OSError as error:
            if not self._own:
                raise
            raise UsageError(f"--hostfile {path!r}: {error.strerror}") from None
        if not nodes:
            self.empty.append(f"--hostfile {path!r} names no node")
        self._display.vprint_err(VERB_DEBUG, f"Using nodeset {nodes} from hostfile {path}")
        return nodes

    def _picked(self, nodes: NodeSet) -> NodeSet:
        """Some of the nodes, if --pick asks for it."""
        count = self._options.pick
        if not count or count >= len(nodes):
            return nodes
        if count < 0:
            if self._own:
                raise UsageError(f"--pick {count}: write how many nodes to take, such as: --pick 3")
            raise ValueError("Sample larger than population or is negative")
        picked = NodeSet.fromlist(random.sample(list(nodes), count))
        if self._display.verbosity >= VERB_VERB:
            text = f"Picked random nodes: {picked}"
            if not self._own:
                text = Display.COLOR_RESULT_FMT % text
            self._call.write(f"{text}\n")
        return picked
