"""The calling thread: from the call to the result.

calling  run: the call -> a checked plan, and the engine for it
running  plan and engine -> Result, with a progress view around it
job      submit: the same in a thread of its own, and the handle on it
"""
