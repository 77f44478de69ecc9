"""An answer that strays from the documented shape is read as far as it has a meaning, and said to stray, once."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import random
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from endpoints import DOCUMENTED, Endpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from zenovay_async import Event, HeatmapPages, ResponseDecodeError, SchemaDrift, Visitor, VisitorPage, Zenovay
from zenovay_async._protocol.auth import DEFAULT_BASE_URL
from zenovay_async._protocol.call import Call
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.response import RawResponse

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from zenovay_async._protocol.leniency import Drift

NOW = 1_780_000_000.0
URL = f"{DEFAULT_BASE_URL}/heatmaps/x/pages"
_numbers = itertools.count()


class Figures(msgspec.Struct, frozen=True):
    """One field of each kind that answers are made of, all required."""

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


class Reading(NamedTuple):
    """What was read of an answer."""

    data: Any
    drifts: tuple[Drift, ...]


def read_in(call: Call[Any], body: bytes, *, strict: bool = False, now: float = NOW) -> Reading:
    """What is read of the answer to a call."""
    envelope, drifts = read(call, RawResponse(200, {}, body), now, strict=strict)
    return Reading(envelope.data, drifts)


def reading(data_type: type[Any], data: Any, *, strict: bool = False, decoder: Any = None, now: float = NOW) -> Reading:
    """What is read of an answer with this data."""
    body = json.dumps({"success": True, "data": data, "timestamp": "2026-02-07T12:00:00.000Z"}).encode()
    return read_in(Call("GET", "x", decoder or Decoder(data_type)), body, strict=strict, now=now)


@pytest.mark.parametrize(
    ("field", "sent", "read_as"),
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
def test_a_value_of_another_type_with_the_same_meaning_is_read(field: str, sent: Any, read_as: Any) -> None:
    found = reading(Figures, {**GOOD, field: sent})
    assert getattr(found.data, field) == read_as
    assert type(getattr(found.data, field)) is type(read_as)
    assert [drift.path for drift in found.drifts] == [f"$.data.{field}"]


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
def test_a_required_value_without_a_meaning_is_an_error_that_names_it(field: str, sent: Any) -> None:
    with pytest.raises(ResponseDecodeError) as caught:
        reading(Figures, {**GOOD, field: sent})
    assert caught.value.path == f"$.data.{field}"
    assert "documented" in caught.value.message
    assert caught.value.body is not None


@pytest.mark.parametrize("field", GOOD)
def test_a_required_value_that_is_missing_is_an_error_that_names_it(field: str) -> None:
    with pytest.raises(ResponseDecodeError) as caught:
        reading(Figures, {name: value for name, value in GOOD.items() if name != field})
    assert caught.value.path == f"$.data.{field}"
    assert "missing" in caught.value.message


@pytest.mark.parametrize("sent", [None, {}, [1], "?"])
def test_an_optional_value_without_a_meaning_is_left_out_and_told(sent: Any) -> None:
    visitors = {"visitors": [{"id": "v", "value_score": sent, "city": "Bern"}]}
    found = reading(VisitorPage, visitors)
    assert found.data.visitors == (Visitor("v", city="Bern"),)
    # A null is what an optional value may be.
    told = [] if sent is None else ["$.data.visitors[].value_score"]
    assert [drift.path for drift in found.drifts] == told


def test_an_optional_object_that_cannot_be_read_is_left_out_whole() -> None:
    found = reading(VisitorPage, {"visitors": [], "pagination": {"has_more": "perhaps"}})
    assert found.data.pagination is None
    assert "has_more" in str(found.drifts[0])


def test_the_error_names_the_place_in_a_list() -> None:
    pages = [{"url": "/", "total_interactions": 1, "last_updated": "2026-02-07T12:00:00Z"} for _ in range(3)]
    pages[2]["total_interactions"] = "many"
    with pytest.raises(ResponseDecodeError) as caught:
        reading(HeatmapPages, {"pages": pages})
    assert caught.value.path == "$.data.pages[2].total_interactions"


def test_a_thousand_items_that_stray_in_the_same_way_are_one_finding() -> None:
    found = reading(VisitorPage, {"visitors": [{"id": number} for number in range(1000)]})
    assert [str(drift) for drift in found.drifts] == ["$.data.visitors[].id: a number where text is documented"]
    assert found.data.visitors[7].id == "7"


def test_a_field_that_is_not_known_is_told_of_whenever_it_comes_and_looked_for_once_a_second_at_most() -> None:
    decoder, more = Decoder(Figures), {**GOOD, "more": 1}
    assert reading(Figures, GOOD, decoder=decoder).drifts == ()
    assert reading(Figures, more, decoder=decoder, now=NOW + 0.9).drifts == ()
    assert [drift.path for drift in reading(Figures, more, decoder=decoder, now=NOW + 1).drifts] == ["$.data.more"]


@pytest.mark.parametrize("strange", [b'"S\xe3o"', b"1e999"])
@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_field_that_cannot_be_read_breaks_no_answer(strange: bytes, strict: bool) -> None:  # noqa: FBT001 - a table's column
    body = json.dumps({"success": True, "data": {"more": 0, **GOOD}}).encode().replace(b"0", strange, 1)
    call: Call[Any] = Call("GET", "x", Decoder(Figures))
    if strict:
        with pytest.raises(ResponseDecodeError):
            read_in(call, body, strict=True)
    else:
        found = read_in(call, body)
        assert found.data.count == 5
        assert found.drifts


@pytest.mark.parametrize("data", [{**GOOD, "more": 1}, {**GOOD, "count": "5"}, {**GOOD, "share": "5"}])
def test_a_strict_client_takes_nothing_but_the_documented_shape(data: Any) -> None:
    decoder = Decoder(Figures)
    for _ in range(2):
        with pytest.raises(ResponseDecodeError, match="strict"):
            reading(Figures, data, strict=True, decoder=decoder)
    assert reading(Figures, GOOD, strict=True, decoder=decoder).drifts == ()


def test_a_bare_answer_is_read_and_said_to_be_bare() -> None:
    body = json.dumps(GOOD).encode()
    found = read_in(Call("GET", "x", Decoder(Figures)), body)
    assert found.data.count == 5
    assert str(found.drifts[0]) == "$: no envelope around it"


def test_a_server_with_endless_new_fields_does_not_fill_the_memory() -> None:
    decoder = Decoder(Figures)
    for number in range(1200):
        found = reading(Figures, {**GOOD, f"f{number}": 1, "count": "5"}, decoder=decoder)
        decoder.not_told(found.drifts)
    assert len(decoder._told) <= 1001


async def test_each_drift_is_logged_and_told_to_the_listener_once(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    class Fresh(msgspec.Struct):
        count: int

    events: list[Event] = []
    canned.get(f"{DEFAULT_BASE_URL}/new/x", payload={"success": True, "data": {"count": "5"}}, repeat=True)
    async with Zenovay(f"zv_drift_{next(_numbers)}", on_event=events.append) as zenovay:
        with caplog.at_level(logging.WARNING, "zenovay_async"):
            for _ in range(3):
                assert (await zenovay.request("GET", "new/x", result_type=Fresh)).count == 5
    problem = "text where a whole number is documented"
    assert events == [SchemaDrift("GET new/x", "$.data.count", problem)]
    assert [record.getMessage() for record in caplog.records] == [
        f"GET new/x: the answer strays from the documented shape: $.data.count: {problem}"
    ]


async def test_a_strict_client_raises_what_others_read(canned: aioresponses) -> None:
    canned.get(URL, payload={"success": True, "data": {"pages": [], "total": 0}}, repeat=True)
    async with Zenovay(f"zv_drift_{next(_numbers)}", strict=True, max_attempts=1) as zenovay:
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
CASES: list[tuple[Endpoint, Decoder[Any]]] = [
    (endpoint, Decoder(endpoint.result)) for endpoint in DOCUMENTED if endpoint.result is not None
]


def _mutate(rng: random.Random, value: Any) -> None:
    """Drop, empty, retype, rename or add a field, anywhere."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(value)
    if not places:
        return
    node, key = rng.choice(places)
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


