"""The print of functions: the same wherever they stand, another one when anything that they use has changed."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import jmr
from jmr.checkpoint import modules, printing
from jmr.checkpoint.fingerprints import print_of_functions
from jmr.codec.values import dump_by_value
from jmr.errors import NotPicklableError
from tests.test_next_line import needs_monitoring

CHECKOUT = Path(jmr.__file__).parent.parent


def cell(code, *, number=1, line=1, before="", name="mapfn"):
    """What a cell defines, run as IPython does: in a file of its own, with what other cells have defined."""
    names = {"__name__": "__main__"}
    for position, text in enumerate([before, "\n" * (line - 1) + textwrap.dedent(code)]):
        exec(compile(text, f"/tmp/ipykernel_1/{number}{position}.py", "exec"), names)
    return names[name]


def print_of(code, **where):
    return print_of_functions(cell(code, **where))


HELPERS = """
    import functools, math
    import collections as c
    FACTOR = 3
    STOP = {"a", "the"}
    unused = 1
    def scale(x): return x * FACTOR
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n != 0 and even(n - 1)
    class Base:
        unit = "m"
        def area(self): return scale(1)
    class Shape(Base):
        def __init__(self, side): self.side = side
        @property
        def size(self): return self.side
        @classmethod
        def made(cls): return cls(1)
        @staticmethod
        def both(): return 2
    shape = Shape(4)
    def logged(f):
        @functools.wraps(f)
        def wrapper(*args): return f(*args)
        return wrapper
    @logged
    def wrapped(x): return x + 1
    @functools.lru_cache
    def cached(x): return x + 2
    @functools.singledispatch
    def generic(x): return 1
    @generic.register
    def _(x: int): return 2
    part = functools.partial(scale, 5)
    pick = lambda x: x[0]
    table = {"rows": [1, 2, (3, 4)]}
    def made(n):
        def inner(x): return x + n
        return inner
    add = made(7)
    def mapfn(key, value, *, cut=0.5, tail=()):
        "Maps."
        class Local:
            near = 1
            def far(self): return self.near
        words = [w for w in value.split() if w not in {"of", "in"} and w not in STOP]
        yield key, (scale(1), even(2), Shape(2).area(), shape, wrapped(1), cached(1), generic(1), part(), pick([1]))
        yield key, (table["rows"], add(1), c.Counter(words), value.unused, Local, cut, tail, 1, -0.0, lambda: 8)
