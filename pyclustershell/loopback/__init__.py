"""A cluster on this host for trials and tests: real SSH and SFTP servers on 127.0.0.1."""

from __future__ import annotations

from .cluster import LoopbackCluster

__all__ = ["LoopbackCluster"]
