"""The one catalogue of sentences, each code with Chinese and English side by side.

`catalogue.yaml` holds what is said of supply, `pages.yaml` what only the pages say.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from string import Formatter
from typing import Literal
from zoneinfo import ZoneInfo

import yaml

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
DEFAULT_LANGUAGE: Language = "zh"
_AND: Mapping[Language, str] = {"zh": "、", "en": ", "}
_FILES = ("catalogue.yaml", "pages.yaml")
MAX_HEADER_CHARACTERS = 500


class UnknownMessageError(Exception):
    """There is no sentence of this code, or a parameter is missing: a mistake of the program."""


@cache
def sentences() -> Mapping[str, Mapping[str, str]]:
    """Return the whole catalogue: code → language → sentence with {parameters}."""
    loaded: dict[str, dict[str, str]] = {}
    for name in _FILES:
        loaded |= yaml.safe_load(resources.files("dormpower.messages").joinpath(name).read_text("utf-8"))
    return loaded


def parameters(sentence: str) -> frozenset[str]:
    """Return the names of the parameters that a sentence takes."""
    return frozenset(name for _, name, _, _ in Formatter().parse(sentence) if name)


def text(code: str, params: Mapping[str, object], language: Language, *, zone: ZoneInfo | None = None) -> str:
    """Return a sentence, filled in. Instants (names ending in `_at`, RFC 3339) are written in `zone`.

    A list is filled in as the words `NAME.MEMBER` of its members (`word`); what is None is not known: a "?".

    Raises UnknownMessageError for a code that is not in the catalogue, or a parameter that is missing.
    """
    try:
        sentence = sentences()[code][language]
        return sentence.format_map(
            {name: _written(name, params[name], language, zone) for name in parameters(sentence)}
        )
    except KeyError as fault:
        raise UnknownMessageError(f"message {code!r} ({language}): {fault} is missing") from fault


def word(group: str, member: str, language: Language) -> str:
    """Return the word for one of a group that stands in the books: `alarm`, `line_down`.

    One that is not in the catalogue was written by a newer version: it is told as it stands there.
    """
    known = sentences().get(f"{group}.{member}")
    return member if known is None else known[language]


def negotiate(accept_language: str | None) -> Language:
    """Return the language that a browser asks for (RFC 9110 Accept-Language); Chinese where it can't be met."""
    wishes: list[tuple[float, int, Language]] = []
    for order, wish in enumerate((accept_language or "")[:MAX_HEADER_CHARACTERS].split(",")):
        tag, _, quality = wish.strip().partition(";")
        weight = _quality(quality)
        primary = tag.strip().lower().partition("-")[0]
        wishes.extend(
            (-weight, order, language) for language in LANGUAGES if weight > 0 and primary == language
        )
    return min(wishes)[2] if wishes else DEFAULT_LANGUAGE


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0


def _written(name: str, value: object, language: Language, zone: ZoneInfo | None) -> str:
    if value is None:
        return "?"
    if isinstance(value, list | tuple):
        return _AND[language].join(word(name, str(member), language) for member in value) or "–"
    if name.endswith("_at") and isinstance(value, str) and zone is not None:
        return datetime.fromisoformat(value).astimezone(zone).strftime("%Y-%m-%d %H:%M")
    return str(value)
