"""The contract of jmr.run, piece by piece."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import functools
import importlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
import types
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import jmr
from jmr.shuffle.directory import Directories
from jmr.worker.modules import UserModules

ENGINES = pytest.mark.parametrize("engine", [None, "inline"])


def run(source: Any, mapfn: Any, reducefn: Any = None, **options: Any) -> jmr.Result:
    return jmr.run(source, mapfn, reducefn, **({"workers": 2, "progress": False} | options))


def identity(key: Any, value: Any) -> list[tuple[Any, Any]]:
    return [(key, value)]


class Lazy:
    """octo.py's kind of source: `__iter__` and `__getitem__`, and no more."""

    def __iter__(self) -> Iterator[str]:
        return iter("ab")

    def __getitem__(self, key: str) -> int:
        return ord(key)


class Keyed:
    def keys(self) -> list[str]:
        return ["a", "b"]

    def __getitem__(self, key: str) -> int:
        return ord(key)


SOURCES = {
    "dict": {"a": 97, "b": 98},
    "mapping": types.MappingProxyType({"a": 97, "b": 98}),
    "keys": Keyed(),
    "lazy": Lazy(),
    "list": [("a", 97), ("b", 98)],
    "lists": [["a", 97], ["b", 98]],
    "deque": collections.deque([("a", 97), ("b", 98)]),
    "zip": lambda: zip("ab", [97, 98], strict=True),
    "generator": lambda: ((c, ord(c)) for c in "ab"),
    "items": {"a": 97, "b": 98}.items(),
    "array": np.array([["a", 97], ["b", 98]], dtype=object),
    "result": jmr.Result({"a": 97, "b": 98}),
}


@ENGINES
@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_its_records(kind: str, engine: Any) -> None:
    source = SOURCES[kind]
    result = run(source() if isinstance(source, types.FunctionType) else source, identity, engine=engine)
    assert list(result.items()) == [("a", [97]), ("b", [98])]


@ENGINES
def test_an_empty_source_gives_an_empty_dict(engine: Any) -> None:
    assert run({}, identity, engine=engine) == {}


@ENGINES
def test_mapfn_may_yield_return_or_emit_nothing(engine: Any) -> None:
    def mapfn(key: int, value: Any) -> Any:
        kinds = [
            None,
            [],
            [(key, 1)],
            iter([(key, 2)]),
            ((key, n) for n in (3, 4)),
            ((key, 5),),
            zip([key], [6], strict=True),
        ]
        return kinds[key]

    result = run(dict.fromkeys(range(7)), mapfn, engine=engine)
    assert result == {2: [1], 3: [2], 4: [3, 4], 5: [5], 6: [6]}


@ENGINES
def test_a_generator_reducefn_gives_a_list(engine: Any) -> None:
    def reducefn(key: Any, values: list[int]) -> Iterator[int]:
        yield len(values)
        yield from values

    assert run({"a": 1}, identity, reducefn, engine=engine) == {"a": [1, 1]}


@ENGINES
@pytest.mark.parametrize("value", [None, (1, 2), [], {"b": {1}}, b"x", 2.5])
def test_what_reducefn_returns_is_stored(value: Any, engine: Any) -> None:
    result = run({"a": 1}, identity, lambda key, values: value, engine=engine)
    assert result == {"a": value}
    assert type(result["a"]) is type(value)


@ENGINES
def test_values_reach_reducefn_as_a_list_in_source_order(engine: Any) -> None:
    def reducefn(key: Any, values: Any) -> Any:
        assert type(values) is list
        return values

    result = run(((i, i) for i in range(1000)), lambda key, value: [(value % 3, value)], reducefn, engine=engine)
    assert result == {r: list(range(r, 1000, 3)) for r in range(3)}


def test_final_is_called_in_sorted_key_order_here() -> None:
    seen: list[Any] = []
    run({"b": 1, "a": 2, "c": 3}, identity, final=lambda key, value: seen.append((key, value, os.getpid())))
    assert seen == [("a", [2], os.getpid()), ("b", [1], os.getpid()), ("c", [3], os.getpid())]


