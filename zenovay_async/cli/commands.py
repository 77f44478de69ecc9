"""A command for each operation: the signature that cyclopts parses, and the job that it makes."""

from __future__ import annotations

from inspect import Parameter as Argument
from inspect import Signature
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import App, Parameter

from zenovay_async import ConfigurationError
from zenovay_async._protocol.parameters import encode_query
from zenovay_async.cli.examples import examples_of
from zenovay_async.cli.operations import SITE_ID, Operation, Request, dashed, first_paragraph, operations, resources
from zenovay_async.cli.options import All, Common, Ids, Params, PerWebsite, Take, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

# Any, as type checkers take a subscript of Annotated for a type, and this one has values that are computed.
_ANNOTATED: Any = Annotated


def add_commands(app: App) -> None:
    """Add a group for each resource of the client, and a command for each operation."""
    groups: dict[tuple[str, ...], App] = {(): app}
    for name, resource in resources().items():
        # Its docstring starts with the attribute, which is the name of the group.
        described = first_paragraph(resource)
        text = described.partition(": ")[2] or described
        groups[(name,)] = App(name=dashed(name), help=text[:1].upper() + text[1:])
        app.command(groups[(name,)])
    for operation in operations():
        group = groups[operation.path[:-1]]
        group.command(_command(operation), name=dashed(operation.path[-1]), help=_help(operation))


def _help(operation: Operation) -> str:
    summary = operation.summary
    if operation.is_paged:
        summary = f"{summary} One page; more with --take or --all."
    if operation.takes_site_id:
        summary = f"{summary} Pass the ID of a website: --param {SITE_ID}=ID."
    return "\n".join([summary, "", "For example:", "", *(f"  {example}" for example in examples_of(operation))])


def _command(operation: Operation) -> Callable[..., int]:
    signature = Signature(_arguments(operation))

    def command(*args: Any, **kwargs: Any) -> int:
        from zenovay_async.cli.run import Job, run  # noqa: PLC0415 - slow to import, and help does not need it

        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        common: Common = given["common"]
        arguments = {argument.name: given[argument.name] for argument in operation.arguments}
        request = Request(
            operation,
            {name: value for name, value in arguments.items() if value is not None},
            _parameters(operation, given["param"]),
            given.get("take"),
            bool(given.get("all")),
        )
        options = common if isinstance(common, PerWebsite) else PerWebsite(**vars(common))
        return run(Job(request, given.get("ids", ()), options))

    command.__dict__["__signature__"] = signature
    command.__annotations__ = {argument.name: argument.annotation for argument in signature.parameters.values()}
    return command


def _arguments(operation: Operation) -> list[Argument]:
    """The arguments of a command: those of the method, the IDs, and the options."""
    arguments = [_documented(argument, operation) for argument in operation.arguments]
    if operation.is_per_website:
        arguments.append(Argument("ids", Argument.VAR_POSITIONAL, annotation=Ids))
    if operation.is_paged:
        arguments.append(_option("take", Take, None))
        arguments.append(_option("all", All, None))
    arguments.append(_option("param", Params, ()))
    options = PerWebsite() if operation.is_per_website else Common()
    arguments.append(_option("common", type(options), options))
    return sorted(arguments, key=lambda argument: argument.kind)


def _documented(argument: Argument, operation: Operation) -> Argument:
    is_number = int in (argument.annotation, *get_args(argument.annotation))
    described = Parameter(help=operation.help.get(argument.name), converter=whole_number if is_number else None)
    # What may be omitted is an option alone: a word too many is an error, not the value of an option.
    kind = argument.kind if argument in operation.required else Argument.KEYWORD_ONLY
    return argument.replace(annotation=_ANNOTATED[_parsed_type(argument.annotation), described], kind=kind)


def _parsed_type(hint: Any) -> Any:
    """The type that a command line parses: any text, if the documented values are not the only ones."""
    return str | None if str in get_args(hint) else hint


def _option(name: str, annotation: Any, default: Any) -> Argument:
    return Argument(name, Argument.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameters(operation: Operation, param: tuple[str, ...]) -> dict[str, str]:
    named = {name: value for name, equals, value in (text.partition("=") for text in param) if name.strip() and equals}
    if len(named) < len(param):
        raise ConfigurationError(f"--param {' '.join(param)}: expected NAME=VALUE, each name once")
    for argument in operation.arguments:
        if argument.name in named:
            raise ConfigurationError(
                f"--param {argument.name}: this command has an option for it; pass --{dashed(argument.name)}"
            )
    try:
        encode_query(named)
    except ConfigurationError as error:
        raise ConfigurationError(f"--param {error}") from None
    return named
