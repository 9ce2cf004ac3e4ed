"""Which engine runs a plan, by its argument `engine`, where that is none of our own clusters.

    "inline", a Client, "ray", a SparkSession, an Executor ──engine_of──> Engine

An engine's library is looked at only if its object was passed, or its name: then it is imported already, or wanted.
"""

from __future__ import annotations

from typing import Any

from jmr.engines.base import Engine
from jmr.errors import ArgumentTypeError, ArgumentValueError, WorkerError, describe
from jmr.plan import Plan

__all__ = ["engine_of"]


def engine_of(plan: Plan) -> Engine:
    """The engine, ready to run the plan.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        It is none, or cannot do what the plan asks for.
    """
    engine = plan.engine
    if isinstance(engine, str) and engine == "inline":
        if plan.checkpoint is not None:
            raise ArgumentValueError('engine="inline" keeps nothing in a checkpoint: leave out one of the two')
        from jmr.engines.inline import InlineEngine

        return InlineEngine()
    pool = _pool_of(engine)
    if pool is None:
        raise ArgumentTypeError(
            'engine must be None, "inline", a jmr.Cluster, "dask" or a Dask Client, "ray", "spark" or a SparkSession, '
            f"or a concurrent.futures.Executor, not {describe(engine)} ({type(engine).__name__})"
        )
    _refuse_what_is_ours(plan, pool.name)
    from jmr.engines.driver import DrivenEngine

    return DrivenEngine(pool)


def _pool_of(engine: Any) -> Any:
    name = engine if isinstance(engine, str) else ""
    kinds = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(engine).__mro__}
    # Here each engine has its three lines: whether it is meant, by name or kind, its import, and its pool.
    if name == "dask" or "distributed.Client" in kinds:
        try:
            from jmr.engines.dask import DaskPool
        except ImportError as error:
            raise WorkerError('engine="dask" needs Dask: pip install "jmr[dask]"') from error
        return DaskPool(engine)
    if name == "ray":
        from jmr.engines.ray import RayPool

        return RayPool()
    if name == "spark" or "pyspark.SparkSession" in kinds:
        from jmr.engines.spark.pool import SparkPool

        return SparkPool(None if isinstance(engine, str) else engine)
    if "concurrent.Executor" in kinds:
        from jmr.engines.executor import ExecutorPool

        return ExecutorPool(engine)
    return None


def _refuse_what_is_ours(plan: Plan, name: str) -> None:
    """Only our own clusters do these; a job that leaves them out runs anywhere."""
    asked = {
        "checkpoint": (plan.checkpoint is not None, "keeps nothing in a checkpoint"),
        "workers": (plan.workers is not None, "has as many workers as it has"),
        "speculate": (plan.speculate is True, "begins nothing twice for jmr"),
    }
    for option, (is_asked, reason) in asked.items():
        if is_asked:
            raise ArgumentValueError(
                f"{option}= is for jmr's own clusters (engine=None, or a jmr.Cluster): engine {name} {reason}. "
                "Leave out one of the two"
            )
