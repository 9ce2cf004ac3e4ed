"""Figures, each measured in fresh processes; never part of the tests, whose machine may be busy.

python -m tests.benchmarks             jmr, other systems and a program by hand, side by side
python -m tests.benchmarks.figures     small jobs, the painter, the stop button
python -m tests.benchmarks.scheduler   a million tasks on 10,000 slots, in virtual time
python -m tests.benchmarks.stragglers  a slot that is five times slower than the others

workloads  what is run              peers  the systems, each a module      hand2  the program by hand
child      one run in its process   measure  rounds of runs, and ratios    memory  of a tree of processes
chart      the picture in the README
"""
