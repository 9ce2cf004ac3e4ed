"""Figures, each measured in fresh processes; never part of the tests, whose machine may be busy.

python -m tests.benchmarks [-n RUNS] [--json FILE]
"""
