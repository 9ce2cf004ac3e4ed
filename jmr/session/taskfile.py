"""jmr.run_file: a file that defines source and functions, run as octo.py's server ran it.

    path ──read, compile──> module __task__ ──exec, here only──> parts: source, mapfn, ... ──> calling.run ──> Result
              └─ Python 2, not there, no mapfn ──> TaskFileError

The module is `__task__` in `sys.modules`. Not `__main__`: an `if __name__ == "__main__":` block does not run. And
nothing that another process could import: its functions and classes travel by value. Modules beside the file are
imported by their names, here and in slots.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterable
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from jmr.codec import process
from jmr.codec.functions import send_by_value
from jmr.errors import ArgumentTypeError, FunctionError, NestedRunError, TaskFileError, describe, hide_ours
from jmr.session.calling import run, run_with_notes
from jmr.session.neighbours import Neighbours, neighbours_in
from jmr.session.python2 import OldLine, hint, old_lines, told

if TYPE_CHECKING:
    from jmr.result import Result

__all__ = ["TaskFile", "run_file"]

_EXAMPLES = {
    "source": 'source = {"a.txt": "the cat"}',
    "mapfn": "def mapfn(key, value): yield key, value",
}
_OPTIONAL = ("reducefn", "combinefn", "final")


def run_file(path: str | os.PathLike[str], **options: Any) -> Result:
    r"""Run a task file: one that defines `source` and `mapfn`, and perhaps `reducefn`, `combinefn` and `final`.

    The file is run here, as a module of its own called `__task__`; slots get its functions only. While it runs, its
    directory is the first of `sys.path`, so modules beside it can be imported, here and in slots. The working directory
    stays yours. An edited file, or an edited module beside it, is read anew; a module that you imported yourself is for
    you to reload.

    Parameters
    ----------
    path
        The file; Python 3, UTF-8 unless its first lines say otherwise.
    options
        Those of `jmr.run`: engine, workers, n_partitions, max_attempts, on_error, speculate, checkpoint, out, progress,
        name (default: the file's name). What the file defines cannot be given here.

    Returns
    -------
    The `Result` of `jmr.run`.

    Raises
    ------
    ArgumentTypeError
        An option that there is not.
    TaskFileError
        There is no such file; it is Python 2, and the message shows its lines in Python 3; it does not define what a
        job needs. What the file's own code raises comes out unchanged.
    JmrError
        Whatever `jmr.run` raises.

    References
    ----------
    octo.py (2008), whose `server` command took such files.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "squares.py")
    ...     _ = path.write_text("source = {2: 3}.items()\ndef mapfn(k, v): yield k, v * v")
    ...     run_file(path, engine="inline")
    {2: [9]}
    """
    __tracebackhide__ = True
    try:
        _check_options(options)
        with TaskFile(path) as task:
            return run_with_notes((), **task.parts, **{"name": task.name} | options)
    except BaseException as error:
        hide_ours(error)
        raise


class TaskFile:
    """A task file; inside `with`, its module has run, and the modules beside it can be imported."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ArgumentTypeError(
                f"path must be a task file's path, not {describe(path)} ({type(path).__name__}). For functions that "
                "are defined already there is jmr.run."
            )
        #: As the user wrote it.
        self.path = os.fsdecode(path)
        self._absolute = os.path.abspath(self.path)
        self._neighbours: Neighbours | None = None
        #: The arguments of `jmr.run` that it defines.
        self.parts: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What its job is called."""
        return os.path.splitext(os.path.basename(self.path))[0]

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        if process.is_slot:
            raise NestedRunError(
                "jmr.run_file was called inside a slot, by a mapfn or reducefn: slots cannot run jobs."
            )
        code = self._compiled()
        self._neighbours = neighbours_in(os.path.dirname(os.path.realpath(self._absolute)))  # as Python does
        self._neighbours.enter()
        try:
            self.parts = self._parts(vars(_executed(code, self._absolute)))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._neighbours is not None:
            self._neighbours.leave()
        cause = error.__cause__ if isinstance(error, FunctionError) else error
        if error is not None and cause is not None and (note := hint(cause)) is not None:
            error.add_note(note)

    def _compiled(self) -> CodeType:
        text = self._read()
        if old := old_lines(text):
            raise TaskFileError(f"{self.path}, {told(old[0])}{_more(old[1:])}")
        try:
            code: CodeType = compile(text, self._absolute, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:  # ValueError: a zero byte, before Python 3.12
            said = "".join(traceback.format_exception_only(error)).rstrip()
            raise TaskFileError(f"{self.path} is not Python 3:\n{said}{_syntax_advice(error)}") from None
        return code

    def _read(self) -> str:
        try:
            with open(self._absolute, "rb") as file:
                content = file.read()
        except IsADirectoryError:
            raise TaskFileError(f"{self.path} is a directory: name the file in it that defines mapfn.") from None
        except FileNotFoundError:
            where = os.path.dirname(self._absolute)
            raise TaskFileError(f"There is no file {self.path} (looked in {where}).{self._meant(where)}") from None
        except (OSError, ValueError) as error:
            raise TaskFileError(f"{self.path} cannot be read: {error}.") from None
        try:
            return importlib.util.decode_source(content)
        except (SyntaxError, UnicodeDecodeError) as error:
            raise TaskFileError(
                f"{self.path} cannot be decoded ({error}). Save it as UTF-8, or say in its first line what it is, such "
                "as # -*- coding: latin-1 -*-"
            ) from None

    def _meant(self, where: str) -> str:
        """The task files there whose names are much like its own."""
        try:
            names = [name for name in os.listdir(where) if name.endswith(".py")]
        except OSError:
            return ""
        import difflib

        close = difflib.get_close_matches(os.path.basename(self.path), names, n=2, cutoff=0.75)
        found = " or ".join(os.path.join(os.path.dirname(self.path), name) for name in close)
        return f" Did you mean {found}?" if found else ""

    def _parts(self, namespace: dict[str, Any]) -> dict[str, Any]:
        for role, example in _EXAMPLES.items():
            if role not in namespace:
                raise TaskFileError(f"{self.path} defines no {role}. A task file needs one, such as:\n    {example}")
        parts = {role: namespace[role] for role in (*_EXAMPLES, *_OPTIONAL) if role in namespace}
        for role, part in parts.items():
            if role != "source" and not callable(part) and (part is not None or role == "mapfn"):
                raise TaskFileError(
                    f"{role} in {self.path} is {describe(part)} ({type(part).__name__}), and must be a function."
                )
        return parts


def _options() -> list[inspect.Parameter]:
    """What `jmr.run` takes besides what the file defines."""
    parameters = inspect.signature(run).parameters
    return [parameter for name, parameter in parameters.items() if name not in (*_EXAMPLES, *_OPTIONAL)]


def _check_options(names: Iterable[str]) -> None:
    known = [parameter.name for parameter in _options()]
    for name in names:
        if name in (*_EXAMPLES, *_OPTIONAL):
            raise ArgumentTypeError(f"{name} comes from the task file, and cannot be given to jmr.run_file")
        if name not in known:
            raise ArgumentTypeError(f"jmr.run_file has no option {name!r}; it has {', '.join(known)}")


def _executed(code: CodeType, path: str) -> ModuleType:
    """Run it as the module that its functions and classes say they are of."""
    module = ModuleType(process.TASK_MODULE)
    module.__file__ = path
    sys.modules[process.TASK_MODULE] = module
    send_by_value(module)
    exec(code, vars(module))
    return module


def _more(old: list[OldLine]) -> str:
    numbers = ", ".join(str(line.number) for line in old)
    return f"\nSo {'is line' if len(old) == 1 else 'are lines'} {numbers}." if old else ""


def _syntax_advice(error: Exception) -> str:
    """What was fine in Python 2, and cannot be rewritten line by line."""
    if "cannot be parenthesized" in str(error):
        return "\nPython 2 could take an argument apart: take it whole, and do that in the function's body."
    if isinstance(error, TabError):
        return "\nPython 2 let tabs and blanks mix: indent with blanks only."
    return ""


#: Shown by help and completed by editors.
run_file.__signature__ = inspect.signature(run_file).replace(  # type: ignore[attr-defined]
    parameters=[inspect.signature(run_file).parameters["path"], *_options()]
)
