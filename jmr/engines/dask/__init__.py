"""Dask, as an engine.

clients  whose cluster a job runs on; one of its own, where there is none
pool     the kernel's side: sends tasks, keeps their futures, hears how they went
tasks    what Dask's workers run, and how they tell
"""

from jmr.engines.dask.pool import DaskPool

__all__ = ["DaskPool"]
