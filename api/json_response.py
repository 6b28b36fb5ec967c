"""JSON as it leaves: orjson, instants in RFC 3339 UTC with "Z"."""

from typing import Any

import orjson
from starlette.responses import Response

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def dump(content: Any) -> bytes:
    """Serialise plain values, dataclasses, dates and aware instants."""
    return orjson.dumps(content, option=_OPTIONS)


class Json(Response):
    """A JSON answer that needs no validation: it is built from the books' own types."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialise, or pass on bytes that were serialised before (a repeated answer)."""
        return content if isinstance(content, bytes) else dump(content)
