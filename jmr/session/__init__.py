"""The calling thread: from the call to the result.

running  run: plan -> engine -> Result, with a progress view around it
job      submit: the same in a thread of its own, and the handle on it
"""

from jmr.session.job import Job, submit
from jmr.session.running import run, run_with_notes

__all__ = ["Job", "run", "run_with_notes", "submit"]