"""

#: What to replace in HELPERS, and by what: it does the same.
SAME = {
    "a comment": ("FACTOR = 3", "FACTOR = 3  # times"),
    "blank lines": ("    def scale", "\n\n\n    def scale"),
    "a statement on several lines": ("(scale(1), even(2),", "(scale(1),\n            even(2),"),
    "a global that is named as an attribute only": ("unused = 1", "unused = 2"),
    "a global that nobody uses": ("unused = 1", "other = []"),
    "the order of definitions": ('FACTOR = 3\n    STOP = {"a", "the"}', 'STOP = {"the", "a"}\n    FACTOR = 3'),
    "an import that nobody uses": ("import functools, math", "import functools, math, json"),
    "parentheses": ("return x * FACTOR", "return (x * FACTOR)"),
}  # fmt: skip

#: What to replace, and by what: it does something else, or could.
OTHER = {
    "a constant": ("cut, tail, 1,", "cut, tail, 2,"),
    "the type of a constant": ("cut, tail, 1,", "cut, tail, True,"),
    "the sign of a zero": ("-0.0", "0.0"),
    "a constant of a nested function": ("lambda: 8", "lambda: 9"),
    "a constant set": ('"of", "in"', '"of", "on"'),
    "a default": ("cut=0.5", "cut=0.6"),
    "a default's type": ("tail=()", "tail=[]"),
    "a docstring": ('"Maps."', '"Maps!"'),
    "an attribute": ("value.unused", "value.used"),
    "a local class": ("near = 1", "near = 2"),
    "a method of a local class": ("return self.near", "return -self.near"),
    "a global number": ("FACTOR = 3", "FACTOR = 3.0"),
    "a global set": ('{"a", "the"}', '{"a"}'),
    "something deep in a global dict": ("(3, 4)", "(3, 5)"),
    "a helper": ("return x * FACTOR", "return x + FACTOR"),
    "one of two functions that call each other": ("n != 0 and", "n > 0 and"),
    "a method": ("return scale(1)", "return scale(2)"),
    "an attribute of a base class": ('unit = "m"', 'unit = "km"'),
    "a base class": ("class Shape(Base)", "class Shape(Base, dict)"),
    "a property": ("return self.side", "return self.side + 0"),
    "a class method": ("return cls(1)", "return cls(0)"),
    "a static method": ("return 2\n    shape", "return 3\n    shape"),
    "the state of an object": ("Shape(4)", "Shape(5)"),
    "a decorator": ("return f(*args)", "return f(*args) or 0"),
    "what is decorated": ("return x + 1", "return x + 11"),
    "what is cached": ("return x + 2", "return x + 22"),
    "how it is cached": ("@functools.lru_cache", "@functools.lru_cache(maxsize=1)"),
    "a generic function's default": ("def generic(x): return 1", "def generic(x): return 0"),
    "a generic function's other case": ("def _(x: int): return 2", "def _(x: int): return 3"),
    "a generic function's type": ("def _(x: int): return 2", "def _(x: str): return 2"),
    "an argument of a partial": ("partial(scale, 5)", "partial(scale, 6)"),
    "the function of a partial": ("partial(scale, 5)", "partial(even, 5)"),
    "a lambda": ("x[0]", "x[1]"),
    "a captured variable": ("made(7)", "made(8)"),
    "a library function": ("c.Counter", "c.OrderedDict"),
    "a library": ("import collections as c", "import math as c"),
    "a global that is there no longer": ("FACTOR = 3", "pass"),
    "a function that is a generator no longer": ("yield key, (table", "return key, (table"),
    "an operator": ("not in STOP", "in STOP"),
    "a parameter": ("def mapfn(key, value, *,", "def mapfn(key, value, /, *,"),
}  # fmt: skip


def edited(old, new):
    assert HELPERS.count(old) == 1
    return HELPERS.replace(old, new)


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_what_does_not_matter_does_not_change_a_print(old, new):
    assert print_of(edited(old, new)) == print_of(HELPERS)


@pytest.mark.parametrize(("old", "new"), OTHER.values(), ids=OTHER)
def test_what_matters_changes_a_print(old, new):
    assert print_of(edited(old, new)) != print_of(HELPERS)


@pytest.mark.slow
def test_all_that_matters_changes_it_to_something_else():
    prints = {print_of(edited(old, new)) for old, new in OTHER.values()}
    assert len(prints) == len(OTHER)


def test_cell_numbers_file_names_lines_and_other_cells_do_not_matter():
    before = "from __future__ import annotations\nimport os\nvalue = key = self = 5"
    assert print_of(HELPERS) == print_of(HELPERS, number=12, line=300) == print_of(HELPERS, before=before)


def test_a_function_that_was_called_five_hundred_times_has_the_print_that_it_had():
    """Python rewrites the code of what is called often."""
    mapfn = cell(HELPERS)
    before = print_of_functions(mapfn)
    for _ in range(500):
        list(mapfn("key", TEXT))
    assert print_of_functions(mapfn) == before


class Text(str):
    """What mapfn takes."""

    unused = 1


TEXT = Text("the cat")


@needs_monitoring
def test_a_function_that_is_watched_by_a_debugger_has_the_print_that_it_had():
    mapfn = cell("def mapfn(k, v):\n  for i in range(3):\n    yield k, i")
    before, seen = print_of_functions(mapfn), []
    monitoring = sys.monitoring
    monitoring.use_tool_id(4, "test")
    try:
        monitoring.register_callback(4, monitoring.events.LINE, lambda *event: seen.append(event))
        monitoring.set_local_events(4, mapfn.__code__, monitoring.events.LINE)
        list(mapfn(1, 2))
        assert print_of_functions(mapfn) == before
    finally:
        monitoring.set_local_events(4, mapfn.__code__, 0)
        monitoring.free_tool_id(4)
    assert seen


def test_functions_that_were_pickled_have_the_print_that_they_had():
    mapfn = cell(HELPERS)
    before = print_of_functions(mapfn)
    dump_by_value(mapfn)
    assert print_of_functions(mapfn) == before


@pytest.mark.slow
def test_functions_that_ran_in_a_job_have_the_print_that_they_had(ip):
    ip.run_cell(textwrap.dedent(HELPERS.replace("value.unused", "value")).replace('    "Maps."\n', ""))
    ip.run_cell("from jmr.checkpoint.fingerprints import print_of_functions")
    ip.run_cell("def emit(key, value):\n    list(mapfn(key, value))\n    yield shape.side, Shape(3)")
    ip.run_cell("before = print_of_functions(emit)").raise_error()
    ip.run_cell("result = jmr.run({'a': 'the cat'}, emit, workers=1)").raise_error()
    ip.run_cell("after = print_of_functions(emit)").raise_error()
    assert ip.user_ns["after"] == ip.user_ns["before"]
    assert type(ip.user_ns["result"][4][0]) is ip.user_ns["Shape"]


def test_a_cell_that_was_run_again_has_the_print_that_it_had(ip):
    ip.run_cell(textwrap.dedent(HELPERS), store_history=True)
    before = ip.user_ns["mapfn"]
    ip.run_cell("1 + 1", store_history=True)
    ip.run_cell(textwrap.dedent(HELPERS), store_history=True)
    assert ip.user_ns["mapfn"] is not before
    assert ip.user_ns["mapfn"].__code__.co_filename
    assert print_of_functions(ip.user_ns["mapfn"]) == print_of_functions(before)


CLASSES = {
    "an enum": ("import enum\nclass A(enum.Enum):\n  RED = 1\n  def f(self): return 0", "RED = 1", "RED = 2"),
    "an enum's method": ("import enum\nclass A(enum.Flag):\n  RED = 1\n  def f(self): return 0", "n 0", "n 1"),
    "a dataclass": ("import dataclasses\n@dataclasses.dataclass\nclass A:\n  x: int = 0", "= 0", "= 1"),
    "its field": ("import dataclasses\n@dataclasses.dataclass\nclass A:\n  x: int = 0", "x:", "y:"),
    "its options": ("import dataclasses\n@dataclasses.dataclass()\nclass A:\n  x: int = 0", "ss()", "ss(slots=True)"),
    "a named tuple": ("import collections\nA = collections.namedtuple('A', 'x y')", "x y", "y x"),
    "a typed tuple": ("import typing\nclass A(typing.NamedTuple):\n  x: int = 0", "= 0", "= 1"),
    "an abstract class": ("import abc\nclass A(abc.ABC):\n  @abc.abstractmethod\n  def f(self): ...", "f(", "g("),
    "what is registered": ("import abc\nclass A(abc.ABC): pass\nA.register(int)", "int", "str"),
    "a generic class": ("import typing\nT = typing.TypeVar('T')\nclass A(typing.Generic[T]): x = 1", "= 1", "= 2"),
    "a bound": ("import typing\nT = typing.TypeVar('T', bound=int)\nclass A(typing.Generic[T]): pass", "=int", "=str"),
    "a metaclass": ("class M(type):\n  x = 1\nclass A(metaclass=M): pass", "x = 1", "x = 2"),
    "slots": ("class A:\n  __slots__ = ('x', 'y')", "'y'", "'z'"),
    "a cached property": ("import functools as f\nclass A:\n  @f.cached_property\n  def f(self): return 1", "1", "2"),
    "a cached partial": ("import functools as f\nA = f.lru_cache(f.partial(int, base=2))", "base=2", "base=3"),
    "the order of fields": ("class A:\n  x: int\n  y: int", "x: int\n  y", "y: int\n  x"),
    "an annotation": ("class A:\n  x: int", "int", "str"),
    "a class that uses itself": ("class A:\n  def f(self): return A(1)", "A(1)", "A(2)"),
    "an error": ("class A(ValueError):\n  x = 1", "ValueError", "TypeError"),
    "a pattern": ("import re\nA = re.compile('a')", "'a'", "'b'"),
    "an array": ("import numpy\nA = numpy.arange(3)", "3", "4"),
    "a ufunc": ("import numpy\nA = numpy.add", "add", "multiply"),
    "a bound method": ("A = 'a'.join", "'a'", "'b'"),
    "an item getter": ("import operator\nA = operator.itemgetter(1)", "1", "2"),
    "a logger": ("import logging\nA = logging.getLogger('a')", "'a'", "'b'"),
    "a union": ("A = int | str", "str", "bytes"),
    "a module's name": ("import os.path as A", "os.path", "math"),
    "a frozen set": ("A = frozenset({'x', 'y', 1})", "'y'", "'z'"),
    "a closure over itself": ("def made():\n  def f(n): return f(n - 1)\n  return f\nA = made()", "n - 1", "n - 2"),
    "a variable that is not bound": ("def m():\n  def f(): x\n  if 0: x = 1\n  return f\nA = m()", "f()", "f(y)"),
    "a global of a made function": (
        "space = {'__name__': 'numpy', 'x': 1}\nexec('def A(): return x', space)\nA = space['A']", "'x': 1", "'x': 2"),
    "an attribute of a function": ("def A(): pass\nA.limit = 1", "limit = 1", "limit = 2"),
    "an attribute of a module": ("import types\nA = types.ModuleType('m')\nA.x = 1", "x = 1", "x = 2"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "old", "new"), CLASSES.values(), ids=CLASSES)
def test_what_a_global_is_made_of_counts(code, old, new):
    code += "\ndef mapfn(key, value): return [(key, A)]"
    assert old in code
    assert print_of(code) == print_of(code, number=2, line=40) != print_of(code.replace(old, new, 1))


def test_a_captured_array_counts_by_its_values():
    def made(array):
        return lambda key, value: [(key, array)]

    zeros = np.zeros((100, 100))
    other = zeros.copy()
    other[50, 50] = -0.0
    prints = [print_of_functions(made(array)) for array in (zeros, zeros.copy(), np.asfortranarray(zeros), other)]
    assert prints[0] == prints[1] == prints[2] != prints[3]


def test_functions_do_not_change_places():
    one, two = (lambda k, v: [(k, 1)]), (lambda k, v: [(k, 2)])
    prints = {
        print_of_functions(*functions) for functions in [(one, two), (two, one), (one,), (one, None), (None, one)]
    }
    assert len(prints) == 5


def test_another_minor_version_of_python_has_other_prints(monkeypatch):
    before = print_of_functions(len)
    monkeypatch.setattr(sys, "version_info", (3, 10, 0, "final", 0))
    assert print_of_functions(len) != before


@pytest.mark.slow
def test_what_is_installed_is_not_walked(monkeypatch):
    """Only its version counts, however large it is."""
    visits = []
    monkeypatch.setattr(printing.Printer, "_enter", counted(printing.Printer._enter, visits))
    print_of("import pandas as pd, numpy as np\ndef mapfn(k, v): return pd.DataFrame(v), np.linalg.norm, pd.concat")
    assert len(visits) < 20


def counted(function, calls):
    @functools.wraps(function)
    def wrapper(*args):
        calls.append(args)
        return function(*args)

    return wrapper


def test_what_has_no_print_is_named_with_the_path_to_it():
    lock = threading.Lock()

    def helper():
        return lock

    def mapfn(key, value):
        return helper()

    with pytest.raises(NotPicklableError, match="mapfn -> helper -> lock cannot be kept in a checkpoint: it is"):
        print_of_functions(mapfn)


def test_an_open_file_has_no_print(tmp_path):
    with open(tmp_path / "x.txt", "w") as file, pytest.raises(NotPicklableError, match="open file"):
        print_of_functions(lambda key, value: file.write(value))


# ---- modules


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to import from, as the notebook's own."""
    loaded = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")) or name.startswith("own"):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def changes(code, path, text):
    """Whether the print of a cell's mapfn is another one when a file has that text."""
    before = print_of(code)
    write(path, text)
    return print_of(code) != before


