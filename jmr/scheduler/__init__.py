"""Who runs what: events in, effects out.

    events   what happened: a split arrived, a slot joined, an attempt finished, a slot died, ...
    effects  what must be done about it: start an attempt, stop a slot, tell the job's owner
    lengths  how long attempts take: which of them take too long
    deaths   who is to blame when slots die at a task
    jobs     tasks and jobs, and the states they go through
    pools    which slots are free, and which jobs stand in line for one
    machine  Scheduler.handle(event) -> effects

Pure: no clock (every event carries `now`), no I/O, no randomness. It knows names and numbers, never a record.
"""
