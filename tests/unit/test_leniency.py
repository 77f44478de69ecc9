"""A response that does not match the documented schema is coerced where possible, and every difference is a drift."""

from __future__ import annotations

import copy
import json
import random
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from endpoints import DOCUMENTED
from endpoints import Endpoint as DocumentedEndpoint
from helpers import URL, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from zenovay_async import AnalyticsOverview, HeatmapPages, ResponseDecodeError, Visitor, VisitorPage, Zenovay
from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.parsing import Parsed, parse_response
from zenovay_async._protocol.response import RawResponse

if TYPE_CHECKING:
    from aioresponses import aioresponses

NOW = 1_780_000_000.0


class Figures(msgspec.Struct, frozen=True):
    """One field of each kind that responses have, all required."""

    count: int
    share: float
    name: str
    on: bool
    at: AwareDatetime
    day: date


GOOD: dict[str, Any] = {
    "count": 5,
    "share": 0.5,
    "name": "n",
    "on": True,
    "at": "2026-02-07T12:00:00.000Z",
    "day": "2026-02-07",
}


def parse_body(decoder: Decoder[Any], body: bytes, *, strict: bool = False, find_drift: bool = True) -> Parsed[Any]:
    call = Endpoint("test.endpoint", "x", decoder).call()
    return parse_response(call, RawResponse(200, {}, body), NOW, strict=strict, find_drift=find_drift)


def parse(data_type: type[Any], data: Any, *, strict: bool = False, find_drift: bool = True) -> Parsed[Any]:
    body = json.dumps({"success": True, "data": data, "timestamp": "2026-02-07T12:00:00.000Z"}).encode()
    return parse_body(Decoder(data_type), body, strict=strict, find_drift=find_drift)


@pytest.mark.parametrize(
    ("field", "sent", "meant"),
    [
        ("count", 5.0, 5),
        ("count", "5", 5),
        ("count", "5.0", 5),
        ("count", "-12", -12),
        ("share", "0.25", 0.25),
        ("share", "1e-3", 0.001),
        ("name", 17, "17"),
        ("name", 1.5, "1.5"),
        ("on", "false", False),
        ("on", 1, True),
        ("at", "2026-02-07T12:00:00", datetime(2026, 2, 7, 12, tzinfo=UTC)),
        ("at", "20260207T120000Z", datetime(2026, 2, 7, 12, tzinfo=UTC)),
        ("day", "2026-02-07T12:00:00.000Z", date(2026, 2, 7)),
    ],
)
def test_a_value_of_another_type_with_the_same_meaning_is_coerced(field: str, sent: Any, meant: Any) -> None:
    result = parse(Figures, {**GOOD, field: sent})
    assert getattr(result.data, field) == meant
    assert type(getattr(result.data, field)) is type(meant)
    assert [drift.path for drift in result.drifts] == [f"$.data.{field}"]


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("count", 5.5),
        ("count", "five"),
        ("count", True),
        ("count", "１"),
        ("count", 1e300),
        ("count", None),
        ("share", "nan"),
        ("share", "1_0"),
        ("share", []),
        ("name", None),
        ("name", {}),
        ("name", True),
        ("on", 2),
        ("on", "yes"),
        ("at", "yesterday"),
        ("at", 1_700_000_000),
        ("day", "2026-13-01"),
    ],
)
def test_a_required_value_that_cannot_be_coerced_is_an_error_that_names_it(field: str, sent: Any) -> None:
    with pytest.raises(ResponseDecodeError) as caught:
        parse(Figures, {**GOOD, field: sent})
    assert caught.value.path == f"$.data.{field}"
    assert "documented" in caught.value.message
    assert caught.value.body is not None


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_required_value_is_an_error_that_names_it(field: str) -> None:
    with pytest.raises(ResponseDecodeError) as caught:
        parse(Figures, {name: value for name, value in GOOD.items() if name != field})
    assert caught.value.path == f"$.data.{field}"
    assert "missing" in caught.value.message


