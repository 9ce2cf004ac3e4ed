"""The far end: one supervisor process a host, and the slots it forks.

    supervisor    one thread, no user code: forks slots, tells how they end, reads what they print
    output        printed bytes -> whole lines, by job, capped
    notices       warnings and log records, each distinct one once
    slot          runs attempts, one at a time
    spot          where a slot is, for its supervisor to see when it is gone
    surroundings  cwd, sys.path, environment of the kernel, taken on in a slot
    modules       the user's modules, imported anew when they were edited
    signals       what a slot at work is told
    stops         which slots somebody has stopped, and for how long
    memory        what the host and its slots have of it
    spilling      what a slot does when its memory is short
    abroad        what a slot does besides on another host than the coordinator's
    names         what code may import, read off it
    sources       the user's source files, each read once in a state
    shipping      at the kernel: the user's modules as source, for slots abroad
    imports       there: modules made of it

No tornado and no asyncio here: a slot starts in the time of a fork.
"""
