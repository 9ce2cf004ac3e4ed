"""What compiled code is made of, wherever it stands.

    code ──bytecode_parts──> its instructions, constants and names
         ──names_loaded────> the globals that it uses
         ──names_imported──> the modules that it may import
    source ──compile──> code ──> print_of_source

Of a source counts what Python makes of it: not its comments, its blank lines, nor how it is broken into lines.
Docstrings do count, since some programs read them. Code inside of code, such as functions in functions, is a part of
it.
"""

from __future__ import annotations

import dis
import functools
import types
import warnings
from collections.abc import Iterator
from itertools import chain, pairwise

from jmr.checkpoint.printing import DIGEST_BYTES, Parts, Printer, new_hash
from jmr.codec.functions import codes

__all__ = ["PLACES", "bytecode_parts", "names_imported", "names_loaded", "print_of_source"]

#: What a class body tells about where it stands, and what follows from the rest.
PLACES = frozenset({"__firstlineno__", "__static_attributes__"})
#: Of a code's flags: those that say how it runs. Others tell what was imported from __future__, in other cells too.
_RUN_FLAGS = 0x3FF
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL"})
_IMPORTERS = frozenset({"import_module", "__import__"})


def bytecode_parts(code: types.CodeType) -> Parts:
    """Take a piece of code apart; the same before and after it has run."""
    head = (code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _RUN_FLAGS)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    if PLACES.isdisjoint(code.co_names):
        return Parts("code", [head, names, code.co_exceptiontable, code.co_code, *code.co_consts])
    return Parts("class body", [head, names, code.co_exceptiontable, *_anywhere(_steps(code))])


def names_loaded(code: types.CodeType) -> set[str]:
    """The names that code looks up among the globals; some are found among Python's own."""
    steps = chain.from_iterable(map(_steps, codes(code)))
    return {step.argval for step in steps if step.opname in _LOADS}


def names_imported(code: types.CodeType) -> set[str]:
    """What may be a module that code imports; relative names with their dots, as `names_in_source` gives them."""
    return set(chain.from_iterable(map(_names_imported, codes(code))))


@functools.lru_cache(maxsize=1 << 12)
def print_of_source(content: bytes) -> str:
    """A digest, in hex, of what a source does; of its bytes if it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(content, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        digest = new_hash()
        digest.update(content)
        return digest.hexdigest()[: 2 * DIGEST_BYTES]
    return Printer(_constant_parts).print_of(code).hex()


def _constant_parts(constant: object) -> Parts:
    match constant:
        case types.CodeType():
            return bytecode_parts(constant)
        case frozenset():
            return Parts("frozenset", list(constant), is_ordered=False)
        case tuple():
            return Parts("tuple", constant)
        case slice():
            return Parts("slice", [constant.start, constant.stop, constant.step])
        case _:
            return Parts("large", [repr(constant)])


def _names_imported(code: types.CodeType) -> Iterator[str]:
    if _IMPORTERS & set(code.co_names):
        yield from (constant for constant in code.co_consts if isinstance(constant, str))
    steps, base = _steps(code), ""
    for index, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            base = "." * steps[index - 2].argval + step.argval
            yield base
        elif step.opname == "IMPORT_FROM":
            yield f"{base}.{step.argval}" if base.strip(".") else f"{base}{step.argval}"


def _steps(code: types.CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]


def _anywhere(steps: list[dis.Instruction]) -> Iterator[object]:
    """The steps of a class body as they would be in any other place: without those that store where it stands."""
    for step, following in pairwise([*steps, steps[-1]]):
        if step.argval not in PLACES and following.argval not in PLACES:
            yield step.opcode
            yield step.argval if step.opcode in dis.hasconst else step.arg