def test_final_takes_the_results_order_where_keys_do_not_compare() -> None:
    seen: list[Any] = []
    run([("b", 1), (1, 2)], identity, final=lambda key, value: seen.append(key))
    assert seen == ["b", 1]


@ENGINES
def test_a_combiner_without_a_reducer_leaves_one_value(engine: Any) -> None:
    result = run(
        ((i, 1) for i in range(500)), lambda key, value: [("n", value)], combinefn=lambda k, v: sum(v), engine=engine
    )
    assert result == {"n": [500]}


@ENGINES
def test_a_combiner_may_return_or_empty_the_list_it_was_given(engine: Any) -> None:
    def flat(values: list[Any]) -> list[int]:
        return [x for value in values for x in (value if isinstance(value, list) else [value])]

    def top(key: int, values: list[Any]) -> list[int]:
        values[:] = sorted(flat(values))[:5]
        return values

    def total(key: int, values: list[int]) -> int:
        n = 0
        while values:
            n += values.pop()
        return n

    source = {i: i * 7 % 100 for i in range(60)}

    def mapfn(key: int, value: int) -> Any:
        return [(key % 3, value)]

    def reducefn(key: int, values: list[Any]) -> list[int]:
        return sorted(flat(values))[:5]

    assert run(source, mapfn, reducefn, combinefn=top, engine=engine) == run(source, mapfn, reducefn)
    sums = run(source, mapfn, lambda key, values: sum(values))
    assert run(source, mapfn, lambda key, values: sum(values), combinefn=total, engine=engine) == sums


@ENGINES
def test_a_combiner_that_empties_its_list_and_raises_costs_its_group(engine: Any) -> None:
    def total(key: int, values: list[Any]) -> int:
        n = 0
        while values:
            n += values.pop()
        return n

    result = run(
        {i: i for i in range(40)},
        lambda key, value: [(key % 2, "x" if key == 0 else value)],
        lambda key, values: sum(values),
        combinefn=total,
        on_error="skip",
        engine=engine,
    )
    assert result == {1: 400}
    assert {(bad.phase, bad.key) for bad in result.errors} == {("combine", 0)}
    assert engine is None or len(result.errors) == 1


def test_inline_shows_a_wrong_combiner() -> None:
    with pytest.raises(jmr.CombineError, match="combinefn raised"):
        run({1: 2}, lambda k, v: [("a", v)], combinefn=lambda k, v: (sum(v), len(v)), engine="inline", reducefn=None)


@pytest.mark.slow
def test_the_answer_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "import jmr\n"
        "r = jmr.run(((i, f'word {i % 17}') for i in range(200)), lambda k, v: [(v, k), ((v, 1), k)], workers=2, "
        "n_partitions=5, progress=False)\nprint(list(r.items()))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(outputs) == 1


def test_a_source_is_read_lazily_and_once() -> None:
    read: list[int] = []

    def endless() -> Iterator[tuple[int, int]]:
        number = 0
        while True:
            read.append(number)
            yield number, number
            number += 1

    with pytest.raises(jmr.MapError):
        run(endless(), lambda key, value: 1 / (key - 50) and [])
    assert read == list(range(len(read)))


def test_a_cursor_is_read_in_the_calling_thread() -> None:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("create table t (k, v)")
        database.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(100)])
        result = run(database.execute("select k, v from t order by k"), identity, lambda key, values: values[0])
        assert result == {i: str(i) for i in range(100)}
        job = jmr.submit(database.execute("select k, v from t"), identity, progress=False)
        with pytest.raises(sqlite3.ProgrammingError) as caught:
            job.result()
        assert any("jmr.run reads it in the thread that calls it" in note for note in caught.value.__notes__)
    finally:
        database.close()


