"""Requests at once are bounded; what comes beyond is refused at once, as a problem document."""

import asyncio

import httpx
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from api.metrics import Requests
from api.middleware import Edge


def test_requests_beyond_the_bound_are_refused_and_room_is_made_again_by_those_that_end():
    async def go():
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def app(scope, receive, send):
            inside.set()
            await go_on.wait()
            await Response("done")(scope, receive, send)

        edge = Edge(app, max_body_bytes=100, max_open=1, requests=Requests(CollectorRegistry()))
        transport = httpx.ASGITransport(app=edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            first = asyncio.create_task(client.get("/"))
            await inside.wait()
            refused = await client.get("/")
            go_on.set()
            answers = await first, await client.get("/")
        return refused, answers

    refused, answers = asyncio.run(go())
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "1"
    assert [answer.text for answer in answers] == ["done", "done"]
