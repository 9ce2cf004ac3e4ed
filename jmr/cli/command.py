"""The command line: `jmr`.

    jmr                  what there is
    jmr run TASKFILE     run a task file; its result, or what its `final` prints, is on stdout
    jmr checkpoint ...   what a checkpoint's directory holds; remove it

A command is a parser of its own, and a function of the options that gives the exit code. What it needs is loaded when
it runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

import jmr
from jmr.plan import ENGINES

__all__ = ["main"]

_ABOUT = """\
MapReduce from a notebook, a script or a task file.

  jmr run triangular.py             a file that defines source, mapfn and reducefn (jmr run --help)
  import jmr; help(jmr.run)         in a script
  %load_ext jmr; %%mapreduce?       in a notebook
"""
_RUN = """\
Run a task file: Python that defines source and mapfn, and perhaps reducefn, combinefn and final.

  # triangular.py: sums of 0..n
  source = dict(zip(range(100), range(100)))

  def mapfn(key, value):
      for i in range(value + 1):
          yield key, i

  def reducefn(key, values):
      return sum(values)

  def final(key, value):
      print(key, value)
"""
_OUTPUT = """\
On stdout: what final prints, in sorted key order. Without a final, or with --json, the result; with --out, which
files hold it, and how many keys each, and no final must be there. Everything else is on
stderr: progress, messages, and what the file and its mapfn and reducefn print. With --json that holds for final, too.

exit code: 0 done; 1 the job, or the file's own code, failed; 2 the command line or the task file is not right;
130 interrupted; 141 nobody reads stdout any more
"""
_CHECKPOINT = """\
Look into a checkpoint, the directory that a job keeps finished work in, or remove it:

  jmr run words.py --checkpoint words.kept
  jmr checkpoint ls words.kept
  jmr checkpoint rm words.kept
"""
_COMMANDS = ("run", "checkpoint")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Examples
    --------
    >>> main(["run", "nosuch.py", "--workers", "many"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if (meant := _meant(given)) is not None:
        parser.error(f"did you mean: jmr {meant}")
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 0
    code: int = options.command(options)
    return code


def _meant(given: Sequence[str]) -> str | None:
    """A command line with what was forgotten, or misspelt; None if there is a command."""
    command = next((word for word in given if not word.startswith("-")), "run")
    if command.endswith(".py"):
        return shlex.join(["run", *given])
    if command in _COMMANDS:
        return None
    import difflib

    close = difflib.get_close_matches(command, _COMMANDS, n=1)
    return shlex.join(close[0] if word == command else word for word in given) if close else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jmr", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"jmr {jmr.__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    _add_checkpoint(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="run a task file",
        description=_RUN,
        epilog=_OUTPUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("taskfile", metavar="TASKFILE", help="modules beside it can be imported")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="most processes (slots) to use here; one for each CPU. 0: remote ones only",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDR[:PORT]",
        nargs="?",
        const="127.0.0.1",
        help="let jmr-worker join from other hosts, at this address of this one; without one, from this very host",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, help="inline: one plain loop, so that breakpoint() works; or somebody else's"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON; see below")
    parser.add_argument("--on-error", choices=["raise", "skip"], help="skip: leave bad records out, and say so")
    parser.add_argument("--no-speculate", action="store_true", help="begin nothing twice, however long it takes")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="keep in this directory what is finished, and go on from there"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write the results there, as JSON lines; as Parquet if it ends in .parquet"
    )
    parser.add_argument("--name", help="shown with the progress; the file's name")
    parser.add_argument("--no-progress", action="store_true", help="no progress on stderr")
    parser.set_defaults(command=_run, refuse=parser.error)


def _add_checkpoint(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "checkpoint",
        help="look into a checkpoint, or remove it",
        description=_CHECKPOINT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_subparsers(metavar="ls|rm", required=True)
    listing = what.add_parser("ls", help="say what it holds, and whether a job uses it")
    removing = what.add_parser("rm", help="remove what jobs have put there, and nothing else")
    for each, remove in ((listing, False), (removing, True)):
        each.add_argument("directory", metavar="DIR", nargs="+")
        each.set_defaults(command=_checkpoint, remove=remove)


def _checkpoint(options: argparse.Namespace) -> int:
    from jmr.cli.checkpoint import list_checkpoints, remove_checkpoints

    return (remove_checkpoints if options.remove else list_checkpoints)(options.directory)


def _run(options: argparse.Namespace) -> int:
    if options.workers == 0 and options.listen is None:
        options.refuse("--workers 0 leaves the work to other hosts: say where they may join, --listen ADDRESS")
    if options.engine is not None and options.listen is not None:
        options.refuse(
            f"--engine {options.engine} runs it all without our workers, so nobody could join: drop --listen"
        )
    from jmr.cli.task import run_task

    chosen = ("workers", "engine", "on_error", "checkpoint", "out", "name")
    arguments = {name: value for name in chosen if (value := getattr(options, name)) is not None}
    if options.no_speculate:
        arguments["speculate"] = False
    return run_task(
        options.taskfile, json=options.json, listen=options.listen, progress=not options.no_progress, **arguments
    )
