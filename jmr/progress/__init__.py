"""What a running job shows: counts in a `Report`, a painter that looks at them, a line that stays.

    report    what happened so far          (engines write it)
    log       what workers printed, all of it
    outlet    a thread that shows it, as far as a page bears it
    where     which front end looks on      (JupyterLab, a batch runner, a terminal, nobody)
    routing   which cell output belongs to
    summary   report -> words               (pure)
    phases    how far map and reduce are    (pure)
    text      lines on stderr
    widget    bars in a notebook
    flow      what a preview shows of a few records; dataflow draws it, flowcard has its tables and its text
    later     what is done only for jobs that turn out long
    painter   a thread that puts them together; the session calls `painter.show`

Nothing here may make a job wait, slow it down by more than a per cent, or fail it.
"""
