"""Starts workers, and knows by what they are told from strangers.

    local   the worker on this host
    token   what every coordinator and worker of one user hold, and nobody else

A slot imports none of it.
"""
