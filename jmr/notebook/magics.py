"""What IPython calls: `%%mapreduce`, `%mapreduce` and `%jmr`.

    line ──> options
    cell ──> run in the user's namespace ──> source, mapfn, reducefn, and notes on those that an earlier cell defined
                                             └──> calling.run_with_notes ──> NAME, or the cell's value
    line ──> a task file's path ──> taskfile.run_file ──> the line's value

Thin: what a job is, and every check of its arguments, is the session's business.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jmr.notebook import completion
from jmr.notebook.cell import compile_cell
from jmr.notebook.commands import obey
from jmr.notebook.ipython import (
    Magics,
    UsageError,
    argument,
    cell_magic,
    line_magic,
    magic_arguments,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from jmr.notebook.line import (
    ROLES,
    Namespace,
    documented,
    evaluated,
    job_arguments,
    job_options,
    unquoted,
    valid_name,
    with_counts,
    words,
)

if TYPE_CHECKING:
    import argparse

__all__ = ["JmrMagics", "load_ipython_extension", "unload_ipython_extension"]

#: Those that may come from an earlier cell; an old combinefn or final would surprise.
INHERITED = ("source", "mapfn", "reducefn")


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext jmr`; harmless the second time."""
    shell.register_magics(JmrMagics)
    magics: Any = JmrMagics
    parsers = {"%%mapreduce": magics.mapreduce_cell.parser, "%mapreduce": magics.mapreduce_line.parser}
    completion.register(shell, parsers)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext jmr`; jobs and slots stay as they are."""
    completion.unregister(shell)
    for magics in shell.magics_manager.magics.values():
        for name, magic in list(magics.items()):
            if isinstance(getattr(magic, "__self__", None), JmrMagics):
                del magics[name]


@magics_class
class JmrMagics(Magics):  # type: ignore[misc]
    """The magics of jmr."""

    @no_var_expand
    @cell_magic("mapreduce")
    @documented
    @magic_arguments("%mapreduce")
    @argument("variable", metavar="NAME", nargs="?", help="store the result here [it is the cell's value]")
    @argument("--source", metavar="EXPR", help="the records [source]")
    @argument("--mapfn", metavar="EXPR", help="a function of (key, value) that yields (key, value) pairs [mapfn]")
    @argument("--combinefn", metavar="EXPR", help="folds a key's values early [combinefn, if this cell defines it]")
    @argument("--reducefn", metavar="EXPR", help="a function of (key, values) [reducefn]")
    @argument("--no-reduce", action="store_true", help="leave reducefn out: every key gets the list of its values")
    @argument("--final", metavar="EXPR", help="called here with each key and value [final, if this cell defines it]")
    @job_options
    def mapreduce_cell(self, line: str, cell: str) -> Any:
        """Run a MapReduce job: this cell says what, every core here does it.

            %%mapreduce [NAME] [options]

        The cell is run in your namespace like any other; then the job runs with the source, mapfn and reducefn
        that it defined. Those that it does not define are taken from earlier cells, and the summary says so.

        For example::

            %%mapreduce counts --workers 4
            source = {"a.txt": "the cat the dog", "b.txt": "the end"}

            def mapfn(name, text):
                for word in text.split():
                    yield word, 1

            def reducefn(word, ones):
                return sum(ones)

        Then counts is {'the': 3, 'cat': 1, 'dog': 1, 'end': 1}: a dict, and exactly the one that a plain loop
        would have given. See how it comes about with %%mapreduce --preview. jmr.run(source, mapfn, reducefn) does
        the same without a magic; jmr.run? explains every part.

        EXPR and N are Python expressions, most often just a name. In brackets: what holds without it.
        """
        __tracebackhide__ = True
        options = _parsed(self.mapreduce_cell, "%%mapreduce", line)
        name = None if options.variable is None else valid_name(options.variable, "%%mapreduce")
        program = compile_cell(self.shell, f"%%mapreduce {line}".rstrip(), cell)
        namespace = self.shell.user_ns
        defined = program.run(namespace, ROLES)
        parts, notes = _parts(options, (namespace, namespace), defined)
        arguments = {"name": name} | job_arguments(options, (namespace, namespace), "%%mapreduce")
        if options.preview is not None:
            return _preview(options, parts, arguments)
        result = _run(self.shell if options.debug else None, notes, **parts, **arguments)
        if name is None:
            return result
        self.shell.push({name: result})
        return None

    @no_var_expand
    @needs_local_scope
    @line_magic("mapreduce")
    @documented
    @magic_arguments("mapreduce")
    @argument("source", help="the records: a dict, or an iterable of (key, value) pairs; or, alone, a task file's path")
    @argument("mapfn", nargs="?", help="a function of (key, value) that yields (key, value) pairs")
    @argument("reducefn", nargs="?", help="a function of (key, values); left out: the list of values")
    @job_options
    def mapreduce_line(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Run a MapReduce job over what is defined already, or a task file; the value is its result.

            [variable =] %mapreduce source mapfn [reducefn] [options]
            [variable =] %mapreduce TASKFILE.py [options]

        For example::

            counts = %mapreduce documents mapfn reducefn --workers 4
            sums = %mapreduce triangular.py

        The same as jmr.run(documents, mapfn, reducefn, workers=4) and jmr.run_file("triangular.py"). The words are
        Python expressions; blanks are fine inside brackets and quotes. A single word that ends in .py is the path of
        a file that defines source, mapfn and reducefn. The cell magic, %%mapreduce, takes its functions from a cell.
        """
        __tracebackhide__ = True
        options = _parsed(self.mapreduce_line, "%mapreduce", line)
        namespace = self.shell.user_ns, local_ns or self.shell.user_ns
        arguments = job_arguments(options, namespace, "%mapreduce")
        if options.mapfn is None:
            return _run_file(self.shell, _path_in(options.source), options, arguments)
        given = {role: getattr(options, role) for role in INHERITED if getattr(options, role) is not None}
        parts = {role: evaluated(unquoted(text), namespace, "%mapreduce") for role, text in given.items()}
        if options.preview is not None:
            return _preview(options, parts, arguments)
        return _run(self.shell if options.debug else None, (), **parts, **arguments)

    @line_magic("jmr")
    def jmr_line(self, line: str) -> None:
        """Look after the slots that run this kernel's jobs.

            %jmr                      what there is, and what it does; the same as %jmr status
            %jmr workers N            have N slots here until %jmr stop; a job that asks for more gets more
            %jmr jobs                 the jobs that run now: those that jmr.submit started
            %jmr cancel NAME          end those of that name
            %jmr listen               let jmr-worker join from this very host
            %jmr listen ADDR[:PORT]   let it join from other hosts; ADDR is this one's, as they know it
            %jmr listen --new-token   with a new token: workers that hold the old one must be given it
            %jmr stop                 end it all; the next job starts new slots

        For example::

            %jmr listen 10.0.0.5      then, on each other host: jmr-worker 10.0.0.5
        """
        __tracebackhide__ = True
        obey(line)


def _parsed(magic: Any, name: str, line: str) -> argparse.Namespace:
    """The options on the line; argparse's own complaints do not say which magic they are about."""
    try:
        options: argparse.Namespace = magic.parser.parse_intermixed_args(with_counts(words(line)))
    except UsageError as error:
        raise UsageError(f"{name}: {error}. {_hint(str(error))}{name}? shows what it takes.") from None
    return options


def _hint(complaint: str) -> str:
    unknown = complaint.partition("unrecognized arguments: ")[2]
    if not unknown:
        return ""
    if not unknown.startswith("-"):
        return "An expression with blanks needs brackets around it. "
    return "Options are written with dashes. " if "_" in unknown else ""


def _parts(
    options: argparse.Namespace, namespace: Namespace, defined: frozenset[str]
) -> tuple[dict[str, Any], list[str]]:
    """Source and functions of the job, and what to say about where they came from."""
    __tracebackhide__ = True
    if options.no_reduce and options.reducefn is not None:
        raise UsageError("%%mapreduce: --reducefn and --no-reduce contradict each other")
    parts, inherited = {}, []
    for role in ROLES:
        if (text := getattr(options, role)) is not None:
            parts[role] = evaluated(unquoted(text), namespace, "%%mapreduce")
        elif role in namespace[0] and _counts(role, options, defined):
            parts[role] = namespace[0][role]
            inherited += [] if role in defined else [role]
    _check_complete(parts)
    return parts, _notes(inherited)


def _counts(role: str, options: argparse.Namespace, defined: frozenset[str]) -> bool:
    if role == "reducefn" and options.no_reduce:
        return False
    return role in defined or role in INHERITED


def _check_complete(parts: dict[str, Any]) -> None:
    for role, example in (("source", "docs"), ("mapfn", "count_words")):
        if role not in parts:
            raise UsageError(
                f"%%mapreduce: there is no {role}: define {role} in this cell or an earlier one, "
                f"or name it: %%mapreduce --{role} {example}"
            )


def _notes(inherited: list[str]) -> list[str]:
    if not inherited:
        return []
    names = " and ".join([", ".join(inherited[:-1]), inherited[-1]] if len(inherited) > 1 else inherited)
    return [f"{names} from {'an earlier cell' if len(inherited) == 1 else 'earlier cells'}"]


def _run(debugging: Any, notes: Any, **arguments: Any) -> Any:
    """The session is loaded when the first job runs, so that `%load_ext` is instant.

    `debugging` is the shell whose debugger opens if a function fails; None for no debugger.
    """
    __tracebackhide__ = True
    from jmr.session import calling

    if debugging is None:
        return calling.run_with_notes(notes, **arguments)
    from jmr.notebook.debugging import debugged

    return debugged(debugging, lambda: calling.run_with_notes(notes, **arguments))


def _preview(options: argparse.Namespace, parts: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """The first records, all the way, in place of the job; options of the job's that matter only to it are ignored."""
    __tracebackhide__ = True
    if not options.preview.isdecimal():
        raise UsageError(f"--preview takes a number of records, not {options.preview!r}")
    from jmr.session.preview import preview

    return preview(**parts, workers=arguments.get("workers"), n=int(options.preview))


def _path_in(word: str) -> str:
    """The path of a task file, written with quotes or without."""
    path = unquoted(word)
    if not path.endswith(".py"):
        raise UsageError(
            "%mapreduce: the following arguments are required: mapfn (or, alone, a task file: %mapreduce "
            "triangular.py). %mapreduce? shows what it takes."
        )
    return os.path.expanduser(path)


def _run_file(shell: Any, path: str, options: argparse.Namespace, arguments: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    from jmr.session.taskfile import TaskFile, run_file

    if options.preview is None and not options.debug:
        return run_file(path, **arguments)
    with TaskFile(path) as task:
        if options.preview is not None:
            return _preview(options, task.parts, arguments)
        return _run(shell, (), **task.parts, **{"name": task.name} | arguments)
