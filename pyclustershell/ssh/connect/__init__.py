"""How a connection's bytes travel: TCP, a ProxyCommand, or a tunnel through a jump host."""
