"""Values out of a JSON message, checked strictly: a number is never text, nor text a number; none is a float.

Numbers are read by their digits (int or Decimal), so that a register is scaled exactly and rounded once. Every
refusal names the place in the message and never repeats what was sent.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

MAX_TEXT = 128
MAX_COUNT = 2**63 - 1
MIN_YEAR, MAX_YEAR = 1999, 2200  # outside these a clock is not wrong but unset
_LARGEST_POWER_OF_TEN = 30  # before a number like 1e999999999 is written out
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER_AS_TEXT = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,12})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MISSING: Final = object()

Path = tuple[str, ...]


class UnableToReadFieldError(Exception):
    """A value that is not what the profile says; the message opens with its place."""

    def __init__(self, place: str, expected: str) -> None:
        super().__init__(f"{place}: expected {expected}")


def read_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object of a message. Raises UnableToReadFieldError."""
    try:
        document = json.loads(payload.decode("utf-8"), parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as fault:
        raise UnableToReadFieldError("payload", "a JSON object, got none that can be read") from fault
    if not isinstance(document, dict):
        raise UnableToReadFieldError("payload", "a JSON object, got another JSON value")
    return document


def find(document: Any, path: Path, *, under: str = "") -> Any:
    """Return what stands at a path, or MISSING; a number takes an item of a list."""
    found = document
    for depth, step in enumerate(path):
        if isinstance(found, dict):
            found = found.get(step, MISSING)
        elif isinstance(found, list):
            index = int(step) if step.isdecimal() and len(step) <= 3 else len(found)
            found = found[index] if index < len(found) else MISSING
        else:
            raise UnableToReadFieldError(show_place(path[:depth], under=under), "an object")
        if found is MISSING or (found is None and depth + 1 < len(path)):
            return MISSING
    return found


def show_place(path: Sequence[str], *, under: str = "") -> str:
    """Write a path as people read it: channels.0.wh."""
    return ".".join([under, *path] if under else path)


def exact(value: Any, *, form: str, place: str) -> Fraction:
    """Return a number of the given form (integer, number, text) exactly."""
    if form == "text":
        if not isinstance(value, str) or not _NUMBER_AS_TEXT.fullmatch(value):
            raise UnableToReadFieldError(place, "a decimal number written as text")
        return Fraction(value)
    if type(value) is int:
        return Fraction(value)
    if form == "integer":
        raise UnableToReadFieldError(place, "an integer")
    if not isinstance(value, Decimal) or not value.is_finite():
        raise UnableToReadFieldError(place, "a number")
    if value and abs(value.adjusted()) > _LARGEST_POWER_OF_TEN:
        raise UnableToReadFieldError(place, "a number of a size that occurs")
    return Fraction(value) if value else Fraction(0)


def count(value: Any, *, place: str, below: int = MAX_COUNT) -> int:
    """Return an integer from 0 to `below` - 1."""
    if type(value) is not int or not 0 <= value < below:
        raise UnableToReadFieldError(place, f"an integer from 0 to {below - 1}")
    return value


def text(value: Any, *, place: str) -> str:
    """Return text of 1 to 128 characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise UnableToReadFieldError(place, f"text of 1 to {MAX_TEXT} printable characters")
    return value


def items(value: Any, *, place: str, at_least: int, at_most: int) -> list[Any]:
    """Return a list of so many items."""
    if not isinstance(value, list) or not at_least <= len(value) <= at_most:
        raise UnableToReadFieldError(place, f"a list of {at_least} to {at_most} items")
    return value


def instant(value: Any, *, form: str, place: str) -> datetime:
    """Return a time of the given form (rfc3339, epoch_s, epoch_ms) in UTC."""
    try:
        at = _from_text(value, place=place) if form == "rfc3339" else _from_epoch(value, form=form, place=place)
    except (ValueError, OverflowError) as fault:
        raise UnableToReadFieldError(place, "a time that exists") from fault
    if not MIN_YEAR < at.year < MAX_YEAR:
        raise UnableToReadFieldError(place, f"a year from {MIN_YEAR + 1} to {MAX_YEAR - 1}")
    return at


def _from_text(value: Any, *, place: str) -> datetime:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise UnableToReadFieldError(place, "RFC 3339, such as 2026-03-01T08:00:00Z")
    return datetime.fromisoformat(value.upper()).astimezone(UTC)


def _from_epoch(value: Any, *, form: str, place: str) -> datetime:
    number = exact(value, form="number", place=place)
    return _EPOCH + timedelta(microseconds=round(number * (1_000_000 if form == "epoch_s" else 1_000)))
