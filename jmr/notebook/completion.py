"""What Tab offers on the magics' lines.

    cell, cursor ──> Asked: which magic, the words before the cursor, the one at it
                       └──> options, their values, names of the user's, task files ──> IPython's completer

What stands inside brackets, quotes or after a dot is Python: IPython's own completion knows it. Nothing of the user's
is evaluated here, and nothing is imported.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jmr.notebook.ipython import SimpleCompletion, context_matcher
from jmr.notebook.line import ROLES, words
from jmr.plan import ENGINES

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMANDS", "register", "unregister"]

#: What may follow `%jmr`, and what may follow that.
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": (),
    "workers": (),
    "listen": ("--new-token",),
    "jobs": (),
    "cancel": (),
    "stop": (),
}
_IDENTIFIER = "jmr.magics"
#: Higher than those of IPython's own matchers: what is offered here is all that fits.
_PRIORITY = 200
_LINE = re.compile(r"\s*(?:[\w\s,.]+=\s*)?(%%?)(mapreduce|jmr)\s+(.*)", re.DOTALL)
_DEFINED = re.compile(r"^(?:(?:async\s+)?(def)\s+(\w+)|(\w+)\s*=(?!=))", re.MULTILINE)
#: Stands where the cursor is: a word that ends there has not ended.
_CURSOR = "\0"
_FUNCTIONS = ("mapfn", "combinefn", "reducefn", "final")
_NUMBERS = ("workers", "n_partitions", "max_attempts")

Offer = tuple[str, str]


def register(shell: Any, parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Have the shell's completer ask here; `parsers` has those of the magics, by name with their %."""
    if context_matcher is None or not hasattr(getattr(shell, "Completer", None), "custom_matchers"):
        return  # IPython before 8.6
    unregister(shell)

    def matcher(context: Any) -> dict[str, Any]:
        asked = Asked.at(context.full_text, context.cursor_line, context.cursor_position)
        if asked is None:
            return {"completions": []}
        offers = list(dict.fromkeys(_offers(asked, parsers, Names.of(shell, asked))))
        completions = [SimpleCompletion(text=text, type=kind) for text, kind in offers]
        return {
            "completions": completions,
            "matched_fragment": asked.word,
            "suppress": bool(completions),
            "ordered": True,
        }

    asking = context_matcher(identifier=_IDENTIFIER, priority=_PRIORITY)
    shell.Completer.custom_matchers.append(asking(matcher))


def unregister(shell: Any) -> None:
    """Have it ask here no more."""
    matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", [])
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", None) != _IDENTIFIER]


@dataclass(frozen=True, slots=True)
class Asked:
    """A magic's line, up to the cursor."""

    #: "%%mapreduce"
    magic: str
    before: tuple[str, ...]
    #: What the cursor stands at the end of; may be empty.
    word: str
    #: The cell below the line.
    body: str

    @classmethod
    def at(cls, text: str, line: int, column: int) -> Asked | None:
        """None if the cursor is on no magic's line, or still in the magic's name."""
        lines = text.split("\n")
        match = _LINE.fullmatch(lines[line][:column])
        if match is None or (match[1] == "%%" and any(map(str.strip, lines[:line]))):
            return None
        *before, word = words(match[3] + _CURSOR)
        word = word.removesuffix(_CURSOR)
        if (option := re.fullmatch(r"(--[\w-]+)=(.*)", word, re.DOTALL)) is not None:
            before, word = [*before, option[1]], option[2]
        return cls(match[1] + match[2], tuple(before), word, "\n".join(lines[line + 1 :]))


@dataclass(frozen=True, slots=True)
class Names:
    """What the user has defined, in earlier cells or in this one."""

    values: Mapping[str, Any]
    #: Names that this cell will bind; True: to a function.
    coming: Mapping[str, bool]

    @classmethod
    def of(cls, shell: Any, asked: Asked) -> Names:
        """Without what IPython has put there, and without private ones, unless one is asked for."""
        hidden = shell.user_ns_hidden
        values = {
            name: value
            for name, value in shell.user_ns.items()
            if (asked.word or not name.startswith("_")) and hidden.get(name, asked) is not value
        }
        coming = {match[2] or match[3]: bool(match[1]) for match in _DEFINED.finditer(asked.body)}
        return cls(values, coming if asked.magic.startswith("%%") else {})

    def starting(self, word: str, fits: Callable[[Any], bool], *, function: bool | None = None) -> Iterator[Offer]:
        """Those whose values fit; of the coming ones functions, or others, or all."""
        for name, is_function in self.coming.items():
            if name.startswith(word) and function in (None, is_function):
                yield name, "function" if is_function else "instance"
        for name, value in sorted(self.values.items()):
            if name.startswith(word) and name not in self.coming and fits(value):
                yield name, _kind(value)


