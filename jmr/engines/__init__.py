"""What runs a job.

base       the protocol, and how a failure becomes the error that the user sees
inline     one plain loop in this process: for a debugger, and the oracle of the tests
splitting  how many records a split takes
answers    results decoded, bad records put in order
replay     the record that a function failed on, given to it once more
alone      the same in a slot, for a function that ended one
deaths     which record or group ended its slot
slots      our own slots: feeds splits, takes partitions, prints what slots print
weight     a word on functions that capture much
cluster    Cluster: whose slots these are, and which cluster a job runs on
reaching   how a cluster gets slots on other hosts
view       what a cluster looks like
calls      what an engine that is not ours calls on its workers
prints     what user code prints there
driver     the calling thread's side of a job there, whichever engine it is
choice     which engine an argument means
ray        Ray: the one that is there, or one for the job
rayhome    Ray as a process has it, and what its errors say
variables  what an engine reads of the environment as it starts
spark/     a SparkSession, classic or Spark Connect
executor   any concurrent.futures.Executor
"""