def test_a_generator_that_refills_one_buffer_gives_right_answers() -> None:
    def refilled(make: Any) -> Iterator[tuple[int, Any]]:
        buffer = make()
        for i in range(100):
            buffer[0] = i
            yield i, buffer

    for make in (lambda: [0], lambda: bytearray(1), lambda: np.zeros(1, int), lambda: array.array("i", [0])):
        result = run(refilled(make), lambda key, value: [(key, int(value[0]))], lambda key, values: values[0])
        assert result == {i: i for i in range(100)}


def test_a_dict_that_refills_one_buffer_gives_right_answers() -> None:
    class Refilling(dict[int, Any]):
        def items(self) -> Any:
            buffer = [0]
            for key in self:
                buffer[0] = key
                yield key, buffer

    result = run(Refilling.fromkeys(range(50)), lambda key, value: [(key, value[0])], lambda key, values: values[0])
    assert result == {i: i for i in range(50)}


@ENGINES
def test_a_source_need_not_know_its_length(engine: Any) -> None:
    class Shy(dict[int, int]):
        def __len__(self) -> int:
            raise NotImplementedError

    assert run(Shy({1: 2}), identity, engine=engine) == {1: [2]}


def test_skipping_does_not_see_what_a_first_look_has_changed() -> None:
    def mapfn(key: int, block: Any) -> Any:
        block += 1
        return [(key, threading.Lock() if key == 3 else float(block[0]))]

    source = {i: np.full(10, i, dtype=float) for i in range(6)}
    result = run(source, mapfn, lambda key, values: values[0], on_error="skip", workers=1)
    assert result == {i: i + 1.0 for i in range(6) if i != 3}


def test_arrays_arrive_writable_and_come_back() -> None:
    def mapfn(key: int, block: Any) -> Any:
        block += 1
        return [(key % 2, block)]

    source = {i: np.full(50_000, i, dtype=float) for i in range(6)}
    result = run(source, mapfn, lambda key, blocks: sum(blocks))
    assert float(result[0][0]) == 0 + 2 + 4 + 3
    assert float(result[1][-1]) == 1 + 3 + 5 + 3
    result[0][0] = 5
    assert source[0][0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "place"), [("0", 0), ("1G", 1)])
