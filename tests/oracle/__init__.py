"""Comparisons with ClusterShell and OpenSSH: their results are the expected ones."""