OWN = "import math\nLIMIT = 3\ndef clean(x):\n    return x + LIMIT\n"


@pytest.mark.parametrize(
    "code",
    [
        "import own_a\ndef mapfn(k, v): return own_a.clean(v)",
        "from own_a import clean\ndef mapfn(k, v): return clean(v)",
        "import own_a\nf = own_a.clean\ndef mapfn(k, v): return f(v)",
        "import own_a, functools\nf = functools.partial(own_a.clean, 1)\ndef mapfn(k, v): return f(v)",
        "import own_a\nf = [own_a.clean]\ndef mapfn(k, v): return f[0](v)",
        "def mapfn(k, v):\n    import own_a\n    return own_a.clean(v)",
        "def mapfn(k, v):\n    from own_a import clean\n    return clean(v)",
        "def mapfn(k, v):\n    def f():\n        from own_a import clean\n        return clean(v)\n    return f()",
        "import importlib\ndef mapfn(k, v): return importlib.import_module('own_a').clean(v)",
        "def mapfn(k, v): return __import__('own_a').clean(v)",
    ],
)
def test_a_module_of_the_user_s_counts_by_its_source(project, code):
    write(project / "own_a.py", OWN)
    assert not changes(code, project / "own_a.py", "# Mine.\n\n" + OWN)
    assert not changes(code, project / "own_b.py", OWN)
    assert changes(code, project / "own_a.py", OWN.replace("3", "4"))


