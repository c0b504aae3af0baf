"""ClusterShell.CLI.OptionParser."""

from __future__ import annotations

from pyclustershell.cli.options import Option, OptionParser

__all__ = ["Option", "OptionParser"]
