"""Parquet: two columns, key and value, by pyarrow.

    keys ────> an array ─┐
    values ──> an array ─┴──> a table ──> a file with its schema ──the schemas of all──> one that holds for all files

A dict is a struct, a list a list. So that a tuple may hold different types it is a struct too, whose fields are called
"0", "1", ...; it is a tuple again when it is read. The types of a column are those of its values, as Arrow infers
them; each part is written without knowing the others, and written once more where they turn out to differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from jmr.errors import ArgumentValueError, describe
from jmr.sinks.base import Encoded, PartError

__all__ = ["Parquet", "read_back"]

_MISSING = 'Parquet needs pyarrow: pip install "jmr[arrow]"'
Unfit = dict[int, str]


class Parquet:
    """The format; see `jmr.sinks.base.Format`."""

    suffix = ".parquet"
    title = "one Parquet column"

    def check(self) -> None:
        """Say what is missing, if something is."""
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise ArgumentValueError(_MISSING) from None

    def encoded(self, keys: list[Any], values: list[Any]) -> Encoded:
        """A file of those rows that fit into two columns: of what differs, the first decides."""
        unfit: dict[int, tuple[bool, str]] = {}
        for is_key, column in ((True, keys), (False, values)):
            unfit |= {index: (is_key, why) for index, why in _misfits(column).items()}
        kept = [index for index in range(len(keys)) if index not in unfit]
        columns = [keys, values] if not unfit else [[column[index] for index in kept] for column in (keys, values)]
        if not columns[0]:
            return Encoded(b"", unfit)
        try:
            content, schema = _file_of(*map(_array, columns))
        except Exception as error:  # of Parquet, which has no struct without fields, say
            return Encoded(b"", unfit | dict.fromkeys(kept, (False, _reason(error))))
        return Encoded(content, unfit, schema)

    def decoded(self, content: bytes) -> tuple[list[Any], list[Any]]:
        """All rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return read_back(pq.read_table(pa.BufferReader(content)))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise PartError(f"it is no Parquet as jmr writes it: {_reason(error)}") from error

    def common(self, schemas: list[bytes]) -> bytes:
        """The schema that all have, or can be turned to."""
        if len(set(schemas)) == 1:
            return schemas[0]
        import pyarrow as pa

        first, *others = [pa.ipc.read_schema(pa.py_buffer(schema)) for schema in schemas]
        columns = []
        for name in ("key", "value"):
            together = pa.schema([("it", first.field(name).type)])
            for other in others:
                together = _joined(together, pa.schema([("it", other.field(name).type)]))
            columns.append((name, together.field("it").type))
        return bytes(pa.schema(columns).serialize())

    def turned(self, content: bytes, schema: bytes) -> bytes:
        """The same rows, with other types."""
        import pyarrow as pa

        kinds = pa.ipc.read_schema(pa.py_buffer(schema)).types
        columns = self.decoded(content)
        return _file_of(*(_array(column, kind) for column, kind in zip(columns, kinds, strict=True)))[0]


def read_back(table: Any) -> tuple[list[Any], list[Any]]:
    """The rows of such a table, as Python objects."""
    return _objects(table.column("key"), is_key=True), _objects(table.column("value"), is_key=False)


def _objects(column: Any, *, is_key: bool) -> list[Any]:
    objects: list[Any] = column.to_pylist()
    if _tuple_length(column.type) is not None:
        objects = [_as_tuple(each, column.type) for each in objects]
    return list(map(_hashable, objects)) if is_key and set(map(type, objects)) & {tuple, list, dict} else objects


def _as_tuple(obj: Any, kind: Any) -> Any:
    """What a struct was that `_array` made of a tuple."""
    if obj is None or _tuple_length(kind) is None:
        return obj
    return tuple(_as_tuple(each, kind.field(index).type) for index, each in enumerate(obj.values()))


def _hashable(key: Any) -> Any:
    """A key as it can have been: lists in it were tuples, and dicts namedtuples, say."""
    inner = key.values() if isinstance(key, dict) else key
    return tuple(map(_hashable, inner)) if isinstance(key, (tuple, list, dict)) else key