@pytest.mark.parametrize("sent", [None, {}, [1], "?"])
def test_an_optional_value_that_cannot_be_coerced_is_omitted_and_a_drift(sent: Any) -> None:
    result = parse(VisitorPage, {"visitors": [{"id": "v", "value_score": sent, "city": "Bern"}]})
    assert result.data.visitors == (Visitor(id="v", city="Bern"),)
    # An optional value may be null.
    expected = [] if sent is None else ["$.data.visitors[].value_score"]
    assert [drift.path for drift in result.drifts] == expected


def test_a_value_that_cannot_be_coerced_is_kept_where_undocumented_fields_are() -> None:
    day = {"date": "2026-02-07", "total_visitors": ["?"], "bounces": 1}
    days = [day, {**day, "total_visitors": None}]
    result = parse(AnalyticsOverview, {"website": {"id": "x"}, "summary": {}, "daily_stats": days})
    (first, second) = result.data.daily_stats
    assert (first.extra, second.extra) == ({"total_visitors": ["?"], "bounces": 1}, {"bounces": 1})
    assert "$.data.daily_stats[].total_visitors: a list, documented as an integer; kept in extra" in [
        str(drift) for drift in result.drifts
    ]


def test_an_optional_object_that_cannot_be_coerced_is_omitted_whole() -> None:
    result = parse(VisitorPage, {"visitors": [], "pagination": {"has_more": "perhaps"}})
    assert result.data.pagination is None
    assert "has_more" in str(result.drifts[0])


def test_the_error_names_the_index_in_a_list() -> None:
    pages = [{"url": "/", "total_interactions": 1, "last_updated": "2026-02-07T12:00:00Z"} for _ in range(3)]
    pages[2]["total_interactions"] = "many"
    with pytest.raises(ResponseDecodeError) as caught:
        parse(HeatmapPages, {"pages": pages})
    assert caught.value.path == "$.data.pages[2].total_interactions"


def test_a_thousand_items_that_differ_in_the_same_way_are_one_drift() -> None:
    result = parse(VisitorPage, {"visitors": [{"id": number} for number in range(1000)]})
    assert [str(drift) for drift in result.drifts] == ["$.data.visitors[].id: a number, documented as a string"]
    assert result.data.visitors[7].id == "7"


@pytest.mark.parametrize(
    ("field", "sent", "problem"),
    [
        ("count", "5", "a string, documented as an integer"),
        ("count", 5.0, "a number, documented as an integer"),
        ("share", "0.5", "a string, documented as a number"),
        ("name", 1.5, "a fraction (1.5), documented as a string"),
        ("on", 1, "a number, documented as a boolean"),
        ("at", "2026-02-07T12:00:00", "a string, documented as a time with its zone"),
        ("day", "2026-02-07T12:00:00", "a string, documented as a date"),
        ("more", 1, "unknown field"),
    ],
)
def test_a_drift_says_what_was_found_and_what_is_documented(field: str, sent: Any, problem: str) -> None:
    assert [str(drift) for drift in parse(Figures, {**GOOD, field: sent}).drifts] == [f"$.data.{field}: {problem}"]


def test_an_unknown_field_is_found_on_request_and_in_every_coerced_body() -> None:
    """A body that decodes is compared with the schema where ``find_drift`` says so; a coerced one always is."""
    assert parse(Figures, GOOD).drifts == ()
    assert parse(Figures, {**GOOD, "more": 1}, find_drift=False).drifts == ()
    assert [drift.path for drift in parse(Figures, {**GOOD, "more": 1}).drifts] == ["$.data.more"]
    coerced = parse(Figures, {**GOOD, "count": "5", "more": 1}, find_drift=False)
    assert [drift.path for drift in coerced.drifts] == ["$.data.count", "$.data.more"]


