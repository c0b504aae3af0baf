"""Whom to trust: known_hosts, host certificates, and what to do with an unknown host."""
