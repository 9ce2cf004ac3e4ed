"""Starts workers, and knows by what they are told from strangers.

    local        the worker on this host
    token        what every coordinator and worker of one user hold, and nobody else
    address      where a coordinator listens, and how it begins to
    certificate  what its TLS shows
    ssh          workers on other hosts, started from here
    agent        on such a host: between the coordinator and the supervisor with its slots
    keeping      on such a host: functions of jobs, for all of its slots
    joining      on such a host: connects, joins, and waits for the next coordinator
    stdio        the same over ssh's stdin and stdout

A slot imports none of it.
"""
