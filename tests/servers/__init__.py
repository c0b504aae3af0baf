"""Servers for the tests: a real OpenSSH sshd, scripted TCP servers, and a check for leaks."""
