"""What can go wrong while a job runs: each fault is made, what is expected is checked, and its end is measured.

    tests/run --faults    all of them, side by side: some ten minutes, and a table at the end
    pytest tests/faults   those that take seconds; marked `minutes` are the others

A test here is a row of the table: its mark says what happens, what is expected, and within how many seconds. It ends
with a job whose items are those of the plain loop.
"""
