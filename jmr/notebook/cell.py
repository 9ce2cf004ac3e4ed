"""Runs the body of a `%%mapreduce` cell in the user's namespace, as if it were a plain cell.

    text ── transform, parse, compile ──> program ── run ──> names that this cell bound

Line numbers, `Cell In[n]` and breakpoints are those of the whole cell: its first line is the magic's. Nothing is
displayed, and nothing is run before all of it compiles. Errors of the cell come out as IPython would show them, without
a frame of ours.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jmr.notebook.ipython import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

__all__ = ["CellSyntaxError", "Program", "compile_cell"]

_ABSENT = object()


class CellSyntaxError(Exception):
    """Stands for a SyntaxError of the cell: of that class itself IPython would show how it runs magics."""

    def __init__(self, error: SyntaxError, lines: list[str]) -> None:
        super().__init__(*error.args)
        self._lines = lines

    def _render_traceback_(self) -> list[str]:
        return self._lines


CellSyntaxError.__name__ = "SyntaxError"


@dataclass(frozen=True, slots=True)
class Program:
    """A cell that compiled."""

    text: str
    statements: tuple[CodeType, ...]

    def run(self, namespace: dict[str, Any], names: Iterable[str]) -> frozenset[str]:
        """Run it; say which of `names` it bound.

        Those that stand to the left of a `=`, after `def`, `import` and the like, and those that something else set:
        a function, or `%run`.
        """
        __tracebackhide__ = True
        before = {name: namespace.get(name, _ABSENT) for name in names}
        for statement in self.statements:
            exec(statement, namespace)
        bound = _names_bound_by(self.text)
        changed = {name for name, value in before.items() if namespace.get(name, _ABSENT) is not value}
        return frozenset(name for name in before if name in namespace and (name in bound or name in changed))


def compile_cell(shell: Any, first_line: str, cell: str) -> Program:
    """Compile a cell whose first line is a magic; `%magic` and `!` lines in its body work.

    Raises
    ------
    CellSyntaxError
        Shown like a plain cell's SyntaxError, with its line.
    UsageError
        The cell awaits outside a function.
    """
    __tracebackhide__ = True
    whole = _whole_cell(shell, first_line, cell)
    n_before = _n_lines_before(cell, whole)
    filename = shell.compile.cache(whole, _number_of_this_cell(shell), raw_code=whole)
    try:
        text = "\n" * n_before + shell.transform_cell(cell)
        tree = shell.transform_ast(shell.compile.ast_parse(text, filename=filename))
        return Program(text, tuple(_compiled(shell, statement, filename) for statement in tree.body))
    except SyntaxError as error:
        lines = shell.SyntaxTB.structured_traceback(type(error), error, [])
        raise CellSyntaxError(error, lines) from None


def _compiled(shell: Any, statement: ast.stmt, filename: str) -> CodeType:
    """One statement; compiled as IPython does, so that `from __future__` holds for those that follow."""
    with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        code: CodeType = shell.compile(ast.Module([statement], []), filename, "exec")
    if code.co_flags & inspect.CO_COROUTINE:
        raise UsageError(
            f"%%mapreduce: line {statement.lineno} awaits outside a function, and a magic's cell cannot: "
            "await in a cell before this one."
        )
    return code


def _whole_cell(shell: Any, first_line: str, cell: str) -> str:
    """The cell as it was typed: IPython and its debugger derive the file's name from that."""
    typed: str = (getattr(shell.history_manager, "input_hist_raw", None) or [""])[-1]
    ours = typed.lstrip().startswith("%%") and typed.rstrip().endswith(cell.strip())
    return typed if ours else f"{first_line}\n{cell}"


def _n_lines_before(cell: str, whole: str) -> int:
    """Lines before the first statement. IPython's transformation drops blank ones: every number would be wrong."""
    return whole.rstrip().removesuffix(cell.strip()).count("\n")


def _number_of_this_cell(shell: Any) -> int:
    """The n of In[n]; `shell.execution_count` may already be that of the next."""
    return len(shell.user_ns.get("In", "0")) - 1


def _names_bound_by(text: str) -> set[str]:
    """Names that a module's own statements bind. (symtable would do, but for comprehensions from Python 3.12 on.)"""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(text)]
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                found |= {part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)}
                continue
            case ast.Name(id=name, ctx=ast.Store()) | ast.MatchMapping(rest=str(name)):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
        todo += ast.iter_child_nodes(node)
    return found
