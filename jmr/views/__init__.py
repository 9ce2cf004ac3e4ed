"""How a job is shown: while it runs, when it has ended, and before it runs at all.

    painter ──> board, rows, style ──> widget, button, clicks    a live view in a notebook
        │  └──> phases, pace ────────> text                      lines in a terminal, or in a log
        └─────> summary ──> final ──> drawing, timeline          the line or the card that stays
    flow ──> dataflow, shapes ──> flowcard                       a few records on their way: a preview

card has the HTML that lasts in a notebook without a kernel. All but painter, widget, button and clicks are functions
of a report and a time. Nothing here may make a job wait, or fail it.
"""
