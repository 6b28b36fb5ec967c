"""What a site file with faults still tells, so that nobody learns of its other faults one run later.

A part that can't be read is stood in for: a row keeps its place and its id, so that others may refer to it, a
section is left out. What is then found about a stand-in is nobody's fault and is not told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from config.faults import Fault
from config.site_file import SiteFile
from config.site_values import Name, Slug

_SLUG: TypeAdapter[str] = TypeAdapter(Slug)
_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True, slots=True)
class ReadablePart:
    """A site file as far as it can be read, and the keys of what is stood in for."""

    file: SiteFile
    stand_ins: tuple[str, ...] = ()

    def knows(self, fault: Fault) -> bool:
        """Whether a fault is about what really stands in the file, not about a stand-in."""
        return not any(
            fault.key == place or fault.key.startswith((f"{place}.", f"{place}[")) for place in self.stand_ins
        )


def readable_part(document: Mapping[str, Any]) -> ReadablePart | None:
    """Return what can be read of a document with faults; None where too little is left to look at."""
    try:
        return ReadablePart(SiteFile.model_validate(document))
    except ValidationError as fault:
        places = [error["loc"] for error in fault.errors(include_url=False, include_context=False)]
    mended = dict(document)
    stand_ins: set[str] = set()
    for place in places:
        found = _stand_in(mended, place)
        if found is None:
            return None
        stand_ins.add(found)
    if "calendar" in stand_ins:  # what they say about days can't be looked up
        stand_ins |= {"policies.curfew", "policies.night_mode"}
    try:
        return ReadablePart(SiteFile.model_validate(mended), tuple(sorted(stand_ins)))
    except ValidationError:
        return None


def _stand_in(mended: dict[str, Any], place: Sequence[str | int]) -> str | None:
    """Put a stand-in where a fault is; returns its key, None where there is none for it."""
    section, within = str(place[0]), place[1] if len(place) > 1 else None
    if section in _ROWS:
        rows = mended.get(section)
        if not isinstance(rows, list) or not isinstance(within, int):
            return None
        row = rows[within] if isinstance(rows[within], Mapping) else {}
        mended[section] = [*rows[:within], _ROWS[section](row, within), *rows[within + 1 :]]
        return f"{section}[{within}]"
    if section == "policies" and isinstance(within, str):
        mended[section] = {key: value for key, value in mended[section].items() if key != within}
        return f"{section}.{within}"
    mended.pop(section, None)
    if section in _SECTIONS:
        mended[section] = _SECTIONS[section]
    return section


def _line(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        "id": _slug(row.get("id"), index),
        "transport": "tcp",
        "host": f"stand-in-{index}",
        "port": 1,
    }


def _module(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    profile = row.get("profile")
    return {
        "id": _slug(row.get("id"), index),
        "profile": profile if isinstance(profile, str) and profile else "stand-in",
    }


def _feeder(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {"id": _slug(row.get("id"), index), "limit_kw": 1}


def _room(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    names = {column: _name(row.get(column)) for column in ("campus", "building", "floor", "name")}
    return {"room_id": _slug(row.get("room_id"), index), **names, "rated_current_a": 1}


def _slug(value: Any, index: int) -> str:
    try:
        return _SLUG.validate_python(value)
    except ValidationError:
        return f"stand-in-{index}"


def _name(value: Any) -> str:
    try:
        return _NAME.validate_python(value)
    except ValidationError:
        return "stand-in"


_ROWS: Mapping[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
    "lines": _line,
    "modules": _module,
    "feeders": _feeder,
    "rooms": _room,
}
# Sections whose absence would be a fault of its own.
_SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "site": {"id": "stand-in", "name": "stand-in"},
    "mqtt": {"url": "mqtt://stand-in"},
}
