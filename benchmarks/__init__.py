"""Programs that measure, each for one question and with its rivals in the same run.

What counts is the client's CPU time, children included and imports left out: real nodes bring
their own CPU, but here the server shares the machine with the client and takes most of it. Wall
time stands beside it and mostly shows the server.
"""
