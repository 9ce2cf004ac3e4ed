"""Ways to run the same job: each a module with `start()`, `run(workload, source)` and `stop()`, for two processes."""
