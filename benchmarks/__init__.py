"""Benchmarks: each program answers one question, with its rivals in the same run.

Compare the client's CPU time, with its children and without imports: real nodes have their own
CPUs, but here the server shares the machine with the client and takes most of it. The tables also
have the wall time, which mostly shows the server.

A program is a module here with a ``main(arguments)`` that prints a table in Markdown. Its option
``--json FILE`` writes all readings to a file; the list ``"bars"`` in it has the goals
(:class:`~benchmarks.contest.Bar`). ``python -m benchmarks`` runs all programs.
"""
