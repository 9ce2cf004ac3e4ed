"""One attempt at one task: pure functions from bytes to bytes. The slots call them, and so does every other engine.

    places      a number for a key that its equals share in every process
    partition   which partition a key belongs to; the dict in which pairs are grouped
    contract    what mapfn may return; what is set aside when user code fails
    memory      keeps the garbage collector out of the way
    folding     combinefn, a few dozen values at a time
    spilling    what is grouped goes to disk when it is asked for
    grouped     {key: values} -> combine -> one blob a partition, once or run by run
    map         split -> mapfn -> group -> one blob a partition
    fitting     groups that are larger than the memory
    reduce      blobs in split order -> merge -> reducefn -> one blob of results
    writing     results become a part of what the job writes
    finding     one group of all that, by its index

No clock but for measuring, no file and no socket, but for what a source's split reads, and what a sink writes to a URL;
user code runs here and nowhere else (but for `final`).
"""
