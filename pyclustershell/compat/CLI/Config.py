"""ClusterShell.CLI.Config."""

from __future__ import annotations

from pyclustershell.cli.clushconfig import ClushConfig, ClushConfigError

__all__ = ["ClushConfig", "ClushConfigError"]
