"""Every method of a resource describes one call, documents its parameters, and can be replaced in a test."""

from __future__ import annotations

import inspect
import re
import typing
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import AsyncMock, call, create_autospec
from urllib.parse import parse_qsl

import msgspec
import pytest
from endpoints import DOCUMENTED, ENDPOINTS, OPERATIONS, Endpoint, Range, is_of, named, ranges

import zenovay_async
from zenovay_async import ConfigurationError, HeatmapPages, Heatmaps, Zenovay
from zenovay_async.resources.base import Resource
from zenovay_async.resources.client_methods import ClientMethods

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async import Response
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.parameters import Timeout

T = TypeVar("T")

RESOURCES: dict[str, type[Resource]] = {
    name: cls for name in dir(Zenovay) if inspect.isclass(cls := getattr(Zenovay, name)) and issubclass(cls, Resource)
}


def public_methods(cls: type) -> dict[str, Callable[..., Any]]:
    return {name: item for name, item in vars(cls).items() if inspect.isfunction(item) and not name.startswith("_")}


METHODS = {
    f"{attribute}.{name}": method
    for attribute, cls in RESOURCES.items()
    for name, method in public_methods(cls).items()
} | public_methods(ClientMethods)


class NotSentError(Exception):
    """The call was described, and no more."""


