"""The calling thread: from the call to the result.

calling    run: the call -> a checked plan, and the engine for it
running    plan and engine -> Result, with a progress view around it
writing    where results are written: each part to its place, as it comes
outputs    outputs: what such a job has written, found again
job        submit: the same in a thread of its own, and the handle on it
replaying  replay: the record that the last job failed at, once more

preview    look before you run: a few records, run here, and what they say of the whole job
rehearsal  the tasks of a slot, in this process, with everything written down
estimate   from a few records to all of them
telling    all of that in words

taskfile    run_file: a file that defines source and functions -> the call
neighbours  the modules that lie beside such a file
python2     what of it only Python 2 would take, and how it reads in Python 3
"""
