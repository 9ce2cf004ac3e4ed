"""One suite for all engines: whatever runs a job, the answer, the errors and the manners are the same."""
