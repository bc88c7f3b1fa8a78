"""JSON Schemas of message types, for the documents of the contract: made from the very types that decode and encode.

msgspec writes the schema of a value with its bounds. What it does not do, because it could not decode it, is a union of
several objects without a tag; answers are such unions, so objects and what holds them are walked here.
"""

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Schema = dict[str, Any]

_UNIONS: Final = (Union, types.UnionType)
_LISTS: Final = (list, tuple, set, frozenset, Sequence)


class Schemas:
    """Every object that was named has its place in `components`, under its type's name; a page of them too."""

    def __init__(self, *, places: str = "#/components/schemas/") -> None:
        self.components: dict[str, Schema] = {}
        self._places = places
        self._kinds: dict[str, Any] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type: of an object a reference to it."""
        origin = get_origin(kind)
        if kind is Any or kind is msgspec.Raw or isinstance(kind, TypeVar):
            return {}
        if origin in _LISTS:
            inner = [each for each in get_args(kind) if each is not Ellipsis]
            return {"type": "array", "items": self.of(inner[0])} if inner else {"type": "array"}
        if origin in (dict, Mapping):
            values = self.of(get_args(kind)[1])
            return {"type": "object", **({"additionalProperties": values} if values else {})}
        if origin in _UNIONS:
            return self._union([each for each in get_args(kind) if each is not UnsetType])
        if origin is Annotated:
            return self._bounded(*get_args(kind))
        if isinstance(origin, type) and issubclass(origin, Struct):
            (argument,) = get_args(kind)
            return self._object(origin, name=_page_name(origin, argument), argument=argument)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._object(kind, name=kind.__name__)
        return _plain(kind)

    def _union(self, kinds: Sequence[Any]) -> Schema:
        each = [self.of(kind) for kind in kinds]
        return each[0] if len(each) == 1 else {"anyOf": each}

    def _bounded(self, kind: Any, *bounds: Any) -> Schema:
        schema = self.of(kind)
        if "$ref" in schema or get_origin(kind) in _UNIONS:
            return schema
        for bound in bounds:
            if isinstance(bound, Meta):
                # Bounds of the outside alone: what is inside has its own.
                plain = list if schema.get("type") == "array" else kind
                schema |= {name: value for name, value in _plain(Annotated[plain, bound]).items() if name != "items"}
        return schema

    def _object(self, kind: Any, *, name: str, argument: Any = None) -> Schema:
        known = self._kinds.setdefault(name, (kind, argument))
        if known != (kind, argument):
            raise ValueError(f"two types are called {name}: {known[0].__module__} and {kind.__module__}")
        if name not in self.components:
            # Before its fields, one of which may hold another of its kind.
            self.components[name] = {}
            self.components[name] = self._fields(kind, argument)
        return {"$ref": self._places + name}

    def _fields(self, kind: Any, argument: Any) -> Schema:
        config = kind.__struct_config__
        hints = get_type_hints(kind, include_extras=True)
        properties: dict[str, Schema] = {}
        required: list[str] = []
        if config.tag_field is not None:
            properties[config.tag_field] = {"const": config.tag}
            required.append(config.tag_field)
        for field in msgspec.structs.fields(kind):
            hint = _filled(hints[field.name], argument)
            has_default = not field.required
            if has_default and field.default is None and config.omit_defaults:
                hint = _without_none(hint)  # it is left out then
            schema = self.of(hint)
            if has_default and _told(field.default) and "$ref" not in schema:
                schema = {**schema, "default": msgspec.to_builtins(field.default)}
            properties[field.encode_name] = schema
            if not has_default:
                required.append(field.encode_name)
        schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if config.forbid_unknown_fields:
            schema["additionalProperties"] = False
        about = kind.__dict__.get("__doc__")
        return {**({"description": _flowing(about)} if about else {}), **schema}


def _page_name(kind: Any, argument: Any) -> str:
    """Such as OrderPage for PageReply[OrderReply | LostOrderReply]."""
    first = get_args(argument)[0] if get_origin(argument) in _UNIONS else argument
    return f"{first.__name__.removesuffix('Reply')}{kind.__name__.removesuffix('Reply')}"


def _filled(hint: Any, argument: Any) -> Any:
    if argument is None:
        return hint
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(hint, TypeVar):
        return argument
    if origin in _LISTS and inner and isinstance(inner[0], TypeVar):
        return list[argument]
    return hint


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in _UNIONS:
        return hint
    kept = [each for each in get_args(hint) if each is not type(None)]
    return Union[tuple(kept)] if kept else hint  # noqa: UP007


def _told(default: Any) -> bool:
    return default is not msgspec.NODEFAULT and default is not UNSET and default is not None


def _plain(kind: Any) -> Schema:
    """Of a value that is no object, with its bounds; a set of words as the words themselves."""
    schema, named = msgspec.json.schema_components([kind])
    found: Schema = schema[0]
    if "$ref" in found:
        found = dict(named[found["$ref"].rsplit("/", 1)[1]])
        found.pop("title", None)
        found.pop("description", None)
        if "enum" in found and all(isinstance(word, str) for word in found["enum"]):
            found = {"type": "string", **found}
    return found


def _flowing(text: str) -> str:
    return inspect.cleandoc(text).replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
