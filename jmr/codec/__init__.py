"""Objects to bytes and back: the only room that calls pickle.

    process     whether this process is a slot, and which modules are its own
    values      any object <-> one blob, big buffers apart
    functions   the user's functions and what they capture; names the variable that cannot travel
    classes     by which identities classes are known that travel by value
    weight      which captured variables make the functions large
    failures    an exception and its frames, as plain values; rebuilt so that a traceback shows the user's own lines

Bytes are loaded only from processes that this user started, or that proved themselves.
"""
