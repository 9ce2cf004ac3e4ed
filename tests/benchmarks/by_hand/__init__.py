"""One million records on each engine, written by hand the way a good user of that engine would write it.

Each module has `start()`, which gives what `jmr.run(engine=...)` takes; `stop()`; and `WAYS`: by the job's name, and by
the way's, a function of the source that gives the answer as a dict.
"""
