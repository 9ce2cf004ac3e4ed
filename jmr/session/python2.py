"""Python 2 in a file: which lines, and how they read in Python 3.

    text ──parse──> SyntaxError at a line ──rewritten──> parse again ──> ... ──> OldLine, OldLine, ...
    exception ──hint──> "xrange was Python 2's; Python 3 has range."

A line counts only if the parser stumbles over it and its new form differs. For messages: nothing here is ever run.
"""

from __future__ import annotations

import ast
import linecache
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["OldLine", "hint", "old_lines", "told"]

#: Each one found costs another parse of the file.
_MOST_LINES = 50
#: A statement that goes on for longer is not looked at.
_LONGEST = 40

_STRING = r"""[bBuUrR]{0,2}(?:'''(?:\\.|[^\\])*?'''|\"""(?:\\.|[^\\])*?\"""|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")"""
_NUMBER = r"0[xX][0-9a-fA-F]+[lL]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[jJlL]?"
_TOKEN = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>\#[^\n]*)|(?P<number>{_NUMBER})|(?P<word>\w+)|(?P<space>\s+|\\\n)"
    r"|(?P<sign><>|>>|.)",
    re.DOTALL,
)

_NAMES = {
    "basestring": "str",
    "cmp": "(a > b) - (a < b)",
    "execfile": "exec(open(path).read())",
    "file": "open",
    "long": "int",
    "raw_input": "input",
    "reduce": "functools.reduce",
    "reload": "importlib.reload",
    "unichr": "chr",
    "unicode": "str",
    "xrange": "range",
}
_MEMBERS = {
    "ConfigParser": "configparser",
    "HTMLParser": "html.parser",
    "Queue": "queue",
    "StringIO": "io",
    "cPickle": "pickle",
    "cStringIO": "io",
    "has_key": "`key in dict`",
    "httplib": "http.client",
    "ifilter": "filter",
    "imap": "map",
    "iteritems": "items",
    "iterkeys": "keys",
    "itervalues": "values",
    "izip": "zip",
    "letters": "ascii_letters",
    "lowercase": "ascii_lowercase",
    "maxint": "maxsize",
    "next": "next(iterator)",
    "uppercase": "ascii_uppercase",
    "urllib2": "urllib.request",
    "urlparse": "urllib.parse",
}


@dataclass(frozen=True, slots=True)
class OldLine:
    """A statement that only Python 2 takes."""

    number: int
    #: "a print statement"
    what: str
    text: str
    #: The same in Python 3.
    now: str


def old_lines(text: str) -> list[OldLine]:
    r"""Find what keeps a file from being Python 3, as far as it is Python 2.

    Examples
    --------
    >>> old_lines("def final(key, value):\n    print key, value")
    [OldLine(number=2, what='a print statement', text='print key, value', now='print(key, value)')]
    """
    lines, found = text.split("\n"), list[OldLine]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(found) < _MOST_LINES:
            try:
                tree = ast.parse("\n".join(lines))
            except (SyntaxError, ValueError) as error:
                old = _old_at(lines, getattr(error, "lineno", None) or 0)
            else:
                old = next((old for number in _prints_to_file(tree) if (old := _old_at(lines, number))), None)
            if old is None:
                break
            found.append(old)
    return sorted(found, key=lambda old: old.number)


def hint(error: BaseException) -> str | None:
    """What an exception has to do with Python 2, if it has.

    Examples
    --------
    >>> hint(NameError("name 'xrange' is not defined"))
    "xrange was Python 2's; Python 3 has range."
    """
    match error:
        case SyntaxError(filename=str(filename)):
            return next(map(told, old_lines("".join(linecache.getlines(filename)))), None)
        case NameError():
            names = _NAMES
        case AttributeError() | ImportError():
            names = _MEMBERS
        case _:
            return None
    said = re.search(r"(?:attribute|name|named) '(\w+)'", str(error))
    if said is None or said[1] not in names:
        return None
    return f"{said[1]} was Python 2's; Python 3 has {names[said[1]]}."


