"""The fault laboratory: random runs on healthy and faulty nodes, each replayed by its seed.

``python -m tests.faults SEED`` replays one; ``python -m tests.faults --runs 2000`` looks for seeds
that fail. :mod:`.scenario` draws the runs, :mod:`.laboratory` checks them.
"""
