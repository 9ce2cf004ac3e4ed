"""The best two-process program for each workload that we could write by hand: the limit that others are compared with.

    two       fork, and a link between the two processes
    packing   groups of numbers <-> bytes
    listing   without a combiner: every value reaches reducefn in a list, in source order
    adding    with one: add up in the loop
    working   records that are worth a ticket each
    carrying  arrays
    program   which of these for which workload

All fork, so that the source is inherited for nothing; the parent works as much as the child; the collector is off. They
call the workload's own functions, and may know the types of its keys and values.
"""
