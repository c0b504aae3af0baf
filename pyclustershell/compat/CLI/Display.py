"""ClusterShell.CLI.Display."""

from __future__ import annotations

from pyclustershell.cli.labelled import VERB_DEBUG, VERB_QUIET, VERB_STD, VERB_VERB, Display
from pyclustershell.cli.options import THREE_CHOICES

#: The old name of THREE_CHOICES.
WHENCOLOR_CHOICES = THREE_CHOICES

__all__ = [
    "THREE_CHOICES",
    "VERB_DEBUG",
    "VERB_QUIET",
    "VERB_STD",
    "VERB_VERB",
    "WHENCOLOR_CHOICES",
    "Display",
]
