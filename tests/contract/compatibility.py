"""Compatibility of JSON Schemas: whether all that one of them accepts is accepted by another.

For the dialect that msgspec writes, and for nothing else: a keyword that is not known here is an error, so that a
new one can't slip through.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_SAYS_NOTHING = {"description", "title", "default", "$schema", "$defs", "examples"}
_LOWER = {"minimum", "exclusiveMinimum", "minLength", "minItems"}
_UPPER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems"}
_KNOWN = (
    _SAYS_NOTHING
    | _LOWER
    | _UPPER
    | {
        *("$ref", "type", "properties", "required", "items", "prefixItems", "anyOf", "enum", "const"),
        *("additionalProperties",),
    }
)


class UnknownKeywordError(Exception):
    """A schema says something that this comparison does not understand."""


def breaks(narrow: Schema, wide: Schema) -> list[str]:
    """Return where something that `narrow` accepts may be refused by `wide`; nothing if all of it is accepted.

    Events: narrow is the released schema, wide today's: what producers of then write must be read. Alerts: narrow
    is today's, wide the released one: what is written today must be readable for readers of then.
    """
    return list(_compare(narrow, wide, narrow, wide, "$"))


def _compare(narrow: Schema, wide: Schema, narrow_root: Schema, wide_root: Schema, at: str) -> Iterator[str]:
    narrow, wide = _resolved(narrow, narrow_root), _resolved(wide, wide_root)
    for schema in (narrow, wide):
        if unknown := set(schema) - _KNOWN:
            raise UnknownKeywordError(f"{at}: {sorted(unknown)}")
    if "anyOf" in narrow:
        for branch in narrow["anyOf"]:
            yield from _compare(branch, wide, narrow_root, wide_root, at)
        return
    if "anyOf" in wide:
        ways = [list(_compare(narrow, branch, narrow_root, wide_root, at)) for branch in wide["anyOf"]]
        if all(ways):
            yield min(ways, key=len)[0]
        return
    yield from _compare_values(narrow, wide, at)
    yield from _compare_bounds(narrow, wide, at)
    yield from _compare_objects(narrow, wide, narrow_root, wide_root, at)
    yield from _compare_items(narrow, wide, narrow_root, wide_root, at)


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema


def _compare_values(narrow: Schema, wide: Schema, at: str) -> Iterator[str]:
    values = set(narrow.get("enum", [narrow["const"]] if "const" in narrow else []))
    allowed = set(wide.get("enum", [wide["const"]] if "const" in wide else []))
    if allowed and (not values or values - allowed):
        yield f"{at}: values {sorted(values - allowed) or 'of any kind'} are refused"
    if not allowed and "type" in wide:
        accepted = {"number": {"number", "integer"}}.get(wide["type"], {wide["type"]})
        seen = {_TYPES[type(value)] for value in values} or {narrow.get("type", "any type")}
        if seen - accepted:
            yield f"{at}: {', '.join(sorted(seen))} is refused, {wide['type']} expected"


def _compare_bounds(narrow: Schema, wide: Schema, at: str) -> Iterator[str]:
    for bound in (_LOWER | _UPPER) & set(wide):
        before, now = narrow.get(bound), wide[bound]
        if before is None or (before < now if bound in _LOWER else before > now):
            yield f"{at}: {bound} {before} is refused, {now} expected"


def _compare_objects(
    narrow: Schema, wide: Schema, narrow_root: Schema, wide_root: Schema, at: str
) -> Iterator[str]:
    for name in set(wide.get("required", ())) - set(narrow.get("required", ())):
        yield f"{at}.{name}: may be missing, and is required"
    before, now = narrow.get("properties", {}), wide.get("properties", {})
    for name in set(wide.get("required", ())) - set(before):
        yield f"{at}.{name}: is not written, and is required"
    for name, schema in now.items():
        if name in before:
            yield from _compare(before[name], schema, narrow_root, wide_root, f"{at}.{name}")
    if wide.get("additionalProperties") is False and (extra := set(before) - set(now)):
        yield f"{at}: {sorted(extra)} are refused"


def _compare_items(
    narrow: Schema, wide: Schema, narrow_root: Schema, wide_root: Schema, at: str
) -> Iterator[str]:
    if isinstance(wide.get("items"), Mapping):
        yield from _compare(narrow.get("items") or {}, wide["items"], narrow_root, wide_root, f"{at}[]")
    before, now = narrow.get("prefixItems", []), wide.get("prefixItems", [])
    for number, (one, other) in enumerate(zip(before, now, strict=False)):
        yield from _compare(one, other, narrow_root, wide_root, f"{at}[{number}]")
    if len(before) != len(now):
        yield f"{at}: {len(before)} items, {len(now)} expected"
