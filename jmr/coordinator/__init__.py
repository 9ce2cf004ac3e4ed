"""The near end: one thread with a tornado IOLoop around scheduler, wire and shuffle.

    mail     what the coordinator tells the thread that waits for a job
    channel  a non-blocking connection: messages in, messages out
    worker   this host's supervisor and slots, as the coordinator sees them
    jobs     a job as the coordinator knows it
    core     Coordinator: messages -> scheduler events -> effects -> messages

It moves opaque bytes: it never unpickles, never runs user code, never touches a file.
"""
