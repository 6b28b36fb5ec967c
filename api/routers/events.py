"""`GET /events`: what changes, as it changes (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from api.access import Allowed, Principal, Proof, context_of, find_principal
from api.circuit_json import circuit_json
from api.context import ApiContext
from api.event_feed import Batch, EventFeed, Stream, TooManyStreamsError
from api.json_response import dump
from api.present import reader_of
from api.problems import Problem, Refusal
from api.roles import ALARM_READERS, PREFIX
from api.routers.alarms import alarm_json
from dormpower.books.events import Event
from dormpower.books.residencies import any_holds

router = APIRouter(prefix=PREFIX, tags=["events"])

_HEARTBEAT = b": heartbeat\n\n"
_HEAD = b"retry: 3000\n\n"


@router.get(
    "/events",
    summary="What changes, as it changes",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_events(request: Request, allowed: Allowed) -> StreamingResponse:
    """Stream `circuit` and `alarm` events; data is the object as the other routes give it.

    Residents get the circuits of their rooms; alarms go to those who may list them. `Last-Event-ID` resumes, or
    yields `resync`: read everything again. A comment is sent each 15 s.
    """
    feed: EventFeed = request.app.state.event_feed
    try:
        stream = await feed.open(user_id=allowed.principal.user.user_id, last_event_id=_last_event_id(request))
    except TooManyStreamsError as refusal:
        if refusal.by_user:
            raise Refusal(
                Problem.TOO_MANY_REQUESTS,
                "You have too many event streams open; close one.",
                headers={"Retry-After": "30"},
            ) from refusal
        raise Refusal(
            Problem.UNAVAILABLE, "No more event streams at this moment.", headers={"Retry-After": "30"}
        ) from refusal
    return StreamingResponse(
        _Sender(request, feed, stream).run(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _Sender:
    """Writes one stream. The right is read again before anything is sent, and with each heartbeat."""

    def __init__(self, request: Request, feed: EventFeed, stream: Stream) -> None:
        self._context: ApiContext = context_of(request)
        self._proof = Proof.of(request)
        self._reader = reader_of(request, self._context, None)
        self._feed = feed
        self._stream = stream
        self._sent_id = 0

    async def run(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        heartbeat_s = self._context.settings.heartbeat_s
        try:
            yield _HEAD
            silent_since_s = clock()
            while True:
                batch = await self._stream.next(max(silent_since_s + heartbeat_s - clock(), 0.0))
                if self._stream.ended:
                    return
                principal = await asyncio.to_thread(self._read_principal)
                if principal is None:
                    return
                written = self._write(batch, principal) if batch else b""
                # What others may know of keeps this stream as silent as if nothing had happened.
                if not written and clock() - silent_since_s >= heartbeat_s:
                    written = _HEARTBEAT
                if written:
                    yield written
                    silent_since_s = clock()
        finally:
            self._feed.close(self._stream)

    def _read_principal(self) -> Principal | None:
        clock = self._context.clock
        with self._context.books.read() as connection:
            return find_principal(connection, self._proof, now=clock.now(), real_now=clock.real_now())

    def _write(self, batch: Batch, principal: Principal) -> bytes:
        if batch.resync:
            self._sent_id = max(self._sent_id, batch.latest_id)
            return _frame(self._sent_id, "resync", {})
        frames = []
        for event in batch.events:
            if event.event_id <= self._sent_id:
                continue  # the queue overlaps with what was missed
            shown = self._show(event, batch, principal)
            if shown is not None:
                frames.append(_frame(event.event_id, event.kind, shown))
                self._sent_id = event.event_id
        return b"".join(frames)

    def _show(self, event: Event, batch: Batch, principal: Principal) -> dict[str, Any] | None:
        """Return the object to send, or None where this user may not know of it."""
        if event.kind == "alarm":
            alarm = batch.alarms.get(event.subject_id)
            if alarm is None or principal.user.role not in ALARM_READERS:
                return None
            return alarm_json(alarm)
        view = batch.circuits.get(event.subject_id)
        if view is None:
            return None
        spans = None
        if not principal.is_staff:
            spans = principal.rooms.get(view.room_id)
            if spans is None or not any_holds(spans, event.happened_at):
                return None
        return circuit_json(view, replace(self._reader, spans=spans))


def _frame(event_id: int, kind: str, data: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, kind.encode(), dump(data))


def _last_event_id(request: Request) -> int | None:
    """Return the id to resume after; what can't be one of ours (not a number, too long) asks for `resync`."""
    given = request.headers.get("last-event-id")
    if given is None or given == "":
        return None
    return int(given) if given.isascii() and given.isdigit() and len(given) <= 18 else -1
