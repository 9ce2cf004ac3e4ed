"""What a running job shows: counts in a `Report`, a painter that looks at them, a line that stays.

    report    what happened so far          (engines write it)
    log       what workers printed, all of it
    outlet    a thread that shows it, as far as a page bears it
    where     which front end looks on      (JupyterLab, a batch runner, a terminal, nobody)
    routing   which cell output belongs to
    summary   report -> line, or card       (pure; final: the card; drawing, timeline: its picture)
    phases    how far each phase is         (pure; pace: how fast it is lately)
    text      lines on stderr
    board     name, state, bars as HTML     (pure; rows: what each slot does; style: how it looks)
    widget    the board in a notebook       (button: its Cancel; clicks: whether one is heard)
    flow      what a preview shows of a few records; dataflow draws it, flowcard has its tables and its text
    later     what is done only for jobs that turn out long
    painter   a thread that puts them together; the session calls `painter.show`

Nothing here may make a job wait, slow it down by more than a per cent, or fail it.
"""
