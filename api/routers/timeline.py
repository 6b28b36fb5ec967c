"""What happened to a circuit: its changes of state and the commands to its relay."""

from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.queries import DEFAULT_LIMIT, MAX_LIMIT
from api.queries import Query as QueryModel
from api.roles import PREFIX
from dormpower.books.residencies import within
from dormpower.books.tables import commands, state_changes

router = APIRouter(prefix=PREFIX, tags=["rooms"])


class TimelineEntry(BaseModel):
    """A change of state (from, to, why, by whom), or a command (which relay state, and how it ended)."""

    at: datetime
    type: Literal["state", "command"]
    from_state: str | None = None
    to_state: str | None = None
    cause: str | None = None
    actor: str | None = None
    relay: str | None = None
    outcome: str | None = None
    read_back_relay: str | None = None


class TimelineJson(BaseModel):
    """The latest entries, newest first."""

    items: list[TimelineEntry]


class TimelineQuery(QueryModel):
    """How many entries."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


@router.get("/circuits/{circuit_id}/timeline", response_model=TimelineJson, summary="What happened")
def timeline(
    circuit_id: str, wanted: Annotated[TimelineQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return what happened to a circuit, newest first; residents see the time of their own residency."""
    changed = (
        sa.select(state_changes)
        .where(state_changes.c.circuit_id == circuit_id, within(allowed.spans, state_changes.c.changed_at))
        .order_by(state_changes.c.changed_at.desc(), state_changes.c.state_change_id.desc())
        .limit(wanted.limit)
    )
    sent = (
        sa.select(commands)
        .where(commands.c.circuit_id == circuit_id, within(allowed.spans, commands.c.recorded_at))
        .order_by(commands.c.recorded_at.desc())
        .limit(wanted.limit)
    )
    with context.books.read() as connection:
        items = [_change(row) for row in connection.execute(changed).mappings()]
        items += [_command(row) for row in connection.execute(sent).mappings()]
    items.sort(key=lambda item: item["at"], reverse=True)
    return Json({"items": items[: wanted.limit]})


def _change(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "at": row["changed_at"],
        "type": "state",
        "from_state": row["from_state"],
        "to_state": row["to_state"],
        "cause": row["cause"],
        "actor": row["actor"],
        "relay": row["relay"],
        "outcome": None,
        "read_back_relay": None,
    }


def _command(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "at": row["recorded_at"],
        "type": "command",
        "from_state": None,
        "to_state": None,
        "cause": None,
        "actor": None,
        "relay": row["relay"],
        "outcome": row["outcome"],
        "read_back_relay": row["read_back_relay"],
    }
