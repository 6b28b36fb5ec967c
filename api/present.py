"""The present as a request sees it: campus instant and day, and the limits that a view is judged by."""

from collections.abc import Sequence

from fastapi import Request
from sqlalchemy.engine import Connection

from api.circuit_json import Reader
from api.context import ApiContext
from api.languages import choose_language
from dormpower.books import states
from dormpower.books.circuits_view import Present
from dormpower.books.residencies import Span
from dormpower.messages.catalogue import Language


def present_of(connection: Connection, context: ApiContext) -> Present:
    """Return what "now" means, taken once a request."""
    now = context.clock.now()
    return Present(
        now=now,
        today=now.astimezone(context.zone).date(),
        stale_after_s=states.stale_after_s(connection),
        arrears=context.rules(connection).arrears,
    )


def language_of(request: Request, context: ApiContext) -> Language:
    """Return the language in which this request's sentences are written."""
    return choose_language(request.headers.get("accept-language"), context.languages)


def reader_of(request: Request, context: ApiContext, spans: Sequence[Span] | None) -> Reader:
    """Return who reads the answer: in which language and zone, and which times of the room may be seen."""
    return Reader(language=language_of(request, context), zone=context.zone, spans=spans)