def test_large_outputs_go_through_files_and_are_removed(
    budget: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMR_MEMORY", budget)
    with jmr.Cluster(workers=2) as cluster:
        roots = cluster._running()._directories.paths
        seen: list[str] = []

        def look(key: Any, value: Any) -> None:
            seen.extend(name for root in roots for name in os.listdir(root))

        def reducefn(key: int, values: list[bytes]) -> tuple[int, list[int]]:
            return sum(map(len, values)), [sum(len(files) for _, _, files in os.walk(root)) for root in roots]

        result = run({i: i for i in range(8)}, lambda k, v: [(k % 2, bytes(100_000))], reducefn, final=look)
        assert {key: n_bytes for key, (n_bytes, _) in result.items()} == {0: 400_000, 1: 400_000}
        assert all(n_files[place] == result.stats.n_map_tasks for _, n_files in result.values())
        assert seen == [], "the job's directories are gone when final runs"
        assert result.stats.shuffled_bytes > 800_000
        assert cluster._running()._budget._left == cluster._running()._budget.total_bytes


@pytest.mark.slow
def test_a_budget_that_is_no_size_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a worker, which `no_leaks` looks for, nor a directory."""
    made: list[Directories] = []
    monkeypatch.setattr("jmr.engines.cluster.Directories", lambda: made.append(Directories()) or made[-1])
    monkeypatch.setenv("JMR_MEMORY", "lots")
    with pytest.raises(jmr.ArgumentValueError, match="JMR_MEMORY is 'lots'"):
        jmr.Cluster(workers=1)
    assert not any(os.path.exists(path) for path in made[0].paths)


@pytest.mark.slow
def test_a_partition_that_does_not_fit_is_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source = {i: i for i in range(64)}

    def mapfn(key: int, value: int) -> Any:
        return [((key + i) % 50, bytes([key, i]) * 10_000) for i in range(8)]

    def reducefn(key: int, values: list[bytes]) -> tuple[int, int]:
        return len(values), zlib.crc32(b"".join(values))

    def dies(key: int, values: list[bytes]) -> int:
        return os._exit(3) if key == 17 else len(values)

    monkeypatch.setenv("JMR_MEMORY", "0")
    with jmr.Cluster(workers=2):
        result = run(source, mapfn, reducefn, n_partitions=2)
        assert result.stats.shuffled_bytes > 10_000_000
        assert list(result.items()) == list(run(source, mapfn, reducefn, engine="inline").items())
        with pytest.raises(jmr.SlotDiedError, match="reducefn ended its process 2 times, at group key=17"):
            run(source, mapfn, dies, n_partitions=2, max_attempts=2)
        rest = run(source, mapfn, dies, n_partitions=2, max_attempts=2, on_error="skip")
        assert [bad.key for bad in rest.errors] == [17]
        assert list(rest) == [key for key in result if key != 17]


def test_arrays_that_a_mapfn_keeps_stay_what_they_were(cluster: jmr.Cluster) -> None:
    kept: list[Any] = []

    def mapfn(key: int, value: Any) -> Any:
        kept.append((key, value))
        value[0] += 0.5
        return [(key, all(float(array[1]) == of for of, array in kept))]

    def refilled() -> Iterator[tuple[int, Any]]:
        buffer = np.zeros(200_000)
        for i in range(12):
            buffer[:] = i
            yield i, buffer

    for source in ({i: np.full(200_000, float(i)) for i in range(12)}, refilled()):
        assert run(source, mapfn, lambda key, values: values[0]) == dict.fromkeys(range(12), True)


def test_large_captured_data_is_mapped_and_may_be_written(cluster: jmr.Cluster) -> None:
    table = np.arange(500_000)

    def mapfn(key: int, value: int) -> Any:
        table[key] += 1000
        with open("/proc/self/maps", encoding="utf-8") as maps:
            shared = sum("/functions" in line for line in maps)
        return [(key, (int(table[key]), shared))]

    result = run({i: i for i in range(4)}, mapfn, lambda key, values: values[0])
    assert [value for value, _ in result.values()] == [1000, 1001, 1002, 1003]
    assert {shared for _, shared in result.values()} == ({1} if sys.platform == "linux" else {0})
    assert table[0] == 0


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


def test_keys_of_many_types_meet_their_equals() -> None:
    keys = ["a", b"a", 1, (1, "a"), None, Colour.RED, Point(1, 2), frozenset({1, 2}), 2.5]
    records = [(i, keys[i % len(keys)]) for i in range(90)]
    result = run(records, lambda key, value: [(value, key)], n_partitions=5)
    assert list(result) == keys
    assert [type(key) for key in result] == [type(key) for key in keys]
    assert all(len(values) == 10 for values in result.values())


@pytest.mark.slow
def test_classes_and_cached_functions_of_main_travel() -> None:
    program = """
import functools, dataclasses, jmr
@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
@functools.singledispatch
def kind(x): return "?"
@kind.register
def _(x: int): return "int"
class Squared:
    def __init__(self, n): self.n = n
    @functools.cached_property
    def value(self): return self.n ** 2
print(kind(1), Squared(3).value)
print(jmr.run({1: 2}, lambda k, v: [(kind(v), Squared(v).value), (kind("a"), 0)], workers=2, progress=False))
@dataclasses.dataclass(frozen=True)
class Word:
    text: str
    def kind(self): return kind(self.text), fib(3)
    @functools.cached_property
    def size(self): return len(self.text)
def mapfn(key, value):
    yield Word(f"w{key % 2}"), fib(value)
result = jmr.run({i: i for i in range(20)}, mapfn, lambda key, values: sum(values), workers=2, progress=False)
print(result)
print([type(key) is Word for key in result], result[Word("w1")])
print(jmr.run(result, lambda key, value: [(key.text, value)], workers=2, progress=False))
print([(key.kind(), key.size) for key in result])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "int 9\n{'int': [4], '?': [0]}\n"
        "{Word(text='w0'): 4180, Word(text='w1'): 6765}\n[True, True] 6765\n{'w0': [4180], 'w1': [6765]}\n"
        "[(('?', 2), 2), (('?', 2), 2)]\n"
    )


