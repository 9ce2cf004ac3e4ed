"""The magics' lines: cut into words, their expressions evaluated, their options turned into arguments of `jmr.run`.

A word is what Python would take as one thing: blanks inside quotes and brackets do not end it, so an expression needs
no quoting; but `--source "f(1, 2)"` works too, as in a shell.
"""

from __future__ import annotations

import inspect
import itertools
import keyword
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jmr.notebook.ipython import Function, UsageError, argument
from jmr.plan import ENGINES

if TYPE_CHECKING:
    import argparse

__all__ = [
    "ROLES",
    "Namespace",
    "evaluated",
    "job_arguments",
    "job_options",
    "unquoted",
    "valid_name",
    "with_counts",
    "words",
]

_QUOTED = re.compile(r"""("(\\.|[^"\\])*"|'(\\.|[^'\\])*')""")
#: The names that a cell gives to the parts of its job.
ROLES = ("source", "mapfn", "combinefn", "reducefn", "final")
#: Records that `--preview` shows.
PREVIEWED = "5"
#: Where a magic's expressions are evaluated: globals, locals.
Namespace = tuple[dict[str, Any], Mapping[str, Any]]


def words(line: str) -> list[str]:
    """Cut a magic's line into words.

    Examples
    --------
    >>> words("counts --source pairs(1, 'a b') --workers 4")
    ['counts', '--source', "pairs(1, 'a b')", '--workers', '4']
    """
    found, word = [], ""
    for part in re.split(r"(\s+)", line.strip()):
        word += part
        if word and _is_whole(word):
            found += [word] if word.strip() else []
            word = ""
    return [*found, word] if word else found


def with_counts(found: list[str]) -> list[str]:
    """The words, with a number after each `--preview`: whatever else stands there is no part of it.

    Examples
    --------
    >>> with_counts(["--preview", "counts"])
    ['--preview=5', 'counts']
    """
    return [
        f"{word}={PREVIEWED}" if word == "--preview" and not after.isdecimal() else word
        for word, after in itertools.zip_longest(found, found[1:], fillvalue="")
    ]


def _is_whole(word: str) -> bool:
    bare = _QUOTED.sub("", word)
    n_open = sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
    return n_open <= 0 and not {'"', "'"} & set(bare)


def evaluated(text: str, namespace: Namespace, magic: str) -> Any:
    """The value of an expression on a magic's line; what it raises comes out unchanged, unless it is no expression."""
    __tracebackhide__ = True
    try:
        code = compile(text, f"<{magic}>", "eval")
    except SyntaxError as error:
        raise UsageError(f"{magic}: {text!r} is not a Python expression ({error.msg})") from None
    if text.isidentifier() and not any(text in names for names in _names_in_reach(namespace)):
        raise UsageError(f"{magic}: there is no {text!r}: define it in the cell, or run the cell that does")
    return eval(code, namespace[0], namespace[1])


def _names_in_reach(namespace: Namespace) -> tuple[Mapping[str, Any], ...]:
    import builtins

    return (*namespace, vars(builtins))


def valid_name(name: str, magic: str) -> str:
    """A name that the result can be stored under."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"{magic}: the result cannot be stored as {name!r}: write a variable's name")
    import builtins

    if hasattr(builtins, name):
        raise UsageError(f"{magic}: {name} is Python's own, and the result would hide it: write another name")
    if name in ROLES:
        raise UsageError(
            f"{magic}: the result would take the place of your {name}: write another name, or none. "
            "(This magic takes source, mapfn and reducefn from the cell, not from its line.)"
        )
    return name


_JOB_OPTIONS = (
    argument("--workers", metavar="N", help="most processes (slots) to use [one for each CPU]"),
    argument("--n-partitions", metavar="N", help="how many parts the keys are reduced in; never changes the answer"),
    argument("--max-attempts", metavar="N", help="how often work may end its process before the job fails [4]"),
    argument("--on-error", choices=("raise", "skip"), metavar="WHAT", help="raise, or skip: bad records are set aside"),
    argument("--checkpoint", metavar="DIR", help="keep in this directory what is finished, and go on from there"),
    argument("--out", metavar="DIR", help="write the results there, as JSON lines; as Parquet if it ends in .parquet"),
    argument(
        "--engine",
        metavar="ENGINE",
        help="inline: one plain loop in the kernel, for %%debug; dask, ray, spark; or a Cluster, Client ...",
    ),
    argument("--name", help="shown with the progress"),
    argument("--no-speculate", action="store_true", help="begin nothing twice, however long it takes"),
    argument("--no-progress", action="store_true", help="silence"),
    argument("--debug", action="store_true", help="if a function fails: run its record again, here, and open %%debug"),
    argument(
        "--preview",
        metavar="N",
        nargs="?",
        const=PREVIEWED,
        help="do not run the job: show what becomes of its first N records [5]",
    ),
)


def job_options(magic: Function) -> Function:
    """Decorate a magic with the options that both `%mapreduce` and `%%mapreduce` pass on to the job."""
    for option in reversed(_JOB_OPTIONS):
        magic = option(magic)
    return magic


def documented(magic: Function) -> Function:
    """Decorate a magic with help that reads well: what it does, an example, then what it takes, in two columns."""
    parser = magic.parser  # type: ignore[attr-defined]
    rows = [(_as_typed(action), (action.help or "").replace("%%", "%")) for action in parser._actions]
    width = max(len(typed) for typed, _ in rows)
    table = "\n".join(f"    {typed:<{width}}  {text}" for typed, text in rows)
    magic.__doc__ = f"{inspect.cleandoc(parser.description)}\n\n{table}\n"
    return magic


def _as_typed(action: argparse.Action) -> str:
    name = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
    if not action.option_strings or action.nargs == 0:
        return name
    value = action.metavar or action.dest.upper()
    return f"{name} [{value}]" if action.nargs == "?" else f"{name} {value}"


def job_arguments(options: argparse.Namespace, namespace: Namespace, magic: str) -> dict[str, Any]:
    """What the options mean as arguments of `jmr.run`; only those that were given."""
    __tracebackhide__ = True
    arguments: dict[str, Any] = {"on_error": options.on_error, "name": options.name and unquoted(options.name)}
    for count in ("workers", "n_partitions", "max_attempts"):
        if (text := getattr(options, count)) is not None:
            arguments[count] = evaluated(unquoted(text), namespace, f"{magic} --{count.replace('_', '-')}")
    if options.checkpoint is not None:
        arguments["checkpoint"] = os.path.expanduser(unquoted(options.checkpoint))
    if options.out is not None:
        arguments["out"] = os.path.expanduser(unquoted(options.out))
    if options.engine is not None:
        engine = unquoted(options.engine)
        where = f"{magic} --engine ({', '.join(ENGINES)}, or a jmr.Cluster, a Dask Client, a SparkSession, an Executor)"
        arguments["engine"] = engine if engine in ENGINES else evaluated(engine, namespace, where)
    if options.no_speculate:
        arguments["speculate"] = False
    if options.no_progress:
        arguments["progress"] = False
    return {name: value for name, value in arguments.items() if value is not None}


def unquoted(word: str) -> str:
    """The word without quotes around all of it."""
    return word[1:-1] if _QUOTED.fullmatch(word) else word