class Recorder:
    """A caller that records calls and sends none."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    async def send(self, call: Call[T], timeout: Timeout) -> Response[T]:
        self.calls.append(call)
        raise NotSentError(timeout)

    def client(self) -> Any:
        """The resources of a client, without the client."""
        own = ClientMethods(self)
        resources = {name: cls(self) for name, cls in RESOURCES.items()}
        return SimpleNamespace(**resources, **{name: getattr(own, name) for name in public_methods(ClientMethods)})


def test_every_endpoint_has_a_method() -> None:
    assert METHODS.keys() - {"request"} == {endpoint.name for endpoint in ENDPOINTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=named)
async def test_an_operation_is_named_like_its_method(endpoint: Endpoint) -> None:
    recorder = Recorder()
    with pytest.raises(NotSentError):
        await endpoint.call(recorder.client(), "x")
    (described,) = recorder.calls
    assert described.operation == endpoint.name
    assert described.endpoint.template == endpoint.path.lstrip("/")
    assert described.path == endpoint.path_of("x").lstrip("/")


async def test_a_call_to_any_other_endpoint_is_named_request() -> None:
    recorder = Recorder()
    with pytest.raises(NotSentError):
        await recorder.client().request("GET", "heatmaps/x/pages")
    assert recorder.calls[0].operation == "request"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_method_documents_each_parameter_in_one_line(method: Callable[..., Any]) -> None:
    """The command line makes its options and their help of it."""
    summary, _, rest = inspect.cleandoc(method.__doc__ or "").partition("\n\n")
    assert re.fullmatch(r"[A-Z].+\.", summary)
    section = rest.partition("Args:\n")[2].partition("\n\n")[0]
    documented = re.findall(r"(?m)^    (\w+): [A-Z`].+\.$", section)
    assert len(documented) == len(section.splitlines())
    assert documented == [name for name in inspect.signature(method).parameters if name != "self"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_the_annotations_of_a_method_resolve_at_run_time(method: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(method)
    assert hints.keys() == inspect.signature(method).parameters.keys() - {"self"} | {"return"}


async def describe(name: str, **arguments: Any) -> Call[Any]:
    """The call that an operation makes of these arguments."""
    recorder = Recorder()
    website = ["x"] if OPERATIONS[name].is_per_website else []
    with pytest.raises(NotSentError):
        await attrgetter(name)(recorder.client())(*website, **arguments)
    return recorder.calls[0]


# A question and its context are sent as a body, which tests of their own compare with the documented one.
@pytest.mark.parametrize("name", [name for name, found in OPERATIONS.items() if found.arguments and name != "query"])
async def test_each_parameter_is_sent_under_its_own_name(name: str) -> None:
    given: dict[str, Any] = {
        argument.name: number if is_of(argument, int) else is_of(argument, bool) or f"some {argument.name}"
        for number, argument in enumerate(OPERATIONS[name].arguments, 1)
    }
    wanted = {key: "true" if value is True else str(value) for key, value in given.items()}
    assert dict(parse_qsl((await describe(name, **given)).query)) == wanted


@pytest.mark.parametrize(
    "bounds",
    [bounds for found in OPERATIONS.values() for bounds in ranges(found)],
    ids=lambda bounds: f"{bounds.operation} {bounds.argument}",
)
async def test_the_documented_range_of_a_parameter_is_accepted_and_no_more(bounds: Range) -> None:
    name, argument, low, high = bounds
    for value in (low, low + 1, *([] if high is None else [high])):
        await describe(name, **{argument: value})
    for value in (low - 1, *([] if high is None else [high + 1])):
        with pytest.raises(ConfigurationError, match=f"^{argument}={value}: expected an int"):
            await describe(name, **{argument: value})


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_method_sends_query_parameters_that_it_does_not_know(name: str) -> None:
    """In the URL, whatever its method, and whatever they are called."""
    required = {argument.name: "some text" for argument in OPERATIONS[name].required}
    extra = {"timeout": 5, "website_id": "x", "self": True, "call": "a b", "none": None}
    described = await describe(name, **required, extra_query=extra)
    assert described.query == "call=a+b&self=true&timeout=5&website_id=x"


@pytest.mark.parametrize("name", [name for name, found in OPERATIONS.items() if found.arguments])
async def test_a_method_rejects_what_it_has_an_argument_for_and_names_the_argument(name: str) -> None:
    required = {argument.name: "some text" for argument in OPERATIONS[name].required}
    for argument in OPERATIONS[name].arguments:
        message = f"^extra_query: '{argument.name}' .* pass {argument.name}= instead$"
        with pytest.raises(ConfigurationError, match=message):
            await describe(name, **required, extra_query={argument.name: 1})


async def test_a_free_parameter_is_given_once() -> None:
    with pytest.raises(ConfigurationError, match="pass site_id= instead"):
        await describe("stats.aggregate", site_id="x", extra_query={"site_id": "x"})
    assert (await describe("stats.aggregate", site_id="x", extra_query={"timeout": 5})).query == "site_id=x&timeout=5"


@pytest.mark.parametrize("name", ["body", "endpoint", "query", "call", "caller", "path"])
async def test_a_free_parameter_may_have_any_name(name: str) -> None:
    recorder = Recorder()
    client = recorder.client()
    for method in (client.stats.aggregate, client.stats.timeseries, client.stats.breakdown):
        with pytest.raises(NotSentError):
            await method(**{name: "x y"})
    for method in (client.analytics.pages, client.analytics.technology):
        with pytest.raises(NotSentError):
            await method("x", **{name: "x y"})
    assert [(described.query, described.body) for described in recorder.calls] == [(f"{name}=x+y", None)] * 5


@pytest.mark.parametrize(
    "arguments", [{"website_id": ""}, {"limit": 0}, {"limit": 1001}, {"offset": -1}, {"range": ""}, {"range": "\udcff"}]
)
def test_a_paged_list_checks_its_arguments_before_it_is_awaited(arguments: dict[str, Any]) -> None:
    visitors = Recorder().client().analytics.visitors
    with pytest.raises(ConfigurationError):
        visitors(**{"website_id": "x", **arguments})


@pytest.mark.parametrize("cls", [*RESOURCES.values(), ClientMethods])
async def test_a_resource_can_be_bound_to_another_caller(cls: type[Resource]) -> None:
    first, second = Recorder(), Recorder()
    resource = cls(first)
    other = resource._bind(second)
    assert type(other) is cls
    assert (resource._is_bound_to(first), resource._is_bound_to(second)) == (True, False)
    assert (other._is_bound_to(first), other._is_bound_to(second)) == (False, True)


def result_structs() -> list[type[msgspec.Struct]]:
    reached: dict[type, None] = {}
    for endpoint in DOCUMENTED:
        _reach(msgspec.inspect.type_info(endpoint.result), reached)
    return list(reached)


def _reach(kind: Any, reached: dict[type, None]) -> None:
    if isinstance(kind, msgspec.inspect.StructType):
        reached[kind.cls] = None
    for name in kind.__struct_fields__:
        inner = getattr(kind, name)
        for item in inner if isinstance(inner, tuple) else (inner,):
            if isinstance(item, msgspec.inspect.Field):
                _reach(item.type, reached)
            elif isinstance(item, msgspec.inspect.Type):
                _reach(item, reached)


@pytest.mark.parametrize("struct", result_structs())
def test_a_result_struct_is_exported_and_documents_its_fields(struct: type[msgspec.Struct]) -> None:
    assert struct in {getattr(zenovay_async, name) for name in zenovay_async.__all__}
    documented = (struct.__doc__ or "").partition("Attributes:")[2]
    for field in msgspec.structs.fields(struct):
        assert f" {field.name}: " in documented


@pytest.mark.parametrize("struct", result_structs())
def test_a_result_struct_is_keyword_only(struct: type[msgspec.Struct]) -> None:
    """So that a new field in the middle breaks nobody."""
    kinds = {parameter.kind for parameter in inspect.signature(struct).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_is_the_same_object_on_each_access(name: str) -> None:
    zenovay = Zenovay("zv_resources")
    resource = getattr(zenovay, name)
    assert getattr(zenovay, name) is resource
    assert type(resource) is getattr(Zenovay, name)
    assert getattr(zenovay.with_options(timeout=5), name) is not resource


async def test_a_method_can_be_replaced_on_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls and batches use the replacement, and no request is sent."""
    expected = HeatmapPages(pages=())
    async with Zenovay("zv_mocks") as zenovay:
        pages = AsyncMock(return_value=expected)
        monkeypatch.setattr(zenovay.heatmaps, "pages", pages)
        assert await zenovay.heatmaps.pages("x", limit=3) is expected
        async with zenovay.batch(["y"], lambda site: zenovay.heatmaps.pages(site, limit=1)) as results:
            assert [result.value async for result in results] == [expected]
        assert pages.await_args_list == [call("x", limit=3), call("y", limit=1)]
        assert zenovay.quota.used is None
        monkeypatch.undo()
        assert inspect.ismethod(zenovay.heatmaps.pages)


async def test_an_autospec_of_the_client_has_the_methods_with_their_signatures() -> None:
    zenovay = create_autospec(Zenovay, instance=True)
    zenovay.heatmaps.pages.return_value = expected = HeatmapPages(pages=())
    assert await zenovay.heatmaps.pages("x", limit=3) is expected
    zenovay.heatmaps.pages.assert_awaited_once_with("x", limit=3)
    with pytest.raises(TypeError, match="website_id"):
        zenovay.heatmaps.pages(limit=3)
    with pytest.raises(AttributeError):
        zenovay.heatmaps.page  # noqa: B018 - the access is the test
    assert isinstance(zenovay.heatmaps, Heatmaps)


@pytest.mark.parametrize("struct", [struct for struct in result_structs() if "extra" in struct.__struct_fields__])
def test_extra_is_the_last_field(struct: type[msgspec.Struct]) -> None:
    assert struct.__struct_fields__[-1] == "extra"
