"""Where map outputs lie between map and reduce: inline bytes, or ranges of files in memory or on disk.

    slot         store(output) ──small──────────> bytes in the answer ───────────────┐
                               ──within budget──> a file in memory (/dev/shm)        │
                               ──beyond─────────> a file on disk                     │
    coordinator  MapOutputs.add(...) ── every map done ──> inputs(partition)         │
    slot         fetch(range) <──────────────────────── path, offset, length, crc <──┘

    memory      how much of it the host has, and how much is used
    budget      how much may lie in memory, over all jobs of a cluster
    directory   the private directories that files lie in, and what killed kernels left there
    files       one map output to one file, and ranges of it back
    runs        what a map attempt spills, and the output that it becomes
    arriving    files that come from another host, or go there
    lending     large splits in files in memory
    outputs     the map outputs of one job

One file holds all partitions of one map output, one after another. What lies on disk has checksums.
"""
