"""What a job has done so far, in numbers and words, and what its workers print.

    report    counts of one job               (engines write it, views read it)
    log       what workers printed, all of it
    outlet    a thread that shows that, as far as a page bears it
    where     which front end looks on        (JupyterLab, a batch runner, a terminal, nobody)
    routing   which cell output belongs to
    terminal  lines that are written over, and whoever prints between them
    later     what is done only for jobs that turn out long
    words     numbers in words

Nothing here may make a job wait, slow it down by more than a per cent, or fail it. How a job is drawn is for `views`.
"""
