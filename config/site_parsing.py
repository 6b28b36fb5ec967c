"""Parsing the site file and its rooms: what pydantic found wrong, as people read it."""

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from config.faults import Findings, did_you_mean, show_key, show_value
from config.site_file import (
    EmbeddedReadings,
    InfluxReadings,
    RoomRow,
    SerialLine,
    SiteFile,
    TcpLine,
)
from config.site_values import Section

# Where a key chooses the shape: its word is part of pydantic's place, and of nobody else's.
_TAGS: dict[str, dict[str, type[Section]]] = {
    "lines": {"tcp": TcpLine, "serial": SerialLine},
    "readings": {"embedded": EmbeddedReadings, "influxdb": InfluxReadings},
}
_ROOMS: TypeAdapter[RoomRow] = TypeAdapter(RoomRow)


def parse_site_file(document: Mapping[str, Any], findings: Findings) -> SiteFile | None:
    """Check the document's values; None after noting every fault."""
    try:
        return SiteFile.model_validate(document)
    except ValidationError as fault:
        for error in fault.errors(include_url=False, include_context=False):
            key, message = describe(error, document, SiteFile)
            findings.refuse(key, message)
        return None


def parse_room(values: Mapping[str, Any]) -> RoomRow | list[tuple[str, str]]:
    """Check one room; what is wrong comes back as (column, message)."""
    try:
        return _ROOMS.validate_python(values)
    except ValidationError as fault:
        return [
            describe(error, values, RoomRow) for error in fault.errors(include_url=False, include_context=False)
        ]


def describe(error: ErrorDetails, document: Any, model: type[BaseModel]) -> tuple[str, str]:
    """Turn one error of pydantic's into (key, message); the expectation is the field's description."""
    place: list[str | int] = []
    expected = ""
    current: type[BaseModel] | None = model
    holder = current
    found: Any = document
    tags: dict[str, type[Section]] | None = None
    for part in error["loc"]:
        if tags and part in tags:  # pydantic names the chosen variant in the place; people don't
            current, tags = tags[str(part)], None
            continue
        place.append(part)
        found = _inside(found, part)
        if isinstance(part, str) and current is not None:
            holder = current
            expected, tags, current = _step(current, part, expected)
    name = str(place[-1]) if place else ""
    key = show_key(place)
    if error["type"] == "extra_forbidden":
        return key, _unknown_key(name, holder)
    if error["type"].startswith("union_tag") and tags:
        tag = "transport" if "tcp" in tags else "store"
        chosen = found.get(tag) if isinstance(found, Mapping) else found
        return f"{key}.{tag}", f"expected {' or '.join(tags)}, got {show_value(chosen, key=tag)}"
    if name == "database" and isinstance(found, str) and urlsplit(found).password:
        return key, f"a password must not stand inline; expected {expected}"
    if error["type"] in ("model_type", "model_attributes_type", "union_model_type", "dict_type") and isinstance(
        found, int | str | float
    ):
        expected = "a mapping"
    return key, f"expected {expected or error['msg'].lower()}, got {show_value(found, key=name)}"


def _unknown_key(name: str, model: type[BaseModel] | None) -> str:
    if model is not None and issubclass(model, Section) and name in model.elsewhere:
        return f"unknown key here; {model.elsewhere[name]}"
    known = _keys(model) if model else []
    from_file = [key for key in (f"{name}_file", f"{name}_env") if key in known]
    if from_file:
        return f"a secret must not stand inline; use {' or '.join(from_file)}"
    return f"unknown key{did_you_mean(name, known)}"


def _inside(found: Any, part: str | int) -> Any:
    if isinstance(found, Mapping):
        return found.get(part)
    if isinstance(found, list) and isinstance(part, int) and part < len(found):
        return found[part]
    return None


def _step(
    model: type[BaseModel], part: str, expected: str
) -> tuple[str, dict[str, type[Section]] | None, type[BaseModel] | None]:
    for name, info in model.model_fields.items():
        if part in (info.alias, name):
            text = info.description or next(
                (meta.description for meta in _metadata(info.annotation) if getattr(meta, "description", None)),
                "",
            )
            return text or expected, _TAGS.get(part), _model_in(info.annotation)
    return expected, None, None


def _metadata(annotation: Any) -> list[Any]:
    """Return the metadata of an annotation, its optional and its item types."""
    metadata = list(getattr(annotation, "__metadata__", ()))
    for argument in get_args(annotation):
        metadata += _metadata(argument)
    return metadata


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for item in get_args(annotation) if (model := _model_in(item))), None)


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]
