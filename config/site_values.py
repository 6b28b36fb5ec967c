"""Values that several sections of the site file share, each with what is expected of it."""

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
)

_SLUG = r"^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$"
SLUG_EXPECTED = "a slug of a–z, 0–9, - and _ (at most 64)"


def _text(value: Any) -> Any:
    """Take a bare number as the text it is: building: 3."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _exact(value: Any) -> Any:
    """Take YAML's number by the digits that were written, so that no float reaches a limit in watts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(str(value)) if number else None


def _hours(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"\d\d:\d\d-\d\d:\d\d", value):
        raise ValueError("not a span of hours")
    start, end = (dt.time.fromisoformat(part) for part in value.split("-"))
    if start == end:
        raise ValueError("empty")
    return value


def _no_control(value: str) -> str:
    if any(ord(letter) < 32 for letter in value):
        raise ValueError("control characters")
    return value


def file_name(value: str) -> str:
    """Return a text that can name a file. Raises ValueError."""
    if "\0" in value:
        raise ValueError("no path has a NUL")
    return value


Slug = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(pattern=_SLUG, max_length=64),
    Field(description=SLUG_EXPECTED),
]
Name = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(min_length=1, max_length=80),
    AfterValidator(_no_control),
    Field(description="a name of 1–80 characters"),
]
FileName = Annotated[str, Field(min_length=1), AfterValidator(file_name)]
Int = Annotated[int, Strict()]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Exact = Annotated[Decimal, BeforeValidator(_exact)]
Hours = Annotated[str, BeforeValidator(_hours)]
Mode = Literal["enforce", "shadow", "off"]


class Section(BaseModel):
    """A mapping of the site file: frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Keys that somebody may look for here, and where what they would say is said instead.
    elsewhere: ClassVar[Mapping[str, str]] = {}