def test_an_object_of_a_module_of_the_user_s_counts_by_its_source(project):
    code = "import own_a\nshape = own_a.Shape()\ndef mapfn(k, v): return shape.area()"
    write(project / "own_a.py", "class Shape:\n    def area(self): return 1")
    assert changes(code, project / "own_a.py", "class Shape:\n    def area(self): return 2")


@pytest.mark.parametrize(
    "importing", ["import own_b", "from own_b import clean", "def f():\n    import own_b", "from own_b import *"]
)
def test_what_a_module_imports_counts(project, importing):
    code = "import own_a\ndef mapfn(k, v): return own_a.f(v)"
    write(project / "own_a.py", importing)
    write(project / "own_b.py", OWN)
    assert not changes(code, project / "own_b.py", OWN + "# The end.")
    assert changes(code, project / "own_b.py", OWN.replace("+", "-"))


def test_of_a_package_counts_what_is_imported(project):
    code = "from own_p.one import f\ndef mapfn(k, v): return f(v)"
    write(project / "own_p" / "__init__.py", "")
    one = "from .two import g\nfrom . import three\nfrom .deep import d\ndef f(x): return g(x)"
    write(project / "own_p" / "one.py", one)
    write(project / "own_p" / "two.py", "def g(x): return x")
    write(project / "own_p" / "three.py", "")
    write(project / "own_p" / "four.py", "")
    write(project / "own_p" / "deep" / "__init__.py", "from ..five import e as d")
    write(project / "own_p" / "five.py", "def e(x): return x")
    assert not changes(code, project / "own_p" / "four.py", "x = 1")
    for name in ("__init__", "one", "two", "three", "five"):
        path = project / "own_p" / f"{name}.py"
        assert changes(code, path, path.read_text() + "\nx = 1"), name