@pytest.mark.parametrize("strange", [b'"S\xe3o"', b"1e999"])
@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_field_that_cannot_be_decoded_breaks_no_response(strange: bytes, strict: bool) -> None:  # noqa: FBT001 - a table's column
    body = json.dumps({"success": True, "data": {"more": 0, **GOOD}}).encode().replace(b"0", strange, 1)
    if strict:
        with pytest.raises(ResponseDecodeError):
            parse_body(Decoder(Figures), body, strict=True)
    else:
        result = parse_body(Decoder(Figures), body)
        assert result.data.count == 5
        assert result.drifts


@pytest.mark.parametrize("data", [{**GOOD, "more": 1}, {**GOOD, "count": "5"}, {**GOOD, "share": "5"}])
def test_strict_accepts_nothing_but_the_documented_schema(data: Any) -> None:
    """Every time, and whether or not it is the time to look for drift."""
    for find_drift in (False, True):
        with pytest.raises(ResponseDecodeError, match="strict") as caught:
            parse(Figures, data, strict=True, find_drift=find_drift)
        assert str(caught.value.path).startswith("$.data.")
    assert parse(Figures, GOOD, strict=True).drifts == ()


def test_a_response_without_an_envelope_is_parsed_and_a_drift() -> None:
    result = parse_body(Decoder(Figures), json.dumps(GOOD).encode())
    assert result.data.count == 5
    assert str(result.drifts[0]) == "$: no envelope"


async def test_a_strict_client_raises_where_others_coerce(canned: aioresponses) -> None:
    canned.get(URL, payload={"success": True, "data": {"pages": [], "total": 0}}, repeat=True)
    async with Zenovay("zv_strict", strict=True, max_attempts=1) as zenovay:
        with pytest.raises(ResponseDecodeError, match=r"\$\.data\.total"):
            await zenovay.heatmaps.pages("x")


_ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    5.0,
    0.5,
    1e308,
    2**63,
    2**80,
    "",
    "5",
    "x",
    "\ud800",
    [],
    [None],
    {},
    {"a": 1},
    [[]],
]
CASES: list[tuple[DocumentedEndpoint, Decoder[Any]]] = [
    (endpoint, Decoder(endpoint.result)) for endpoint in DOCUMENTED if endpoint.result is not None
]


def _mutate(rng: random.Random, value: Any) -> None:
    """Drop, empty, retype, rename or add a field, anywhere."""
    targets: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            targets.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(value)
    if not targets:
        return
    node, key = rng.choice(targets)
    change = rng.choice(["drop", "null", "retype", "retype", "rename", "add"])
    if change == "drop":
        del node[key]
    elif change == "null":
        node[key] = None
    elif change == "retype" or isinstance(node, list):
        node[key] = copy.deepcopy(rng.choice(_ODD))
    elif change == "rename":
        node[str(key).upper()] = node.pop(key)
    else:
        node["".join(rng.choices("abc_", k=3))] = copy.deepcopy(rng.choice(_ODD))


@settings(max_examples=examples(3000))
@given(
    case=st.sampled_from(CASES),
    seed=st.integers(0, 2**32),
    changes=st.integers(0, 4),
    flipped=st.integers(0, 3),
)
def test_any_mutated_response_is_a_result_or_a_decode_error(
    case: tuple[DocumentedEndpoint, Decoder[Any]], seed: int, changes: int, flipped: int
) -> None:
    endpoint, decoder = case
    rng = random.Random(seed)
    data = endpoint.body()["data"]
    data = data["website"] if endpoint.name == "websites.get" else data
    for _ in range(changes):
        _mutate(rng, data)
    body = bytearray(json.dumps({"success": True, "data": data}).encode())
    for _ in range(flipped):
        # Not in the envelope: without its "success" a body may be an error of the API.
        body[rng.randrange(body.index(b'"data"') + 8, len(body))] = rng.randrange(256)
    try:
        result = parse_body(decoder, bytes(body))
    except ResponseDecodeError as error:
        assert error.path or "JSON" in error.message  # noqa: PT017 - both outcomes are fine
    else:
        # The result has the documented types, whatever was sent.
        assert msgspec.convert(msgspec.to_builtins(result.data), endpoint.result) == result.data
