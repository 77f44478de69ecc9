"""A table is an Arrow table: the documented types, with and without rows, by whichever package makes it."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta, timezone
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from endpoints import DOCUMENTED, Endpoint, named
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import (
    AnalyticsOverview,
    AnalyticsSummary,
    BatchTable,
    DailyStats,
    Failure,
    HeatmapPage,
    HeatmapPages,
    LifetimeValue,
    NotFoundError,
    QueryAnswer,
    QueryResults,
    Success,
    WebsiteSummary,
)
from zenovay_async._tables.arrow import arrow_columns
from zenovay_async.tables import Table

MAKERS = ("pyarrow", "polars", "nanoarrow")
NOON = datetime(2026, 3, 29, 12, tzinfo=timezone(timedelta(hours=2)))
PAGE_TYPES = {"url": "string", "total_interactions": "int64", "last_updated": "timestamp[us, tz=UTC]"}


def table(endpoint: Endpoint) -> Any:
    """The result of the documented example."""
    kind: Any = endpoint.result
    return msgspec.convert(endpoint.body()["data"], kind)


TABLES = [endpoint for endpoint in DOCUMENTED if endpoint.result and issubclass(endpoint.result, Table)]


def without_rows(result: Any) -> Any:
    if isinstance(result, QueryAnswer):
        return QueryAnswer(results=QueryResults(columns=result.results.columns))
    rows = "cohorts" if isinstance(result, LifetimeValue) else result._layout.rows
    return msgspec.structs.replace(result, **{rows: ()})


def pages(*items: HeatmapPage) -> HeatmapPages:
    return HeatmapPages(pages=items)


def combined() -> BatchTable[str]:
    some = pages(HeatmapPage(url="/", total_interactions=3, last_updated=NOON))
    return BatchTable("website_id", [Success("a", some), Failure("b", NotFoundError("No such website"))])


def columns_of(*values: Any, kind: Any = None) -> tuple[str, list[Any]]:
    """The kind and the values of a column in Arrow."""
    (column,) = arrow_columns({"x": kind}, [{"x": value} for value in values])
    return column.kind, column.values


def test_times_are_microseconds_and_dates_days_since_1970() -> None:
    noon = int(NOON.timestamp()) * 10**6
    assert columns_of(NOON, NOON.isoformat(), "2026-03-29T10:00:00", None, kind="time") == (
        "time",
        [noon, noon, noon, None],
    )
    assert columns_of(date(1970, 1, 2), "1969-12-31", kind="date") == ("date", [1, -1])


@pytest.mark.parametrize(
    ("kind", "values", "shown"),
    [
        ("integer", (1, 2**63), ["1", str(2**63)]),
        ("integer", (True, 1.5), ["true", "1.5"]),
        ("number", (1.5, 10**400), ["1.5", str(10**400)]),
        ("number", ("x",), ["x"]),
        ("boolean", (True, "no"), ["true", "no"]),
        ("time", (NOON, "yesterday"), [NOON.isoformat(), "yesterday"]),
        ("time", (datetime.max.replace(tzinfo=timezone(timedelta(hours=-2))),), ["9999-12-31T23:59:59.999999-02:00"]),
        ("time", (5,), ["5"]),
        ("date", (NOON,), [NOON.isoformat()]),
        ("text", ("\ud800", [1, {"a": "\udfff"}]), ["\ufffd", '[1,{"a":"\ufffd"}]']),
        ("json", ({"a": 1}, "b", None), ['{"a":1}', "b", None]),
        ("integer", (object,), [str(object)]),
    ],
)
def test_a_column_with_a_value_that_does_not_fit_is_text(kind: str | None, values: Any, shown: list[str]) -> None:
    found, fitted = columns_of(*values, kind=kind)
    assert fitted == shown
    assert found == ("json" if kind == "json" else "text")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((1, None), "integer"),
        ((1, 2.5), "number"),
        ((True,), "boolean"),
        (("a",), "text"),
        ((NOON,), "time"),
        ((date(2026, 5, 1),), "date"),
        ((1, "a"), "text"),
        ((True, 1), "text"),
        (([1],), "json"),
        ((), "text"),
    ],
)
def test_the_type_of_an_undocumented_column_is_that_of_its_values(values: Any, kind: str) -> None:
    assert columns_of(*values)[0] == kind


def test_names_that_no_encoding_has_are_replaced_and_stay_different() -> None:
    found = arrow_columns({chr(0xD800): "text", chr(0xDFFF): "text"}, [])
    assert [column.name for column in found] == ["\ufffd", "\ufffd_2"]


POLARS = ("Int64", "Int32", "Float64", "Boolean", "String", "Datetime", "Date", "Series", "DataFrame")


def use_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in {*MAKERS} - {*names}:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_a_package_that_makes_one_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(monkeypatch)
    with pytest.raises(ImportError, match=r"needs pyarrow, polars 1\.3 or nanoarrow: pip install pyarrow"):
        pages().__arrow_c_stream__()


@pytest.mark.parametrize(("name", "made"), [("pyarrow", "table"), ("polars", "DataFrame")])
def test_a_package_that_is_in_use_makes_the_table(monkeypatch: pytest.MonkeyPatch, name: str, made: str) -> None:
    module = MagicMock(spec=ModuleType)
    for kind in ("int64", "float64", "bool_", "string", "timestamp", "date32", "array", *POLARS):
        setattr(module, kind, MagicMock())
    module.configure_mock(**{made: (make := MagicMock())})
    stream = MagicMock(return_value="capsule")
    make.return_value.__arrow_c_stream__ = stream
    use_only(monkeypatch, name)
    monkeypatch.setitem(sys.modules, name, module)
    assert pages(HeatmapPage(url="/", total_interactions=1)).__arrow_c_stream__("schema") == "capsule"
    stream.assert_called_once_with("schema")


def test_a_package_that_is_too_old_to_make_one_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(monkeypatch, "polars")
    # A mock has no methods of protocols that it is not given.
    monkeypatch.setitem(sys.modules, "polars", MagicMock(spec=ModuleType, **dict.fromkeys(POLARS, MagicMock())))
    with pytest.raises(ImportError, match=r"needs pyarrow, polars 1\.3 or nanoarrow"):
        pages().__arrow_c_stream__()


def test_a_schema_that_no_maker_can_fulfill_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    nanoarrow = pytest.importorskip("nanoarrow", reason="nanoarrow: pip install --group frames")
    use_only(monkeypatch, "nanoarrow")
    wanted = nanoarrow.struct({"url": nanoarrow.large_string()}).__arrow_c_schema__()
    stream = pages(HeatmapPage(url="/", total_interactions=1)).__arrow_c_stream__(wanted)
    rows = nanoarrow.ArrayStream(nanoarrow.c_array_stream(stream)).read_all().to_pylist()
    assert rows == [{"url": "/", "total_interactions": 1, "last_updated": None}]


def read(maker: str, made: Any) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The types and rows of a table, by the package that makes it."""
    if maker == "nanoarrow":
        nanoarrow: Any = sys.modules["nanoarrow"]
        array = nanoarrow.ArrayStream(made).read_all()
        names = {"double": "float64", "timestamp": PAGE_TYPES["last_updated"]}
        found = {field.name: str(field.type.name).lower() for field in array.schema.fields}
        return {name: names.get(kind, kind) for name, kind in found.items()}, array.to_pylist()
    if maker == "polars":
        polars: Any = sys.modules["polars"]
        frame = polars.DataFrame(made)
        names = {"String": "string", "Int64": "int64", "Float64": "float64", "Boolean": "bool", "Date": "date32"}
        found = {name: str(kind) for name, kind in frame.schema.items()}
        times = "Datetime(time_unit='us', time_zone='UTC')"
        kinds = {name: PAGE_TYPES["last_updated"] if kind == times else names[kind] for name, kind in found.items()}
        return kinds, frame.to_dicts()
    pyarrow: Any = sys.modules["pyarrow"]
    table = pyarrow.table(made)
    names = {"double": "float64", "date32[day]": "date32"}
    return {field.name: names.get(str(field.type), str(field.type)) for field in table.schema}, table.to_pylist()


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each package that makes Arrow tables, as if it were the only one."""
    name: str = request.param
    pytest.importorskip(name, reason=f"{name}: pip install --group frames")
    use_only(monkeypatch, name)
    return name


KINDS = {
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "time": "timestamp[us, tz=UTC]",
    "date": "date32",
}


@pytest.mark.parametrize("endpoint", TABLES, ids=named)
def test_each_result_is_the_same_arrow_table_with_and_without_rows(maker: str, endpoint: Endpoint) -> None:
    result = table(endpoint)
    types, rows = read(maker, result)
    assert rows == result.rows()
    documented = result._column_types()
    if documented:
        assert types == {name: KINDS.get(documented[name], "string") for name in documented}
        assert read(maker, without_rows(result)) == (types, [])
    else:
        assert list(read(maker, without_rows(result))[0]) == list(types)


def test_the_table_of_a_batch_is_an_arrow_table(maker: str) -> None:
    types, rows = read(maker, combined())
    assert types == {"website_id": "string", **PAGE_TYPES}
    assert rows == [{"website_id": "a", "url": "/", "total_interactions": 3, "last_updated": NOON}]


def test_undocumented_columns_have_the_types_of_their_values(maker: str) -> None:
    day = DailyStats(date=date(2026, 5, 1), extra={"rate": 0.5, "tags": ["a"], "none": None})
    overview = AnalyticsOverview(website=WebsiteSummary(), summary=AnalyticsSummary(), daily_stats=(day,))
    types, rows = read(maker, overview)
    assert [types[f"extra.{name}"] for name in ("rate", "tags", "none")] == ["float64", "string", "string"]
    assert rows[0]["extra.tags"] == '["a"]'


@given(
    st.lists(
        st.builds(
            HeatmapPage,
            url=st.text(st.characters(codec=None)),
            total_interactions=st.integers(),
            last_updated=st.none() | st.datetimes(timezones=st.timezones() | st.just(UTC)),
        )
    )
)
def test_no_value_of_a_result_keeps_it_from_being_a_column(items: list[HeatmapPage]) -> None:
    result = pages(*items)
    found = arrow_columns(result._column_types(), result.rows())
    assert [len(column.values) for column in found] == [len(items)] * 3
    for column in found:
        expected = {"text": str, "integer": int, "time": int}[column.kind]
        assert all(value is None or isinstance(value, expected) for value in column.values)
    "".join(text for text in found[0].values).encode()


def as_python(frame: Any) -> list[dict[str, Any]]:
    """The rows of a pandas frame, whose missing values are not ``None``."""
    missing: Any = sys.modules["pandas"].isna
    rows = frame.to_dict("records")
    return [{name: None if missing(value) else value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("result", [*map(table, TABLES), combined()], ids=lambda result: type(result).__name__)
def test_the_one_liners_of_the_guide_make_the_same_table(result: Any) -> None:
    modules = [
        pytest.importorskip(name, reason=f"{name}: pip install --group frames")
        for name in ("duckdb", "pandas", "polars", "pyarrow")
    ]
    duckdb: Any
    duckdb, pd, pl, pa = modules
    empty = without_rows(result) if not isinstance(result, BatchTable) else pages()
    for each in (result, empty):
        expected = each.rows()
        assert pa.table(each).to_pylist() == expected
        assert pl.DataFrame(each).to_dicts() == expected
        relation = duckdb.sql("from each")
        assert [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()] == expected
        frames = [pd.DataFrame(each.columns())]
        if hasattr(pd.DataFrame, "from_arrow"):
            frames.append(pd.DataFrame.from_arrow(each))
        for frame in frames:
            assert list(frame.columns) == list(each.columns())
            assert as_python(frame) == expected
    for frame in (pd.DataFrame(result), pd.DataFrame(result.rows())):
        pd.testing.assert_frame_equal(frame, pd.DataFrame(result.columns()))
    assert pl.DataFrame(result.rows()).equals(pl.DataFrame(result))