def _kind(value: object) -> str:
    if isinstance(value, ModuleType):
        return "module"
    return "class" if isinstance(value, type) else "function" if callable(value) else "instance"


def _offers(asked: Asked, parsers: Mapping[str, argparse.ArgumentParser], names: Names) -> Iterable[Offer]:
    if asked.magic == "%jmr":
        return _commands(asked)
    parser = parsers.get(asked.magic)
    return () if parser is None else _arguments(asked, parser, names)


def _commands(asked: Asked) -> Iterator[Offer]:
    follow = tuple(COMMANDS) if not asked.before else COMMANDS.get(asked.before[0], ())
    for text in follow:
        if text.startswith(asked.word) and text not in asked.before:
            yield text, "keyword"
    if asked.before == ("cancel",):
        yield from ((name, "instance") for name in _running_jobs() if name.startswith(asked.word))


def _running_jobs() -> list[str]:
    """Their names; none where no job has run yet, as what knows them is not loaded then."""
    running = sys.modules.get("jmr.session.running")
    return [] if running is None else [report.name for report in running.running_jobs()]


def _arguments(asked: Asked, parser: argparse.ArgumentParser, names: Names) -> Iterator[Offer]:
    """Options where a dash was typed, values where they belong; and options where nothing has to stand."""
    options = parser._option_string_actions
    wanted = options.get(asked.before[-1]) if asked.before else None
    if wanted is not None and wanted.nargs is None:
        yield from _values(wanted.dest, wanted.choices, asked, names)
        return
    left = [action for action in parser._actions if not action.option_strings][_n_positional(asked.before, options) :]
    if not asked.word.startswith("-") and left and (asked.word or left[0].dest != "variable"):
        yield from _values(left[0].dest, None, asked, names)
    if asked.word.startswith("-") or (not asked.word and not (left and left[0].nargs is None)):
        yield from ((text, "param") for text in _options_left(asked, options))


def _n_positional(before: tuple[str, ...], options: Mapping[str, argparse.Action]) -> int:
    """How many of the words are neither options nor their values."""
    taken = [index for index, word in enumerate(before) if word.startswith("-") or _takes(before[:index], options)]
    return len(before) - len(taken)


def _takes(before: tuple[str, ...], options: Mapping[str, argparse.Action]) -> bool:
    """Whether the last word is an option that has a value."""
    action = options.get(before[-1]) if before else None
    return action is not None and action.nargs is None


def _options_left(asked: Asked, options: Mapping[str, argparse.Action]) -> Iterator[str]:
    given = {options[word].dest for word in asked.before if word in options}
    for text, action in options.items():
        if text.startswith("--") and text.startswith(asked.word) and action.dest not in given:
            yield text


def _values(what: str, choices: Iterable[str] | None, asked: Asked, names: Names) -> Iterator[Offer]:
    """What may stand for an argument; nothing inside of an expression."""
    word = asked.word
    if choices is not None:
        yield from ((text, "keyword") for text in choices if text.startswith(word))
    elif what == "engine":
        yield from ((text, "keyword") for text in ENGINES if text.startswith(word))
        yield from names.starting(word, lambda value: type(value).__module__ == "jmr.engines.cluster", function=False)
    elif what == "variable":
        offers = names.starting(word, lambda value: _kind(value) == "instance", function=False)
        yield from (offer for offer in offers if offer[0] not in ROLES)
    elif what == "checkpoint":
        yield from (offer for offer in _paths(word) if offer[0].endswith(os.sep))
    elif what in _NUMBERS:
        yield from names.starting(word, lambda value: type(value) is int, function=False)
    elif what in _FUNCTIONS:
        yield from names.starting(word, lambda value: callable(value) or _has_some(value, word), function=True)
    elif what == "source":
        yield from names.starting(word, lambda value: bool(word) or _kind(value) not in ("module", "class"))
        yield from _paths(word) if asked.magic == "%mapreduce" else ()


def _has_some(value: object, word: str) -> bool:
    """Whether it is a module that somebody seems to want a function of."""
    return bool(word) and _kind(value) == "module"


def _paths(word: str) -> Iterator[Offer]:
    """Python files, and directories."""
    if word[:1] in ("'", '"'):  # IPython's own knows paths in quotes
        return
    for path in sorted(glob.glob(glob.escape(os.path.expanduser(word)) + "*")):
        text = word + path[len(os.path.expanduser(word)) :]
        if os.path.isdir(path):
            yield text + os.sep, "path"
        elif path.endswith(".py"):
            yield (f'"{text}"' if " " in text else text), "path"
