"""A Struct to pydantic, and so to FastAPI: validation, serialization, and its JSON schema."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from pydantic_core.core_schema import (
        CoreSchema,
        SerializerFunctionWrapHandler,
        TypedDictField,
        ValidatorFunctionWrapHandler,
    )

# A field in the section "Attributes" of a docstring, with the lines that continue it.
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {5,}.+)*)", re.MULTILINE)


def core_schema_of(cls: type[msgspec.Struct], handler: Any) -> CoreSchema:
    """Make the schema by which pydantic validates and serializes a Struct.

    An instance is valid as it is; an object is validated field by field, by the names of the API or of the attributes.

    Args:
        cls: The class.
        handler: Makes the schemas of other types.
    """
    from pydantic_core import core_schema  # noqa: PLC0415 - pydantic is the caller, and no dependency

    fields = msgspec.structs.fields(cls)
    accepted: dict[str, TypedDictField] = {}
    returned: dict[str, TypedDictField] = {}
    for field in fields:
        names: list[list[str | int]] = [[field.encode_name], [field.name]]
        accepted[field.name] = core_schema.typed_dict_field(
            handler.generate_schema(field.type), required=field.required, validation_alias=names
        )
        returned[field.encode_name] = core_schema.typed_dict_field(
            handler.generate_schema(field.type), required=field.name != "extra"
        )

    def validate(value: Any, validate_object: ValidatorFunctionWrapHandler) -> msgspec.Struct:
        return value if isinstance(value, cls) else cls(**validate_object(value))

    def serialize(result: Any, serialize_object: SerializerFunctionWrapHandler) -> Any:
        values = {field.encode_name: getattr(result, field.name) for field in fields}
        if not values.get("extra", True):
            del values["extra"]
        return serialize_object(values)

    accepted_object = core_schema.typed_dict_schema(accepted)
    return core_schema.json_or_python_schema(
        # Not through a function around it, which strict validation would take for Python's own values.
        core_schema.no_info_after_validator_function(lambda values: cls(**values), accepted_object),
        core_schema.no_info_wrap_validator_function(validate, accepted_object),
        ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        # Around the object, so that a caller's include= and exclude= reach its fields.
        serialization=core_schema.wrap_serializer_function_ser_schema(
            serialize, schema=core_schema.typed_dict_schema(returned)
        ),
    )


def json_schema_of(cls: type[msgspec.Struct], core: Any, handler: Any) -> dict[str, Any]:
    """Make the JSON schema of a Struct, named and described with the texts of its docstring.

    Args:
        cls: The class.
        core: From :func:`core_schema_of`.
        handler: Makes JSON schemas, and resolves references.
    """
    json_schema: dict[str, Any] = handler(core["serialization"]["schema"] if handler.mode == "serialization" else core)
    schema = cast("dict[str, Any]", handler.resolve_ref_schema(json_schema))
    text, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:\n")
    schema["title"] = cls.__name__
    if text:
        schema["description"] = _plain(text)
    descriptions = {name: _plain(found) for name, found in _ATTRIBUTE.findall(attributes)}
    for field in msgspec.structs.fields(cls):
        described = schema.get("properties", {}).get(field.encode_name)
        if described is not None and field.name in descriptions:
            described["description"] = descriptions[field.name]
    return json_schema


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())
