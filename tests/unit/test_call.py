"""A call is data: an endpoint, a path, a query and a body; each argument stays in its part of the URL."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from zenovay_async import ConfigurationError, HeatmapPages, UsageHeaders
from zenovay_async._protocol.call import CUSTOM_OPERATION, Call, Endpoint, custom_call
from zenovay_async._protocol.decoding import UNTYPED, Decoder
from zenovay_async.resources.base import free_call

DECODER = Decoder(HeatmapPages)
PAGES = Endpoint("heatmaps.pages", "heatmaps/{website_id}/pages", DECODER)
USAGE = Endpoint("usage", "usage", UNTYPED)


def test_a_call_knows_its_endpoint_operation_and_template() -> None:
    call = PAGES.call("a1")
    assert call.endpoint is PAGES
    assert (call.operation, call.endpoint.template) == ("heatmaps.pages", "heatmaps/{website_id}/pages")
    assert (call.path, call.query, call.body) == ("heatmaps/a1/pages", "", None)
    assert str(call) == "GET heatmaps/a1/pages"


def test_an_endpoint_has_defaults() -> None:
    """It is a GET that is idempotent and costs one request, unless it says otherwise."""
    assert (PAGES.method, PAGES.idempotent, PAGES.cost, PAGES.usage_of) == ("GET", True, 1, None)
    query = Endpoint("query", "query/{website_id}", DECODER, "POST", idempotent=False, cost=3)
    assert (query.method, query.idempotent, query.cost) == ("POST", False, 3)
    assert str(query.call("a1", body=b"{}")) == "POST query/a1"
    assert query.call("a1", body=b"{}").body == b"{}"


def test_an_endpoint_without_a_website_needs_none() -> None:
    assert USAGE.call().path == USAGE.template == "usage"


def test_calls_of_the_same_endpoint_and_arguments_are_equal() -> None:
    """And hash alike, so that they may be the keys of a cache; an endpoint equals only itself."""
    twin = Endpoint("heatmaps.pages", "heatmaps/{website_id}/pages", DECODER)
    assert PAGES.call("a", limit=1) == PAGES.call("a", limit=1)
    assert len({PAGES.call("a", limit=1), PAGES.call("a", limit=1), PAGES.call("b", limit=1), PAGES.call("a")}) == 3
    assert twin.call("a") != PAGES.call("a")


def test_calls_and_endpoints_are_immutable() -> None:
    call: Any = PAGES.call("a")
    for thing, name in ((call, "path"), (call.endpoint, "cost")):
        with pytest.raises(AttributeError):
            setattr(thing, name, 5)


def test_an_endpoint_finds_the_quota_in_its_result() -> None:
    endpoint = Endpoint("usage", "usage", UNTYPED, usage_of=lambda data: UsageHeaders(data["used"]))
    assert endpoint.usage_of is not None
    assert endpoint.usage_of({"used": 5}) == UsageHeaders(5)


@pytest.mark.parametrize(
    ("website_id", "path"),
    [
        ("a1b2c3d4-e5f6-7890-abcd-ef1234567890", "heatmaps/a1b2c3d4-e5f6-7890-abcd-ef1234567890/pages"),
        ("a/b", "heatmaps/a%2Fb/pages"),
        ("../x", "heatmaps/..%2Fx/pages"),
        ("a?b=c", "heatmaps/a%3Fb%3Dc/pages"),
        ("a#b", "heatmaps/a%23b/pages"),
        ("a b", "heatmaps/a%20b/pages"),
        ("a%2Fb", "heatmaps/a%252Fb/pages"),
        ("a\\b", "heatmaps/a%5Cb/pages"),
        ("ü", "heatmaps/%C3%BC/pages"),
        ("{website_id}", "heatmaps/%7Bwebsite_id%7D/pages"),
    ],
)
def test_an_id_is_quoted_whole(website_id: str, path: str) -> None:
    assert PAGES.call(website_id).path == path


@pytest.mark.parametrize("website_id", ["", " ", ".", "..", None, 5, b"a"])
def test_an_invalid_id_is_rejected(website_id: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^website_id=.*: expected an ID such as"):
        PAGES.call(website_id)


@given(st.text())
def test_an_id_never_leaves_its_path_segment(website_id: str) -> None:
    try:
        path = PAGES.call(website_id).path
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017 - either way is fine
    else:
        first, quoted, last = path.split("/")
        assert (first, unquote(quoted), last) == ("heatmaps", website_id, "pages")
        assert not set(quoted) & set("?#/ \\")


@pytest.mark.parametrize(
    ("query", "encoded"),
    [
        ({}, ""),
        ({"limit": None}, ""),
        ({"limit": 10}, "limit=10"),
        ({"limit": 10, "offset": None, "range": "7d"}, "limit=10&range=7d"),
        ({"compare": True, "exact": False}, "compare=true&exact=false"),
        ({"share": 0.5}, "share=0.5"),
        ({"range": ""}, "range="),
        ({"path": "/a b?c&d=e"}, "path=%2Fa+b%3Fc%26d%3De"),
        ({"name": "ü"}, "name=%C3%BC"),
    ],
)
def test_query_parameters_are_encoded_and_none_is_omitted(query: dict[str, Any], encoded: str) -> None:
    assert PAGES.call("a", **query).query == encoded


class Span(str, Enum):  # noqa: UP042 - what is tested
    """As the parameters of many web applications are; its ``str()`` is ``Span.WEEK``."""

    WEEK = "7d"


class Size(int, Enum):
    SMALL = 5


class Share(float, Enum):
    HALF = 0.5


def test_a_member_of_an_enum_is_sent_as_its_value() -> None:
    given: dict[Any, Any] = {"range": Span.WEEK, "limit": Size.SMALL, "share": Share.HALF}
    encoded = "limit=5&range=7d&share=0.5"
    assert PAGES.call("a", **given).query == "range=7d&limit=5&share=0.5"
    assert PAGES.call("a", extra_query=given).query == custom(params=given).query == encoded
    assert PAGES.call("a", extra_query={Span.WEEK: 1}).query == custom(params={Span.WEEK: 1}).query == "7d=1"
    assert PAGES.call(Span.WEEK).path == "heatmaps/7d/pages"


def test_a_name_that_a_mapping_has_several_times_is_sent_with_each_value_in_their_order() -> None:
    given = MultiDict[Any]([("tag", 2), ("a", 1), ("tag", "1")])
    assert PAGES.call("a", extra_query=given).query == custom(params=given).query == "a=1&tag=2&tag=1"


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in {"body", "extra_query"}),
        st.one_of(st.text(), st.integers(), st.none()),
        max_size=5,
    )
)
def test_any_query_decodes_to_what_was_given(query: dict[str, Any]) -> None:
    try:
        encoded = PAGES.call("a", **query).query
    except ConfigurationError as error:
        assert "UTF-8" in str(error)  # noqa: PT017 - either way is fine
    else:
        expected = [(name, str(value)) for name, value in query.items() if value is not None]
        assert parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded)) == expected


@pytest.mark.parametrize(
    ("extra", "encoded"),
    [
        ({}, "limit=5"),
        ({"segment": None}, "limit=5"),
        ({"segment": "a b", "Limit": 6}, "limit=5&Limit=6&segment=a+b"),
        ({"z": True, "a": 0.5, "body": 1, "extra_query": 2}, "limit=5&a=0.5&body=1&extra_query=2&z=true"),
    ],
)
def test_extra_parameters_follow_those_of_the_method(extra: dict[str, Any], encoded: str) -> None:
    assert PAGES.call("a", extra_query=extra, limit=5, range=None).query == encoded


def test_equal_extra_parameters_make_equal_calls_in_whatever_order_they_are_given() -> None:
    assert PAGES.call("a", extra_query={"x": 1, "y": 2}) == PAGES.call("a", extra_query={"y": 2, "x": 1})
    assert custom(params={"x": 1, "y": 2}).query == custom(params={"y": 2, "x": 1}).query == "x=1&y=2"
    assert free_call(USAGE, {"x": 1, "y": 2}, {"z": 1}) == free_call(USAGE, {"y": 2, "x": 1}, {"z": 1})


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("a", 1)], "extra_query: expected a mapping such as {'segment': 'mobile'}, not list"),
        ("a=1", "extra_query: expected a mapping such as {'segment': 'mobile'}, not str"),
        ({"": 1}, "extra_query: expected the name of a parameter, not ''"),
        ({" ": 1}, "extra_query: expected the name of a parameter, not ' '"),
        ({5: 1}, "extra_query: expected the name of a parameter, not int"),
        ({"limit": 1}, "extra_query: 'limit' is an argument of the method itself; pass limit= instead"),
        ({"range": None}, "extra_query: 'range' is an argument of the method itself; pass range= instead"),
        ({"a": ["zv_secret"]}, "extra_query: 'a': expected a str, a number, a bool or None, not list"),
        ({"a": b"zv_secret"}, "extra_query: 'a': expected a str, a number, a bool or None, not bytes"),
        ({"a": "\udcff"}, "a='\\udcff': not valid Unicode; expected text that UTF-8 can encode"),
    ],
)
def test_extra_parameters_that_cannot_be_are_rejected_and_their_values_not_shown(extra: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PAGES.call("a", extra_query=extra, limit=5, range=None)
    assert caught.value.message == message


def custom(
    method: Any = "GET",
    path: Any = "new/x",
    params: Any = None,
    body: Any = None,
    result_type: Any = None,
    cost: Any = 1,
) -> Call[Any]:
    return custom_call(method, path, params, body, result_type, cost)


def test_a_custom_get_is_idempotent_and_a_custom_post_is_not() -> None:
    get = custom(params={"range": "7d", "limit": None}, cost=2)
    assert (get.operation, str(get), get.query, get.body) == (CUSTOM_OPERATION, "GET new/x", "range=7d", None)
    assert (get.endpoint.idempotent, get.endpoint.cost, get.endpoint.decoder) == (True, 2, UNTYPED)
    post = custom("POST", body={"a": [1, None]})
    assert (str(post), post.endpoint.idempotent) == ("POST new/x", False)
    assert json.loads(post.body or b"") == {"a": [1, None]}


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/new/x/", "new/x"),
        ("new/a b", "new/a%20b"),
        ("new/a%20b", "new/a%20b"),
        ("new/ü", "new/%C3%BC"),
        ("new/a#b", "new/a%23b"),
        ("new/a\\b", "new/a%5Cb"),
        ("new/a:b@c", "new/a:b@c"),
    ],
)
def test_a_custom_path_is_quoted_once(path: str, quoted: str) -> None:
    call = custom(path=path)
    assert call.path == call.endpoint.template == quoted


@pytest.mark.parametrize(
    "path",
    ["", "/", "https://elsewhere.example/x", "a//b", "a/../b", "..", "../x", "./a", "a?b=c", None, 5, b"new/x"],
)
def test_a_custom_path_that_leads_elsewhere_is_rejected(path: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        custom(path=path)
    assert caught.value.message == (
        f"path={path!r}: expected a path below the base URL such as 'heatmaps/{{id}}/pages'; "
        "pass query parameters as params="
    )


class Record(msgspec.Struct):
    count: int


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "DELETE"}, "method='DELETE': expected 'GET' or 'POST'"),
        ({"method": "get"}, "method='get': expected 'GET' or 'POST'"),
        ({"method": ["GET"]}, "method=['GET']: expected 'GET' or 'POST'"),
        ({"cost": 0}, "cost=0: expected an int >= 1"),
        ({"cost": True}, "cost=True: expected an int >= 1"),
        ({"params": "range=7d"}, "params='range=7d': expected a mapping such as {'range': '7d'}"),
        ({"params": {5: "7d"}}, "params={5: '7d'}: expected a mapping such as {'range': '7d'}"),
        ({"params": {"": "7d"}}, "params={'': '7d'}: expected a mapping such as {'range': '7d'}"),
        ({"params": {"range": ["7d"]}}, "range=['7d']: expected a str, a number, a bool or None"),
        (
            {"result_type": object},
            (
                "result_type=<class 'object'>: cannot be decoded (msgspec does not know this class); "
                "expected a Struct, a dataclass, a TypedDict, a list of them, or None for plain values"
            ),
        ),
    ],
)
def test_an_invalid_argument_of_a_custom_call_is_rejected_by_its_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        custom(**arguments)
    assert caught.value.message == message


@pytest.mark.parametrize("result_type", [[], 5, "Record", {"a": int}])
def test_a_result_type_that_is_no_type_is_rejected(result_type: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^result_type="):
        custom(result_type=result_type)


def test_a_result_type_has_one_decoder() -> None:
    """Building it costs more than a call, and drift is reported by it."""
    assert custom(result_type=Record).endpoint.decoder is custom(path="new/y", result_type=Record).endpoint.decoder
    data = custom(result_type=Record).endpoint.decoder.decode(b'{"success": true, "data": {"count": 5}}').data
    assert data == Record(5)


def test_a_body_that_refers_to_itself_is_rejected() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigurationError, match=r"^json: cannot encode this list as JSON"):
        custom("POST", body=endless)
