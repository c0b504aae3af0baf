"""Where the traces differ on purpose, each with its reason."""
from __future__ import annotations
DIFFERENCES = {}