def test_of_a_package_that_is_used_as_a_whole_all_counts(project):
    code = "import own_p.one\ndef mapfn(k, v): return own_p.one.f(v)"
    write(project / "own_p" / "__init__.py", "")
    write(project / "own_p" / "one.py", "def f(x): return x")
    write(project / "own_p" / "data" / "two.py", "")
    (project / "own_p" / "loop").symlink_to(project / "own_p")
    assert changes(code, project / "own_p" / "one.py", "def f(x): return 2 * x")
    assert changes(code, project / "own_p" / "data" / "two.py", "x = 1")


def test_a_folder_without_an_init_is_a_package_too(project):
    code = "from own_n.one import f\ndef mapfn(k, v): return f(v)"
    write(project / "own_n" / "one.py", "def f(x): return x")
    assert changes(code, project / "own_n" / "one.py", "def f(x): return 2 * x")


def test_a_class_that_moved_in_its_module_is_the_same(project):
    code = "import own_a\ndef mapfn(k, v): return own_a.A()"
    text = "class A:\n    '''An A.'''\n    x = 1\n    class B:\n        def f(self): self.y = 1\n"
    write(project / "own_a.py", text)
    assert not changes(code, project / "own_a.py", "\n" * 300 + text)
    assert changes(code, project / "own_a.py", text.replace("'''An A.'''", "'''A B.'''"))


def test_a_module_that_is_no_python_counts_by_its_bytes(project):
    code = "def mapfn(k, v):\n    import own_a"
    write(project / "own_a.py", "def (")
    assert changes(code, project / "own_a.py", "def ((")


