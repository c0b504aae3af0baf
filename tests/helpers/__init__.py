"""Helpers of several tests: the recorder, tasks, waiting, programs, needs."""
