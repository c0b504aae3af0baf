"""Tests of pyclustershell; see :mod:`tests.servers` for the servers that they talk to."""
