"""Authentication: keys, agents, passwords and questions, in their order."""
