"""Who runs: a module for each system, with `start()`, `run(workload, source) -> dict` and `stop()`.

`start` may take its time, as a pool, a cluster or a session does; `run` is what is timed, from source and functions in
hand to the dict in hand. Two processes each, except for `serial`, on loopback only. The workers of a peer import this
package by name, and `hash` agrees in all processes of a run (PYTHONHASHSEED is set), so it places keys.
"""
