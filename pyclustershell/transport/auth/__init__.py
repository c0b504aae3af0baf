"""How to get in: keys, agents, passwords and questions, in order."""
