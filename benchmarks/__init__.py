"""Programs that measure, each for one question and with its rivals in the same run.

What counts is the client's CPU time, children included and imports left out: real nodes bring
their own CPU, but here the server shares the machine with the client and takes most of it. Wall
time stands beside it and mostly shows the server.

A program is a module here with a ``main(arguments)`` that prints a table in Markdown and knows
``--json FILE``, where it writes what it found; a list ``"bars"`` in it says what was wanted
(:class:`~benchmarks.contest.Bar`). ``python -m benchmarks`` runs all that it finds.
"""