def _file_of(keys: Any, values: Any) -> tuple[bytes, bytes]:
    """A file's content, and its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"key": keys, "value": values})
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    return file.getvalue().to_pybytes(), table.schema.serialize().to_pybytes()


def _array(column: list[Any], kind: Any = None) -> Any:
    """A column as Arrow has it. Raises whatever Arrow does."""
    import pyarrow as pa

    kinds = set(map(type, column))
    if tuple not in kinds:
        array = pa.array(column, kind, from_pandas=False)
        _check_alike(column, array.type)
        if _tuple_length(array.type) is not None:
            raise pa.ArrowTypeError("a dict with the keys '0', '1', ... would be read as a tuple")
        return array
    lengths = {len(each) for each in column if each is not None}
    if kinds - {tuple, type(None)} or len(lengths) > 1:
        raise pa.ArrowTypeError("tuples of different lengths, or among other values")
    (length,) = lengths
    fields = [kind.field(i).type for i in range(length)] if kind is not None else [None] * length
    rows = [(None,) * length if each is None else each for each in column]
    arrays = [_array([row[i] for row in rows], fields[i]) for i in range(length)]
    mask = pa.array([each is None for each in column], pa.bool_())
    return pa.StructArray.from_arrays(arrays, [str(i) for i in range(length)], mask=mask)


def _check_alike(column: list[Any], kind: Any) -> None:
    """Refuse, however deep in dicts and lists, what Arrow makes something else of, without a word."""
    import pyarrow as pa

    if not _may_lose(kind):
        return
    if pa.types.is_struct(kind):
        for field in kind:
            _check_alike([each.get(field.name) for each in column if isinstance(each, dict)], field.type)
    elif pa.types.is_list(kind):
        _check_alike([one for each in column if each is not None for one in each], kind.value_type)
    else:
        _check_simple(column, set(map(type, column)))


def _may_lose(kind: Any) -> bool:
    """Whether there are texts among its bytes, times of day among its dates, or zones among its times, perhaps."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(_may_lose(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _may_lose(kind.value_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _check_simple(column: list[Any], kinds: set[type]) -> None:
    import pyarrow as pa

    times = {kind for kind in kinds if issubclass(kind, datetime)}
    if kinds >= {str, bytes}:
        raise pa.ArrowTypeError("text and bytes")
    if times and any(issubclass(kind, date) for kind in kinds - times):
        raise pa.ArrowTypeError("dates with a time and without")
    if times and len({each.tzinfo is None for each in column if type(each) in times}) > 1:
        raise pa.ArrowTypeError("times with a zone and without")


def _tuple_length(kind: Any) -> int | None:
    """Of a type that `_array` gives tuples; None of any other."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or not kind.num_fields:
        return None
    names = [kind.field(i).name for i in range(kind.num_fields)]
    return len(names) if names == [str(i) for i in range(len(names))] else None


def _misfits(column: list[Any]) -> Unfit:
    """What of a column has no place in it beside those before, and why."""
    try:
        _array(column)
    except Exception as error:  # Arrow raises many kinds, and asks objects that may raise any
        return _found_misfits(column, error)
    return {}


def _found_misfits(column: list[Any], error: Exception) -> Unfit:
    """The same, looked for one by one: first those that have no common type, then those that lose by it."""
    import pyarrow as pa

    unfit: Unfit = {}
    together = pa.schema([("it", pa.null())])
    for index, obj in enumerate(column):
        try:
            own = pa.schema([("it", _array([obj]).type)])
            together = _joined(together, own)
        except Exception as why:
            unfit[index] = _reason(why)
    kind = together.field("it").type
    for index, obj in _without(column, unfit):
        try:
            _array([obj], kind)
        except Exception as why:
            unfit[index] = _reason(why)
    if not unfit:  # each alone would fit
        unfit[len(column) - 1] = _reason(error)
    return unfit


def _joined(before: Any, own: Any) -> Any:
    """The schema of a column that has both. Raises ValueError if there is none."""
    import pyarrow as pa

    kinds = [schema.field("it").type for schema in (before, own)]
    try:
        together = pa.unify_schemas([before, own], promote_options="permissive")
    except pa.ArrowException:
        together = None
    lengths = {_tuple_length(kind) for kind in kinds if not pa.types.is_null(kind)}
    if together is None or len(lengths) > 1 or _mix_text(*kinds):
        raise ValueError(f"it is {kinds[1]}, and those before are {kinds[0]}")
    return together


def _mix_text(one: Any, other: Any) -> bool:
    """Whether there is text where the other has bytes, which Arrow would make bytes of both."""
    import pyarrow as pa

    if pa.types.is_struct(one) and pa.types.is_struct(other):
        both = [field for field in other if one.get_field_index(field.name) >= 0]
        return any(_mix_text(one.field(field.name).type, field.type) for field in both)
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _mix_text(one.value_type, other.value_type)
    return {str(one), str(other)} == {"string", "binary"}


def _without(column: list[Any], unfit: Unfit) -> Iterator[tuple[int, Any]]:
    return ((index, obj) for index, obj in enumerate(column) if index not in unfit)


def _reason(error: Exception) -> str:
    return describe(error) if not str(error) else str(error).partition("\n")[0]
