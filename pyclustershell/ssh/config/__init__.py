"""How one node's connection is configured: options in code, ssh command lines, OpenSSH's files."""
