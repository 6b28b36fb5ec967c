"""The pages in a real browser: signing in, taking money, live updates, a phone, and nothing from elsewhere."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dormpower.books import alarms, events, holds
from dormpower.books.tables import meter_points
from dormpower.domain.holds import Reason

OWN = "south-01-101"
PASSWORD = "correct horse battery"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEADLINE_S = 20

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def served(sqlite_place) -> Iterator[str]:
    """The application behind a real server on a free loopback port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(sqlite_place.app, log_config=None, ws="none", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    sqlite_place.app.state.event_feed.shut()
    server.should_exit = True
    thread.join(DEADLINE_S)
    listener.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, served: str) -> Iterator[Callable[..., Page]]:
    """Sign somebody in; afterwards: no word on the console, no request beyond this machine."""
    contexts: list[BrowserContext] = []
    console: list[str] = []
    requested: list[str] = []

    def open_page(who: str, **options: object) -> Page:
        context = chromium.new_context(**{"locale": "en-GB", "base_url": served, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(DEADLINE_S * 1000)
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda fault: console.append(str(fault)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto("/sign-in")
        page.locator("#username").fill(who)
        page.locator("#password").fill(PASSWORD)
        page.locator("button.main").click()
        expect(page.locator(".who")).to_have_text(who)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert console == []
    assert requested
    assert [url for url in requested if not url.startswith(f"{served}/")] == []


def test_a_student_sees_the_room_and_it_changes_by_itself(sqlite_place, visit):
    page = visit("student")
    with page.expect_request("**/api/v1/events"):
        page.reload()
    expect(page.locator("#card-ac .state")).to_contain_text("No contact with the meter")
    deadline = time.monotonic() + DEADLINE_S
    while sqlite_place.app.state.event_feed.streams == 0:  # the stream is open before anything happens
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sqlite_place.hold(f"{OWN}-ac", Reason.ARREARS, evidence={"available_wh": 0, "floor_wh": 0})
    expect(page.locator("#card-ac .state")).to_contain_text("In arrears")
    expect(page.locator("#card-ac .pay")).to_contain_text("Pay at least ¥0.01")
    with sqlite_place.books.write() as connection:
        holds.release(
            connection,
            circuit_id=f"{OWN}-ac",
            reason=Reason.ARREARS,
            released_by="rule:test",
            evidence={},
            now=sqlite_place.clock.now(),
        )
        connection.execute(sa.update(meter_points).values(last_seen_at=sqlite_place.clock.now()))
        events.append(connection, kind="circuit", subject_id=f"{OWN}-ac", now=sqlite_place.clock.now())
    expect(page.locator("#card-ac .state")).to_contain_text("Supply normal")


def test_finance_recharges_and_gets_a_receipt(visit):
    page = visit("finance")
    page.locator("#q").fill("101")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Recharge 01-101 Air conditioning").click()
    page.locator("#amount").fill("50")
    page.get_by_label("Campus card").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Confirm ¥50.00 received").click()
    expect(page.locator("h1")).to_have_text("Receipt")
    page.reload()
    page.goto("/takings")
    expect(page.locator("tfoot")).to_contain_text("¥50.00")


def test_maintenance_sees_a_new_alarm_without_reloading(sqlite_place, visit):
    page = visit("maintenance")
    page.goto("/alarms")
    deadline = time.monotonic() + DEADLINE_S
    while sqlite_place.app.state.event_feed.streams == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with sqlite_place.books.write() as connection:
        alarms.raise_alarm(
            connection,
            kind="line_offline",
            priority="critical",
            subject_kind="line",
            subject_id="l1",
            detail={},
            now=sqlite_place.clock.now(),
        )
    expect(page.locator("#lists")).to_contain_text("Line offline")
    page.get_by_role("button", name="Acknowledge Line offline of l1").click()
    expect(page.locator("#lists")).to_contain_text("Acknowledged by maintenance")


@pytest.mark.parametrize("who", ["student", "finance", "maintenance", "admin"])
def test_a_phone_shows_every_page_without_scrolling_sideways(sqlite_place, visit, who):
    sqlite_place.hold(f"{OWN}-ac", Reason.ARREARS, evidence={"available_wh": -12, "floor_wh": 0})
    sqlite_place.post("finance", f"/circuits/{OWN}-ac/recharge", amount="50.00", channel="cash", key="k")
    page = visit(who, viewport={"width": 360, "height": 740}, locale="zh-CN")
    addresses = {
        "student": [f"/rooms/{OWN}"],
        "finance": ["/rooms", f"/rooms/{OWN}", f"/circuits/{OWN}-ac/recharge", "/takings"],
        "maintenance": ["/buildings", "/buildings/south/01", "/alarms", f"/rooms/{OWN}"],
        "admin": ["/buildings", f"/rooms/{OWN}"],
    }[who]
    for address in addresses:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def test_the_pages_work_without_script(sqlite_place, visit):
    page = visit("student", java_script_enabled=False)
    sqlite_place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    page.reload()
    expect(page.locator("#card-ac .state")).to_contain_text("Load off")
