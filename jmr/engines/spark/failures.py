"""What Spark says when it fails, in a sentence: its own words are hundreds of lines of Java, with Python's inside.

exception ──error_of──> WorkerError, SlotDiedError
"""

from __future__ import annotations

import re

from jmr.errors import JmrError, SlotDiedError, WorkerError

__all__ = ["CHANGED", "error_of"]

#: What `reduce_rows` raises.
CHANGED = "a map task gave something else when Spark had to run it again"

_WIDTH = 300
#: A traceback's last line: the first that is not indented. Java's own lines may stand right after it.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)")
_NO_MODULE = re.compile(r"No module named '(jmr|pyarrow|cloudpickle)\b")
_JAVA_CAUSE = re.compile(r"^Caused by: (?:[\w$]+\.)*([\w$]+(?:: .*)?)$", re.MULTILINE)
#: What it is about, by what then stands somewhere in it.
_KNOWN = [
    (
        r"Python worker exited unexpectedly|Python worker failed to connect back.*exited|EOFReached",
        SlotDiedError,
        "a process of Spark's workers has ended in the middle of a task: a function of yours ended it, or the system "
        "did for want of memory. The session can go on",
    ),
    (
        r"PYTHON_VERSION_MISMATCH",
        WorkerError,
        "Spark's workers run another Python than this one, and the two must have the same minor version: set "
        "PYSPARK_PYTHON to such a Python before the session starts",
    ),
    (
        r"OutOfMemoryError",
        WorkerError,
        "Spark's Java has run out of memory: give it more, by spark.driver.memory and spark.executor.memory, before "
        "the session starts",
    ),
    (CHANGED, WorkerError, f"{CHANGED}, after it had lost an executor: run the job again"),
    (
        r"Checkpoint block .* not found|ExecutorLostFailure|executor .*(?:lost|exited)",
        WorkerError,
        "Spark has lost an executor, and what map tasks had left there: run the job again",
    ),
    (
        r"SparkContext was shut down|cancelled because SparkContext|stopped SparkContext|SESSION_CLOSED",
        WorkerError,
        "the SparkSession was stopped: make a new one",
    ),
    (r"SPARK_JOB_CANCELLED", WorkerError, "somebody has cancelled the job in Spark"),
    (
        r"StatusCode\.UNAVAILABLE|Connection refused|Answer from Java side is empty|Error while receiving",
        WorkerError,
        "the connection to Spark is lost: make a new SparkSession",
    ),
]


def error_of(error: BaseException) -> JmrError:
    """What to raise for an exception that came out of Spark.

    A user function's exceptions are none of these: they come in receipts.
    """
    if isinstance(error, JmrError):
        return error
    text = _text(error)
    if missing := _NO_MODULE.search(text):
        return WorkerError(
            f"{missing[1]} cannot be imported on Spark's workers: jmr must be installed there, in the same version as "
            'here: pip install "jmr[spark]"'
        )
    for pattern, kind, sentence in _KNOWN:
        if re.search(pattern, text):
            return kind(f"{sentence}.")
    return WorkerError(f"Spark could not run a task: {_essence(text, error)}")


def _text(error: BaseException) -> str:
    """All that it says."""
    java = getattr(error, "java_exception", None)
    said = str(error)
    return said if java is None or "Caused by" in said else f"{said}\n{java}"


def _essence(text: str, error: BaseException) -> str:
    """The line that says most."""
    tracebacks = _TRACEBACK.findall(text)
    causes = _JAVA_CAUSE.findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    best = (tracebacks or causes or lines or [type(error).__name__])[-1 if tracebacks or causes else 0]
    return best if len(best) <= _WIDTH else f"{best[:_WIDTH]}..."