@settings(max_examples=3000, deadline=None)
@given(
    case=st.sampled_from(CASES),
    seed=st.integers(0, 2**32),
    changes=st.integers(0, 4),
    flipped=st.integers(0, 3),
)
def test_whatever_an_answer_turns_into_it_is_a_result_or_a_decode_error(
    case: tuple[Endpoint, Decoder[Any]], seed: int, changes: int, flipped: int
) -> None:
    endpoint, decoder = case
    rng = random.Random(seed)
    data = endpoint.body()["data"]
    data = data["website"] if endpoint.name == "websites.get" else data
    for _ in range(changes):
        _mutate(rng, data)
    body = bytearray(json.dumps({"success": True, "data": data}).encode())
    for _ in range(flipped):
        # Not in the envelope: what no longer says "success" may be an error of the API.
        body[rng.randrange(body.index(b'"data"') + 8, len(body))] = rng.randrange(256)
    decoder.look_at = 0.0
    try:
        found = read_in(Call("GET", "x", decoder), bytes(body))
    except ResponseDecodeError as error:
        assert error.path or "JSON" in error.message  # noqa: PT017 - both outcomes are fine
    else:
        # What was read is of the documented types, whatever was sent.
        assert msgspec.convert(msgspec.to_builtins(found.data), endpoint.result) == found.data
