"""ClusterShell.CLI: the files that the alias loads as modules of that package.

The alias makes a module of each file under ClusterShell's name, so that programs find real modules:
they replace attributes of them, and start them with "python -m". So the files have ClusterShell's
names, and absolute imports.
"""
