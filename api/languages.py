"""Which language a person reads: the best match of Accept-Language with the site's languages."""

from collections.abc import Sequence

from dormpower.messages.catalogue import Language

_MAX_HEADER = 200


def choose_language(accept_language: str | None, languages: Sequence[Language]) -> Language:
    """Return one of `languages`; the first of them where the header names none."""
    best, best_quality = languages[0], 0.0
    for part in (accept_language or "")[:_MAX_HEADER].split(","):
        tag, _, parameters = part.strip().partition(";")
        quality = _quality(parameters)
        primary = tag.split("-")[0].lower()
        for language in languages:
            if language == primary and quality > best_quality:
                best, best_quality = language, quality
    return best


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return max(0.0, min(1.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
