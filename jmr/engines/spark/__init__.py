"""A SparkSession runs a plan; classic, or Spark Connect.

pool      the driver's side: when what is sent, and what comes back
rdds      where a job's rows lie in a classic session
frames    where they lie in a session of Spark Connect
rows      rows of bytes between Spark and calls, on both sides
session   the session: the user's, or one of our own for one job
failures  what Spark says when it fails, in a sentence
"""
