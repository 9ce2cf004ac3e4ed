"""The user's modules on other hosts: which are found and shipped, and how they are imported there."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import linecache
import os
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import jmr
from jmr.codec.failures import Raised, raised_from
from jmr.codec.functions import dump_functions
from jmr.codec.values import dump, load
from jmr.worker import names, shipping
from jmr.worker.importable import importable
from jmr.worker.imports import Shipment, ShippedImports, ShippedModule, missing_module
from jmr.worker.shipping import shipment_for

#: A slot of another host: it has jmr and cloudpickle already, and finds nothing but Python itself.
FAR = f"""
import sys
sys.path += (ours := [{str(Path(jmr.__file__).parents[1])!r}, {str(Path(cloudpickle.__file__).parents[1])!r}])
from jmr.codec.failures import raised_from
from jmr.codec.values import dump, load
from jmr.worker.imports import ShippedImports
for entry in ours:
    sys.path.remove(entry)
imports = ShippedImports()
answers = []
for modules, blob in load(bytearray(sys.stdin.buffer.read())):
    imports.install(modules)
    try:
        answers.append(load(blob)["mapfn"]())
    except Exception as error:
        answers.append(raised_from(error))
sys.stdout.buffer.write(b"".join(dump(answers)))
"""

Job = tuple[dict[str, ShippedModule], bytes]


class Home:
    """The user's directory: on sys.path at the kernel, and gone while a slot elsewhere runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def shipped(self, *functions: Callable[..., Any] | None) -> list[str]:
        """The names of what would be shipped."""
        return sorted(shipment_for(functions).modules)

    def job(self, mapfn: Callable[..., Any]) -> Job:
        """What a kernel would send."""
        return shipment_for([mapfn, None]).modules, b"".join(dump_functions({"mapfn": mapfn}))

    def far(self, *jobs: Job) -> list[Any]:
        """What one slot elsewhere answers to these jobs, one after the other."""
        away = self.path.rename(self.path.with_name("away"))
        try:
            ran = subprocess.run(
                [sys.executable, "-I", "-S", "-c", FAR], input=b"".join(dump(jobs)), capture_output=True, check=False
            )
        finally:
            away.rename(self.path)
        assert ran.returncode == 0, ran.stderr.decode()
        answers: list[Any] = load(bytearray(ran.stdout))
        return answers

    def run(self, mapfn: Callable[..., Any]) -> Any:
        """What one job answers elsewhere."""
        return self.far(self.job(mapfn))[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    monkeypatch.syspath_prepend(str(home.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # These tests are the user's modules too, and many.
    monkeypatch.setattr(shipping, "PROGRAMS", shipping.PROGRAMS | {"tests", "pytest_plugins"})
    before = dict(sys.modules)
    yield home
    for name in sys.modules.keys() - before.keys():
        places = [shipping.file_of(sys.modules[name]) or "", *shipping.folders_of(sys.modules[name])]
        if any(place.startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


def in_a_cell(source: str) -> Any:
    """The function that a notebook's cell defines."""
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(source, cell)
    return cell["mapfn"]


# ---- what is shipped


def test_a_module_that_is_imported_only_inside_a_function_is_shipped(home: Home) -> None:
    home.write({"late.py": "", "unrelated.py": ""})

    def mapfn() -> None:
        def inner() -> None:
            import late  # noqa: F401

    assert home.shipped(mapfn) == ["late"]
    assert "late" not in sys.modules, "finding it imports nothing"


def test_what_has_been_imported_is_shipped_whoever_uses_it(home: Home) -> None:
    home.write({"loaded.py": "import json", "unrelated.py": ""})
    importlib.import_module("loaded")
    assert home.shipped() == ["loaded"]
    assert shipment_for([]).modules["loaded"] == ShippedModule(
        "loaded", b"import json", str(home.path / "loaded.py"), False
    )


def test_a_helper_of_a_helper_is_shipped(home: Home) -> None:
    home.write({"one.py": "def f():\n    from two import x", "two.py": "import three", "three.py": "import one, json"})
    assert home.shipped(in_a_cell("def mapfn():\n    import one")) == ["one", "three", "two"]


def test_import_module_with_a_name_in_quotes_is_an_import(home: Home) -> None:
    home.write({"plugin.py": "import importlib\nimportlib.import_module('other')", "other.py": ""})
    cell = "import importlib\ndef mapfn():\n    return importlib.import_module('plugin')"
    assert home.shipped(in_a_cell(cell)) == ["other", "plugin"]


@pytest.mark.parametrize(
    "cell",
    [
        "def helper():\n    import late\ndef mapfn():\n    helper()",
        "def outer():\n    def helper():\n        import late\n    return lambda: helper()\nmapfn = outer()",
        "def helper():\n    import late\ndef mapfn(use=helper):\n    pass",
        "class Helper:\n    @property\n    def it(self):\n        import late\ndef mapfn():\n    Helper()",
        "class Base:\n    @staticmethod\n    def it():\n        import late\nclass C(Base): pass\nmapfn = C.it",
        "class Mapper:\n    def __call__(self):\n        import late\nmapfn = Mapper()",
        "class Mapper:\n    def it(self):\n        import late\nmapfn = Mapper().it",
        "import functools\ndef helper(x):\n    import late\nmapfn = functools.partial(helper, 1)",
        "import functools\n@functools.lru_cache\ndef mapfn():\n    import late",
        "def helper():\n    import late\nTABLE = {'a': [helper]}\ndef mapfn():\n    TABLE['a']",
    ],
)
def test_code_is_found_however_a_function_holds_it(home: Home, cell: str) -> None:
    home.write({"late.py": ""})
    assert home.shipped(in_a_cell(cell)) == ["late"]


def test_objects_that_answer_to_everything_do_no_harm(home: Home) -> None:
    home.write({"late.py": ""})
    cell = """
class Proxy:
    def __getattribute__(self, name): raise RuntimeError("not bound")
proxy = Proxy()
endless = []
endless.append(endless)
def mapfn():
    import late
    return proxy, endless, mapfn
"""
    assert home.shipped(in_a_cell(cell)) == ["late"]


def test_large_data_is_not_searched(home: Home) -> None:
    cell = "DATA = [[i] for i in range(100_000)]\ndef mapfn():\n    return DATA"
    assert len(list(names.names_in_functions([in_a_cell(cell)]))) < 5


def test_a_package_is_shipped_whole_and_nothing_beside_it(home: Home) -> None:
    home.write(dict.fromkeys(["pkg/__init__.py", "pkg/a.py", "pkg/sub/__init__.py", "pkg/sub/b.py"], ""))
    home.write(dict.fromkeys(["pkg/plain/c.py", "pkg/empty/data.txt", "pkg/.hid/d.py", "pkg/__pycache__/e.py"], ""))
    home.write(dict.fromkeys(["pkg/not-a-name.py", "pkg/.#a.py", "other/__init__.py"], ""))
    (home.path / "pkg" / "loop").symlink_to(home.path / "pkg")
    found = shipment_for([in_a_cell("def mapfn():\n    import pkg.a")]).modules
    assert sorted(found) == ["pkg", "pkg.a", "pkg.plain", "pkg.plain.c", "pkg.sub", "pkg.sub.b"]
    assert [name for name in sorted(found) if found[name].is_package] == ["pkg", "pkg.plain", "pkg.sub"]
    assert found["pkg.plain"].source is None


def test_of_a_folder_without_an_init_only_what_names_lead_to_is_shipped(home: Home) -> None:
    home.write(dict.fromkeys(["ns/a.py", "ns/b.py", "ns/c.py", "ns/deep/d.py", "ns/deep/e.py"], ""))
    assert home.shipped(in_a_cell("def mapfn():\n    import ns.a")) == ["ns", "ns.a"]
    assert home.shipped(in_a_cell("def mapfn():\n    from ns import b")) == ["ns", "ns.b"]
    assert home.shipped(in_a_cell("def mapfn():\n    from ns.deep import d")) == ["ns", "ns.deep", "ns.deep.d"]
    assert home.shipped(in_a_cell("def mapfn(row):\n    return row.ns.a")) == []
    home.write({"ns/a.py": "from . import b\nfrom .deep.e import x"})
    assert home.shipped(in_a_cell("def mapfn():\n    import ns.a")) == ["ns", "ns.a", "ns.b", "ns.deep", "ns.deep.e"]


@pytest.mark.parametrize("place", ["pkg/fast", "pkg/sub/fast"])
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "not loaded"])
def test_a_package_with_compiled_parts_is_not_shipped(home: Home, place: str, loaded: bool) -> None:
    home.write(dict.fromkeys(["pkg/__init__.py", "pkg/a.py", "pkg/sub/__init__.py", "pkg/sub/b.py", "alone.py"], ""))
    (home.path / (place + importlib.machinery.EXTENSION_SUFFIXES[0])).touch()
    (home.path / ("beside" + importlib.machinery.EXTENSION_SUFFIXES[0])).touch()
    if loaded:
        importlib.import_module("pkg.sub.b")
    assert home.shipped(in_a_cell("def mapfn():\n    import pkg.sub.b, alone, beside")) == ["alone"]


def test_neither_python_nor_what_is_installed_nor_jmr_is_shipped(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    for name in ("bought", "loaded"):
        (installed / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(installed))
    importlib.import_module("loaded")
    cell = "import functools, colorsys\ndef mapfn():\n    import bought, loaded, this, cloudpickle, jmr.cli, math"
    assert home.shipped(in_a_cell(cell)) == []


def test_a_module_that_is_found_behind_an_installed_one_is_not_shipped(home: Home, tmp_path: Path) -> None:
    home.write({"bought.py": "", "colorsys.py": ""})
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "bought.py").touch()
    sys.path.insert(0, str(installed))
    assert home.shipped(in_a_cell("def mapfn():\n    import bought")) == []
    sys.path.remove(str(installed))
    assert home.shipped(in_a_cell("def mapfn():\n    import bought")) == ["bought"]


@pytest.mark.parametrize("name", ["__main__", "__task__"])
def test_a_program_is_not_shipped_and_what_it_imports_is(
    home: Home, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write({"program.py": "import helper\ndef mapfn():\n    import late", "helper.py": "", "late.py": ""})
    home.write({f"{name}.py": "raise SystemExit"})
    path = home.path / "program.py"
    program = types.ModuleType(name)
    program.__file__ = str(path)
    monkeypatch.setitem(sys.modules, name, program)
    exec(compile(path.read_text(), str(path), "exec"), vars(program))
    assert home.shipped(program.mapfn) == ["helper", "late"]
    assert home.shipped(in_a_cell(f"def mapfn():\n    import {name}")) == ["helper"]


def test_a_file_that_is_no_python_or_cannot_be_read_stops_nothing(home: Home) -> None:
    home.write({"template.py": "import {{ name }}", "late.py": "x = '\\d'\nimport template, gone", "gone.py": ""})
    importlib.import_module("gone")
    (home.path / "gone.py").unlink()
    assert home.shipped(in_a_cell("def mapfn():\n    import late")) == ["late", "template"]


def test_a_file_is_read_again_only_when_it_has_changed(home: Home) -> None:
    path = home.path / "helper.py"
    mapfn = in_a_cell("def mapfn():\n    import helper")

    def now(text: str, time: float) -> bytes | None:
        path.write_text(text)
        os.utime(path, (time, time))
        return shipment_for([mapfn]).modules["helper"].source

    assert now("A = 1", 1_000) == b"A = 1"
    assert now("A = 2", 1_000) == b"A = 1", "which cannot happen: time goes on"
    assert now("A = 2", 2_000) == b"A = 2"
    assert now("A = 33", 2_000) == b"A = 33"
    assert now("A = 44", 4e9) == b"A = 44"
    assert now("A = 55", 4e9) == b"A = 55", "a file of this very moment is read each time"


def test_a_module_that_appears_later_is_found_in_the_next_job(home: Home) -> None:
    mapfn = in_a_cell("def mapfn():\n    import helper")
    assert home.shipped(mapfn) == []
    before = os.stat(home.path)
    home.write({"helper.py": ""})
    os.utime(home.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert home.shipped(mapfn) == ["helper"]


# ---- how it is imported there


def test_what_was_shipped_is_imported_on_a_host_that_has_no_such_file(home: Home) -> None:
    home.write({"one.py": "from two import word\ndef twice():\n    return 2 * word()"})
    home.write({"two.py": "def word():\n    import three\n    return three.WORD", "three.py": "WORD = 'ha'"})

    def mapfn() -> Any:
        import sys

        import one

        return one.twice(), one.__file__, sys.modules["three"].__spec__.origin, sys.path[0]

    word, file, origin, path = home.run(mapfn)
    assert (word, file, origin) == ("haha", str(home.path / "one.py"), str(home.path / "three.py"))
    assert path != str(home.path)


def test_packages_import_of_themselves_in_every_way(home: Home) -> None:
    home.write({"pkg/__init__.py": "from .a import A\nfrom pkg import sub", "pkg/a.py": "from .sub.b import B as A"})
    home.write({"pkg/sub/__init__.py": "from . import b\nfrom ..c import C", "pkg/sub/b.py": "B = 'b'"})
    home.write({"pkg/c.py": "import pkg.plain.d\nC = pkg.plain.d.D", "pkg/plain/d.py": "D = __package__"})

    def mapfn() -> Any:
        import pkg

        return pkg.A, pkg.sub.b.B, pkg.sub.C, pkg.__path__, pkg.sub.__spec__.parent, pkg.plain.__file__

    assert home.run(mapfn) == ("b", "b", "pkg.plain", [str(home.path / "pkg")], "pkg.sub", None)


def test_a_folder_without_an_init_is_a_package_there_too(home: Home) -> None:
    home.write({"ns/a.py": "from ns.deep import b\nWORD = b.WORD", "ns/deep/b.py": "from ..c import WORD"})
    home.write({"ns/c.py": "WORD = 'see'"})

    def mapfn() -> Any:
        import ns.a

        return ns.a.WORD, list(ns.__path__), ns.__spec__.loader is not None

    assert home.run(mapfn) == ("see", [str(home.path / "ns")], True)


def test_a_modules_function_and_the_objects_of_its_classes_travel_by_name(home: Home) -> None:
    home.write(
        {"shapes.py": "class Point:\n    x = 3\n    def __eq__(self, other): return vars(self) == vars(other)\n"}
    )
    home.write({"work.py": "import shapes\ndef mapfn():\n    p = shapes.Point()\n    p.y = 4\n    return p\n"})
    work, shapes = map(importlib.import_module, ("work", "shapes"))
    answer = home.run(work.mapfn)
    assert type(answer) is shapes.Point
    assert (answer.x, answer.y) == (3, 4)
    assert home.run(functools.partial(lambda point: (type(point).__module__, point.y), answer)) == ("shapes", 4)


def test_an_edited_module_runs_as_it_is_now_though_the_kernel_has_not_reloaded_it(home: Home) -> None:
    home.write({"pkg/__init__.py": "", "pkg/words.py": "WORD = 'old'"})
    importlib.import_module("pkg.words")

    def mapfn() -> Any:
        from pkg import words

        words.N = getattr(words, "N", 0) + 1
        return words.WORD, words.N

    first = home.job(mapfn)
    home.write({"pkg/words.py": "WORD = 'brand new'"})
    assert home.far(first, home.job(mapfn)) == [("old", 1), ("brand new", 1)]


def test_the_next_job_has_modules_of_its_own_and_none_of_the_last_one(home: Home) -> None:
    home.write({"state.py": "N = 0", "other.py": ""})

    def mapfn() -> int:
        import state

        state.N += 1
        return state.N

    def without() -> Any:
        import sys

        return "state" in sys.modules, any(type(finder).__name__ == "ShippedImports" for finder in sys.meta_path)

    job = home.job(mapfn)
    assert home.far(job, ({}, home.job(without)[1]), job) == [1, (False, False), 1]


def test_a_shipped_module_wins_over_what_is_there_unless_the_worker_needs_that(home: Home) -> None:
    home.write({"colorsys.py": "WORD = 'mine'", "cloudpickle.py": "WORD = 'mine'"})

    def own() -> Any:
        import colorsys

        return getattr(colorsys, "WORD", "Python's")

    def needed() -> Any:
        import cloudpickle

        return hasattr(cloudpickle, "WORD")

    mine = {
        name: ShippedModule(name, (home.path / f"{name}.py").read_bytes(), str(home.path / f"{name}.py"), False)
        for name in ("colorsys", "cloudpickle")
    }
    jobs = [(modules, home.job(mapfn)[1]) for modules, mapfn in (({}, own), (mine, own), ({}, own), (mine, needed))]
    assert home.far(*jobs) == ["Python's", "mine", "Python's", False]


def test_a_traceback_shows_the_users_lines_and_no_others(home: Home) -> None:
    home.write({"outer.py": "import inner\n", "inner.py": "# a comment\ndef f():\n    return 1 / 0\nf()\n"})

    def mapfn() -> Any:
        import inspect
        import traceback

        try:
            import outer  # noqa: F401
        except ZeroDivisionError:
            shown = traceback.format_exc()
        import late

        return shown, inspect.getsource(late.g)

    home.write({"late.py": "X = 1\ndef g():\n    return X\n"})
    shown, source = home.run(mapfn)
    assert f'File "{home.path / "inner.py"}", line 3, in f\n    return 1 / 0' in shown
    assert f'File "{home.path / "outer.py"}", line 1, in <module>\n    import inner' in shown
    assert shown.count("  File ") == 4, "mapfn, outer, inner, f"
    assert source == "def g():\n    return X\n"


def test_a_syntax_error_names_the_file_and_the_line(home: Home) -> None:
    home.write({"broken.py": "x = 1\ny = = 2\n"})
    raised = home.run(in_a_cell("def mapfn():\n    import broken"))
    assert isinstance(raised, Raised)
    error = load(bytearray(raised.blob or b""))
    assert (type(error), error.filename, error.lineno) == (SyntaxError, str(home.path / "broken.py"), 2)
    assert error.text.strip() == "y = = 2"
    assert [frame.name for frame in raised.frames] == ["<module>", "mapfn"], "none of the import's own"


def test_sources_are_decoded_as_they_say(home: Home) -> None:
    (home.path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\r\nWORD = 'Käse'\r\n".encode("latin-1"))
    (home.path / "wrong.py").write_bytes(b"WORD = '\xe4'\n")

    def mapfn() -> Any:
        import latin

        try:
            import wrong  # noqa: F401
        except SyntaxError as error:
            return latin.WORD, error.msg

    word, message = home.run(mapfn)
    assert word == "Käse"
    assert "utf-8" in message


def test_sources_can_be_read_as_data_and_no_bytecode_is_written(home: Home) -> None:
    home.write({"pkg/__init__.py": "", "pkg/a.py": "A = 1"})

    def mapfn() -> Any:
        import pkgutil

        import pkg.a

        try:
            pkgutil.get_data("pkg", "data.csv")
        except FileNotFoundError as error:
            return pkgutil.get_data("pkg", "a.py"), pkg.a.__cached__, error.strerror

    assert home.run(mapfn) == (b"A = 1", None, "only Python sources were shipped to this host")
    assert not list(home.path.rglob("*.pyc"))


# ---- what the kernel has


def test_names_of_all_that_can_be_imported_are_told(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    files = ["a.py", "pkg/__init__.py", "folder/data.csv", "no-name.py", "b.c.py", "text.txt", f"fast{suffix}"]
    home.write(dict.fromkeys(files, ""))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "")
        archive.writestr("unnamed.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            if name == "refused":
                raise RuntimeError("not to be asked for")
            return importlib.machinery.ModuleSpec(name, None) if name == "editable" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    names = shipment_for([in_a_cell("def mapfn():\n    import zipped.x, editable, refused, absent")]).importable
    assert names is not None
    assert {"a", "pkg", "folder", "fast", "zipped", "editable", "json", "time", "_ssl", "pytest"} <= names
    assert not {"no-name", "b", "text", "absent", "refused", "no_such", "msilib", ""} & names
    assert "pkg" not in sys.modules


def test_a_folder_is_listed_again_when_it_has_changed(home: Home) -> None:
    assert "appeared" not in importable([])
    os.utime(home.path, (1_000, 1_000))
    assert "appeared" not in importable([])
    home.write({"appeared.py": ""})
    assert "appeared" in importable([])
    home.write({"at_once.py": ""})
    assert "at_once" in importable([])
    os.utime(home.path, (2_000, 2_000))
    importable([])
    (home.path / "at_once.py").unlink()
    os.utime(home.path, (2_000, 2_000))
    assert "at_once" in importable([]), "which cannot happen: time goes on"


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("installed", True),
        ("absent", False),
        ("installed.part", True),
        ("absent.part", False),
        ("json.part", False),
        ("whole.part", False),
        ("folder.part", True),
    ],
)
def test_what_the_kernel_may_have_is_told_from_what_it_has_not(name: str, has: bool) -> None:
    modules = ship("whole") | {"folder": ShippedModule("folder", None, "/nowhere/folder", True)}
    assert Shipment(modules, frozenset({"installed", "json", "whole", "folder"})).may_have(name) is has
    assert Shipment(modules, None).may_have(name), "nobody has looked"


# ---- in this process


@pytest.fixture
def imports() -> Iterator[ShippedImports]:
    imports = ShippedImports()
    yield imports
    imports.install({})
    assert imports not in sys.meta_path


def ship(*names: str, **sources: str) -> dict[str, ShippedModule]:
    packages = {name: ShippedModule(name, b"", f"/nowhere/{name}/__init__.py", True) for name in names}
    return packages | {
        name: ShippedModule(name, source.encode(), f"/nowhere/{name}.py", False) for name, source in sources.items()
    }


def test_what_has_changed_is_compiled_and_what_has_not_runs_anew(imports: ShippedImports) -> None:
    for source, answer in (("A = [1]", [1]), ("A = [1]", [1]), ("A = [2]", [2]), ("A = ]", None), ("A = [1]", [1])):
        imports.install(ship(compiled=source))
        if answer is None:
            with pytest.raises(SyntaxError):
                importlib.import_module("compiled")
        else:
            module = importlib.import_module("compiled")
            assert module.A == answer, "no list of an earlier job"
            module.A.append(3)


def test_a_package_that_stays_does_not_hold_on_to_what_was_dropped(imports: ShippedImports, home: Home) -> None:
    home.write({"stays/__init__.py": "other = 'a value of its own'"})
    for word in ("one", "two"):
        imports.install(ship(**{"stays.sub": f"WORD = {word!r}", "stays.other": ""}))
        stays, sub = importlib.import_module("stays"), importlib.import_module("stays.sub")
        assert stays.sub is sub
        assert sub.WORD == word
        stays.other = "a value of its own" if importlib.import_module("stays.other") else ""
    imports.install({})
    assert "stays.sub" not in sys.modules
    assert not hasattr(stays, "sub")
    assert stays.other == "a value of its own"


def test_what_lies_in_a_dropped_package_is_dropped_with_it(imports: ShippedImports) -> None:
    imports.install(ship("pkg_gone"))
    importlib.import_module("pkg_gone")
    sys.modules["pkg_gone.made"] = types.ModuleType("pkg_gone.made")
    imports.install({})
    assert not {"pkg_gone", "pkg_gone.made"} & sys.modules.keys()


def test_a_module_can_be_reloaded(imports: ShippedImports) -> None:
    imports.install(ship(again="N = globals().get('N', 0) + 1"))
    module = importlib.reload(importlib.import_module("again"))
    assert (module.N, module.__file__) == (2, "/nowhere/again.py")


def test_a_folder_that_is_here_too_gives_what_it_has(imports: ShippedImports, home: Home) -> None:
    home.write({"both_ns/here.py": "WORD = 'here'", "both_ns/both.py": "WORD = 'here'"})
    modules = ship(**{"both_ns.both": "WORD = 'shipped'"})
    imports.install(modules | {"both_ns": ShippedModule("both_ns", None, "/nowhere/both_ns", True)})
    words = [importlib.import_module(f"both_ns.{name}").WORD for name in ("here", "both")]
    assert words == ["here", "shipped"]


def test_a_job_whose_turn_comes_again_has_the_very_modules_that_it_had(imports: ShippedImports, home: Home) -> None:
    home.write({"kept_ns/own.py": "", "kept_plain.py": "WORD = 'of this host'"})
    folder = {"kept_ns": ShippedModule("kept_ns", None, "/nowhere/kept_ns", True)}
    both = [
        imports.install(folder | ship(**{"kept_ns.sub": f"WORD = {word!r}", "kept_plain": f"WORD = {word!r}"}))
        for word in ("one", "two")
    ]
    names = ("kept_ns", "kept_ns.sub", "kept_plain")
    had = []
    for job in both:
        imports.enter(job)
        had.append([importlib.import_module(name) for name in names])
        had[-1].append(linecache.getlines("/nowhere/kept_plain.py"))
    third = imports.install({})
    own = importlib.import_module("kept_plain")
    for job, (ns, sub, plain, lines), word in (*zip(both, had, ("one", "two"), strict=True),) * 2:
        imports.enter(job)
        assert [importlib.import_module(name) for name in names] == [ns, sub, plain]
        assert ns.sub is sub
        assert (sub.WORD, plain.WORD) == (word, word)
        assert linecache.getlines("/nowhere/kept_plain.py") == lines == [f"WORD = {word!r}"]
        imports.enter(third)
        assert importlib.import_module("kept_plain") is own
        assert "kept_ns.sub" not in sys.modules


# ---- what is missing


def raised_by(source: str) -> BaseException:
    try:
        exec(source, {})
    except BaseException as error:
        return error
    raise AssertionError("it raises")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import no_such_thing", "no_such_thing"),
        ("import no_such_thing.part", "no_such_thing"),
        ("import json.no_such_part", "json.no_such_part"),
        ("try:\n    import no_such_thing\nexcept ImportError as e:\n    raise ValueError from e", "no_such_thing"),
        ("try:\n    import no_such_thing\nexcept ImportError:\n    raise ValueError", None),
        ("try:\n    import no_such_thing\nexcept ImportError:\n    raise ValueError from None", None),
        ("from json import no_such_name", None),
        ("raise ModuleNotFoundError('by hand')", None),
        ("raise ValueError", None),
    ],
)
def test_a_missing_module_is_named(source: str, name: str | None) -> None:
    assert missing_module(raised_from(raised_by(source))) == name


def test_errors_that_lead_in_a_circle_end() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert missing_module(raised_from(one)) is None
