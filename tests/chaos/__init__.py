"""Jobs on real processes, while these are killed, stopped and cut off at random.

    python -m tests.chaos                      a hundred seeds of at most 30 s each
    python -m tests.chaos --seeds 10 --seconds 10
    python -m tests.chaos --seed 7             one of them again, with its story

    script   seed ──> what is run, and what is done to whom when
    jobs     a kind of job, and a seed ──> source and functions
    kernel   the process whose cluster and job they are
    relay    what stands between a worker and the kernel, and can be cut
    cast     the processes, found through /proc
    deeds    what is done to them, and undone
    play     one seed: the job is run, the deeds are done, and everything is checked

A job may end with its answer, and that is the plain loop's, or be cancelled, or die with its kernel; whatever it is,
what comes next works, and nothing is left behind. No process is touched that was not started here.
"""