def test_a_module_that_is_there_by_now_counts(project):
    code = "def mapfn(k, v):\n    import own_late"
    assert changes(code, project / "own_late.py", "x = 1")


def installed(folder, version, name="Own.Dist", module="own_dist"):
    write(folder / f"{module}.py", "def f(x): return x")
    for before in folder.glob("*.dist-info"):
        shutil.rmtree(before)
    write(folder / f"{name}-{version}.dist-info" / "RECORD", f"{module}.py,sha256=x,18\n")
    write(folder / f"another-{version}.dist-info" / "RECORD", f"no_{module}.py,sha256=x,18\n")


@pytest.mark.parametrize("name", ["Own.Dist", "something_else"])
@pytest.mark.parametrize(
    "code",
    [
        "import own_dist\ndef mapfn(k, v): return own_dist.f(v)",
        "from own_dist import f\ndef mapfn(k, v): return f(v)",
        "def mapfn(k, v):\n    import own_dist",
        "from own_a import g\ndef mapfn(k, v): return g(v)",
    ],
)
def test_an_installed_module_counts_by_its_version(project, monkeypatch, code, name):
    folder = project / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    installed(folder, "1.0", name)
    write(project / "own_a.py", "from own_dist import f\ndef g(x): return f(x)")
    assert not changes(code, folder / "own_dist.py", "def f(x): return -x")
    before = print_of(code)
    installed(folder, "1.1", name)
    assert print_of(code) != before


def test_a_compiled_function_counts_by_the_version_of_its_module(monkeypatch):
    code = "from numpy import dot\ndef mapfn(k, v): return dot(v, v)"
    before = print_of(code)
    monkeypatch.setattr(modules.Modules, "_version_now", lambda *_: "another")
    assert print_of(code) != before


def test_a_module_that_is_found_by_a_finder_of_its_own_counts(project, monkeypatch):
    """As projects are that were installed to be edited."""
    write(project / "src" / "own_e.py", OWN)

    class Finder:
        def find_spec(self, name, path, target=None):
            path = project / "src" / "own_e.py"
            return importlib.util.spec_from_file_location(name, path) if name == "own_e" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert changes("def mapfn(k, v):\n    import own_e", project / "src" / "own_e.py", OWN.replace("3", "4"))


def test_an_installed_module_without_a_version_counts_by_its_file(project, monkeypatch):
    folder = project / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    write(folder / "own_bare.py", "def f(x): return x")
    code = "import own_bare\ndef mapfn(k, v): return own_bare.f(v)"
    assert changes(code, folder / "own_bare.py", "def f(x): return -x")


def test_a_decorator_of_a_module_of_the_user_s_counts_with_what_it_decorates(project):
    """It makes a function that no module has under its name."""
    write(
        project / "own_d.py",
        "ROUND = 1\ndef twice(f):\n  def g(*a):\n    return f(*a), f(*a), ROUND\n  return g",
    )
    code = "import own_d\n@own_d.twice\ndef mapfn(k, v): return 1"
    before = print_of(code)
    assert before != print_of(code.replace("return 1", "return 2"))
    sys.modules["own_d"].ROUND = 2
    assert print_of(code) != before


@pytest.mark.slow
def test_prints_are_the_same_in_every_process(tmp_path):
    """Other hash seeds, other file names, other lines, another order of sets."""
    script = textwrap.dedent(HELPERS) + textwrap.dedent("""
        import dataclasses, enum
        @dataclasses.dataclass
        class Point:
            x: object
        class Color(enum.Enum):
            RED = 1
        from jmr.checkpoint.fingerprints import print_of_functions, print_of_records
        records = [{"a", "b", "c", None, 1}, Point({"x", "y"}), Color.RED, {"k": frozenset("abc")}, Shape(Point)]
        print(print_of_functions(mapfn, Point), print_of_records(list("abcde"), records))
    """)
    told = set()
    for seed, name, line in [("0", "a.py", 0), ("1", "other.py", 50), ("2", "a b.py", 3)]:
        (tmp_path / name).write_text("# A notebook.\n" * line + script)
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(CHECKOUT)}
        command = [sys.executable, tmp_path / name]
        run = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        told.add(run.stdout)
    assert len(told) == 1
    assert len(told.pop().split()) == 2
