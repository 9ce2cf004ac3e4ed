"""Connections on an event loop, which never block it.

    channel  to a process on this host: messages in, messages out
    leases   for how long a silent end is believed to be there
    link     to another host: both ends prove themselves, then streams of messages take turns

Both ends of a remote worker need them: the worker to talk to its own supervisor, the coordinator to talk to both.
"""