@pytest.mark.slow
def test_a_class_in_a_function_may_use_globals_in_its_body() -> None:
    program = """
import dataclasses, jmr
LIMIT, Words, unused = 3, list, open("/dev/null")
def mapfn(key, value):
    @dataclasses.dataclass
    class Text:
        words: Words
        limit: int = LIMIT
        unused = 1
        class Inner:
            twice = [LIMIT, LIMIT]
    yield key, (Text([]).limit, Text.Inner.twice)
print(jmr.run({1: 2}, mapfn, workers=1, progress=False))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "{1: [(3, [3, 3])]}\n"


def test_slots_work_where_the_kernel_is(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JMR_TEST_WORD", "hello")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside_the_notebook.py").write_text("WORD = 'beside'\n")

    def mapfn(key: Any, value: Any) -> Any:
        import beside_the_notebook

        yield "cwd", os.getcwd()
        yield "word", os.environ["JMR_TEST_WORD"]
        yield "module", beside_the_notebook.WORD
        yield "threads", os.environ["OMP_NUM_THREADS"]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    result = run({1: 1}, mapfn, lambda key, values: values[0], workers=2)
    assert result == {"cwd": str(tmp_path), "word": "hello", "module": "beside", "threads": "1"}
    monkeypatch.delenv("JMR_TEST_WORD")
    assert run({1: 1}, lambda key, value: [(key, "JMR_TEST_WORD" in os.environ)]) == {1: [False]}


def test_a_module_that_was_edited_runs_as_it_is_now(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "words_of_mine.py").write_text("from helper_of_mine import word\ndef mapfn(k, v): yield k, word()\n")

    def edit(word: str) -> None:
        (tmp_path / "helper_of_mine.py").write_text(f"def word(): return {word!r}\n")

    try:
        for word in ("one", "three", "seven"):
            edit(word)
            importlib.invalidate_caches()
            for name in ("helper_of_mine", "words_of_mine"):
                importlib.reload(importlib.import_module(name))
            module = sys.modules["words_of_mine"]
            for _ in range(2):
                assert run(dict.fromkeys(range(20)), module.mapfn) == {i: [word] for i in range(20)}
    finally:
        sys.modules.pop("words_of_mine", None)
        sys.modules.pop("helper_of_mine", None)


def test_a_module_in_a_plain_folder_is_imported_anew_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "folder_of_mine").mkdir()

    def mapfn(key: Any, value: Any) -> Any:
        from folder_of_mine import helper

        sys.modules["lazy"] = Lazy("lazy")
        return [(key, helper.WORD)]

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ImportError("an optional dependency is missing")

    for word in ("one", "three", "seven"):
        (tmp_path / "folder_of_mine" / "helper.py").write_text(f"WORD = {word!r}\n" + "#" * len(word))
        assert run(dict.fromkeys(range(10)), mapfn) == {i: [word] for i in range(10)}


def test_a_module_of_the_same_name_in_another_directory_is_imported_there(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        import of_that_name

        return [(key, of_that_name.WORD)]

    for word in ("one", "two"):
        path = tmp_path / word / "of_that_name.py"
        path.parent.mkdir()
        path.write_text(f"WORD = {word!r}\n")
        os.utime(path, (1_000_000.0, 1_000_000.0))
    for word in ("one", "two", "one"):
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / word))
            assert run(dict.fromkeys(range(10)), mapfn) == {i: [word] for i in range(10)}


def test_a_module_that_was_edited_while_it_ran_is_imported_anew(tmp_path: Any) -> None:
    modules = UserModules()
    path = tmp_path / "edited_meanwhile.py"
    try:
        for edited, forgotten in ((0.0, False), (60.0, True)):
            path.write_text("")
            sys.modules["edited_meanwhile"] = types.ModuleType("edited_meanwhile")
            sys.modules["edited_meanwhile"].__file__ = str(path)
            os.utime(path, (1_000_000.0 + edited, 1_000_000.0 + edited))
            modules.note(began=1_000_030.0)
            modules.forget_changed()
            assert ("edited_meanwhile" not in sys.modules) is forgotten
            sys.modules.pop("edited_meanwhile", None)
            modules = UserModules()
    finally:
        sys.modules.pop("edited_meanwhile", None)


def test_time_zone_and_recursion_limit_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(n: int) -> int:
        return 0 if n == 0 else 1 + deep(n - 1)

    def mapfn(key: Any, value: int) -> Any:
        return [("hour", time.localtime(0).tm_hour), ("depth", deep(value))]

    limit = sys.getrecursionlimit()
    try:
        for zone, hour, depth in (("UTC0", 0, 100), ("XYZ-9", 9, 3000), ("UTC0", 0, 100)):
            monkeypatch.setenv("TZ", zone)
            sys.setrecursionlimit(limit + depth)
            assert run({1: depth}, mapfn, lambda key, values: values[0]) == {"hour": hour, "depth": depth}
    finally:
        sys.setrecursionlimit(limit)


def test_numpys_global_generator_differs_between_slots() -> None:
    result = run(dict.fromkeys(range(40)), lambda key, value: [(os.getpid(), float(np.random.rand()))])
    draws = [draw for values in result.values() for draw in values]
    assert len(set(draws)) == 40


def test_stats_count_what_happened() -> None:
    result = run(dict.fromkeys(range(10), "a b a"), lambda key, text: [(word, 1) for word in text.split()])
    stats = result.stats
    assert (stats.n_records, stats.n_pairs, stats.n_keys, stats.n_slots) == (10, 30, 2, 2)
    assert stats.n_map_tasks == len([a for a in result.timeline if a.task.startswith("map")])
    assert all(attempt.outcome == "done" and attempt.ended >= attempt.started for attempt in result.timeline)


def test_a_result_is_a_dict_and_pickles() -> None:
    import pickle

    result = run({"a": 1}, identity)
    assert repr(result) == "{'a': [1]}"
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.stats == result.stats


def test_importing_jmr_is_light() -> None:
    heavy = {"ipywidgets", "IPython", "tornado", "numpy", "asyncio"}
    program = f"import sys, jmr; print(sorted({{name.split('.')[0] for name in sys.modules}} & {heavy}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@functools.cache
def squared(n: int) -> int:
    return n * n


def test_cached_functions_of_modules_travel_by_name() -> None:
    assert run({3: 3}, lambda key, value: [(key, squared(value))]) == {3: [9]}


def test_the_inline_engine_needs_nothing_that_windows_lacks() -> None:
    program = (
        "import sys\n"
        "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'): sys.modules[name] = None\n"
        "import jmr\n"
        "print(jmr.run({1: 2}, lambda k, v: [(k, v)], engine='inline', progress=False))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "{1: [2]}\n"


@pytest.mark.slow
def test_a_script_that_skips_records_is_told_even_where_nobody_looks() -> None:
    program = (
        "import jmr, sys\n"
        "def mapfn(k, v): return [(k, int(v))]\n"
        "jmr.run({'Ann': '31', 'Bob': 'no'}, mapfn, on_error='skip', workers=2, name='ages'OPTION)"
    )
    for option, told in (("", True), (", progress=False", False)):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("OPTION", option)], capture_output=True, text=True, check=True
        )
        assert done.stderr.startswith("ages: 2 records -> 1 key in ") is told
        assert ("1 skipped: see the result's .errors" in done.stderr) is told