def told(old: OldLine) -> str:
    """Say which line it is, and what to write."""
    return (
        f"line {old.number} is Python 2 ({old.what}):\n{_indented(old.text)}\n"
        f"In Python 3 it reads:\n{_indented(old.now)}"
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _prints_to_file(tree: ast.Module) -> Iterator[int]:
    """Lines of `print >>file, x`, which Python 3 takes for a shift."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            first = node.value.elts[0] if isinstance(node.value, ast.Tuple) and node.value.elts else node.value
            while isinstance(first, ast.BinOp) and isinstance(first.left, ast.BinOp):
                first = first.left
            match first:
                case ast.BinOp(left=ast.Name(id="print"), op=ast.RShift()):
                    yield node.lineno


def _old_at(lines: list[str], number: int) -> OldLine | None:
    """Rewrite the statement that begins at a line, in `lines` too; None if that changes nothing."""
    if not 1 <= number <= len(lines):
        return None
    statement = _statement(lines[number - 1 : number - 1 + _LONGEST])
    now, what = _rewritten(statement)
    if not what or now == statement:
        return None
    lines[number - 1 : number + statement.count("\n")] = now.split("\n")
    return OldLine(number, what[0], statement.strip(), now.strip())


def _statement(lines: list[str]) -> str:
    """The first line, and those that it goes on in."""
    for n in range(1, len(lines) + 1):
        text = "\n".join(lines[:n])
        signs = [token for kind, token in _tokens(text) if kind == "sign"]
        n_open = sum(map(signs.count, "([{")) - sum(map(signs.count, ")]}"))
        if n_open <= 0 and not {'"', "'"} & set(signs) and not text.endswith("\\"):
            return text
    return lines[0]


Token = tuple[str, str]


def _tokens(text: str) -> list[Token]:
    return [(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(text)]


def _rewritten(text: str) -> tuple[str, list[str]]:
    """A statement as Python 3 wants it, and what was old about it; statements before and after `:` and `;` too."""
    what: list[str] = []
    statements = [_statement_now(statement, what) for statement in _apart(_tokens(text), ":;")]
    return _joined(_words_now([token for statement in statements for token in statement], what)), what


def _apart(tokens: list[Token], separators: str) -> list[list[Token]]:
    """Cut after separators outside of brackets; the `:` of a lambda is none."""
    parts: list[list[Token]] = [[]]
    depth = n_lambdas = 0
    for kind, text in tokens:
        parts[-1].append((kind, text))
        if kind == "word":
            n_lambdas += text == "lambda"
        elif kind == "sign":
            depth += (text in "([{") - (text in ")]}")
            if depth == 0 and text == ":" and n_lambdas:
                n_lambdas -= 1
            elif depth == 0 and text in separators:
                parts.append([])
    return parts


def _statement_now(tokens: list[Token], what: list[str]) -> list[Token]:
    """One statement, with its separator or comment at its end."""
    start = 1 if tokens and tokens[0][0] == "space" else 0
    end = len(tokens)
    while end > start and (tokens[end - 1][0] in ("comment", "space") or tokens[end - 1] in _ENDS):
        end -= 1
    if start == end or tokens[start][0] != "word" or tokens[start][1] not in _STATEMENTS:
        return tokens
    name, rewrite = _STATEMENTS[tokens[start][1]]
    now = rewrite([_joined(part).strip() for part in _arguments(tokens[start + 1 : end])])
    if now is None:
        return tokens
    what.append(name)
    return [*tokens[:start], *_tokens(now), *tokens[end:]]


_ENDS = (("sign", ":"), ("sign", ";"))


def _arguments(tokens: list[Token]) -> list[list[Token]]:
    """What stands between commas."""
    parts = _apart(tokens, ",")
    return [part[:-1] for part in parts[:-1]] + parts[-1:]


def _joined(tokens: list[Token]) -> str:
    return "".join(text for _, text in tokens)


def _print_now(arguments: list[str]) -> str | None:
    first = arguments[0]
    if not first or first.startswith(("=", ".")) or (first.startswith("(") and len(arguments) == 1 and _is_one(first)):
        return None
    options = []
    if first.startswith(">>"):
        options, arguments = [f"file={first[2:].strip()}"], arguments[1:]
    if arguments and not arguments[-1]:
        options, arguments = ['end=" "', *options], arguments[:-1]
    return f"print({', '.join([*arguments, *options])})"


def _is_one(text: str) -> bool:
    """Whether the bracket at the start is closed at the end."""
    depth = 0
    tokens = _tokens(text)
    for index, (kind, token) in enumerate(tokens):
        if kind == "sign":
            depth += (token in "([{") - (token in ")]}")
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _exec_now(arguments: list[str]) -> str | None:
    code, separator, scope = arguments[0].partition(" in ")
    if not code or (_is_one(code) and code.startswith("(") and not separator):
        return None
    return f"exec({', '.join(filter(None, [code.strip(), scope.strip(), *arguments[1:]]))})"


def _raise_now(arguments: list[str]) -> str | None:
    match arguments:
        case [error, value]:
            return f"raise {error}({value})"
        case [error, value, traceback]:
            return f"raise {error}({value}).with_traceback({traceback})"
    return None


def _except_now(arguments: list[str]) -> str | None:
    match arguments:
        case [error, name] if name.isidentifier():
            return f"except {error} as {name}"
    return None


_STATEMENTS: dict[str, tuple[str, Callable[[list[str]], str | None]]] = {
    "print": ("a print statement", _print_now),
    "exec": ("an exec statement", _exec_now),
    "raise": ("raise Error, value", _raise_now),
    "except": ("except Error, name", _except_now),
}


def _words_now(tokens: list[Token], what: list[str]) -> list[Token]:
    """Signs, numbers and strings that are written in another way now."""
    now: list[Token] = []
    is_open = False
    for kind, text in tokens:
        new, name = text, ""
        if text == "<>":
            new, name = "!=", "<> for !="
        elif text == "`":
            new, name = ")" if is_open else "repr(", "backquotes for repr"
            is_open = not is_open
        elif kind == "number" and text[-1] in "lL":
            new, name = text[:-1], "a long number"
        elif kind == "number" and re.fullmatch(r"0[0-7]+", text) and int(text):
            new, name = f"0o{text[1:]}", "an octal number"
        elif kind == "string" and text[:2].lower() == "ur":
            new, name = text[1:], "a ur string"
        now.append((kind, new))
        what += [name] if name else []
    return tokens if is_open else now
