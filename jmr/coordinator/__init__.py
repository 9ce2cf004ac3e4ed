"""The near end: one thread with a tornado IOLoop around scheduler, wire and shuffle.

    mail      what the coordinator tells the thread that waits for a job
    files     files, read and written in threads
    worker    a supervisor and its slots, as the coordinator sees them
    local     the worker of this host
    pressure  what is done while a host is short of memory
    watching  has memory measured, and does that
    errands   what a worker on another host is sent for an attempt, and sends
    remote    a worker on another host
    listener  lets such workers in, when they have proved themselves
    others    all of those, their names and their silence
    jobs      a job as the coordinator knows it
    attempts  what becomes of attempts
    desk      Desk: messages -> scheduler events -> effects -> messages
    core      Coordinator: the loop's thread, and what other threads may ask of it
    status    what a cluster looks like from outside

It moves opaque bytes: it never unpickles, never runs user code, its loop never touches a file.
"""
