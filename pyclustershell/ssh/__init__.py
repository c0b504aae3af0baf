"""SSH as a client: configuration, host keys, authentication, connections, commands, copies."""
