"""ClusterShell.CLI.Nodeset."""

from __future__ import annotations

import sys

from pyclustershell.cli import nodeset
from pyclustershell.cli.manner import CLUSTERSHELL

__all__ = ["main"]


def main() -> None:
    """Run the program with the arguments of the process.

    Raises:
        SystemExit: always, with the exit status.
    """
    sys.exit(nodeset.main(None, CLUSTERSHELL))


if __name__ == "__main__":
    main()
