"""What the pages say and do: state and why, money once, alarms, languages, and nothing inline."""

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

import api.pages
from dormpower.books import alarms, holds
from dormpower.books.residencies import begin_residency, end_residency
from dormpower.books.tables import circuits, meter_points, rooms, transactions
from dormpower.domain.holds import Reason
from dormpower.domain.units import amount_needed_fen, energy_bought_wh
from dormpower.messages.catalogue import sentences

OWN, OTHER = "south-01-101", "south-01-102"
RECHARGE = {"amount": "50.00", "channel": "cash", "note": ""}
PAGES = {
    "student": ["/my-room", f"/rooms/{OWN}", f"/rooms/{OWN}?days=7", f"/rooms/{OWN}/cards"],
    "finance": ["/rooms", f"/rooms/{OTHER}", f"/circuits/{OWN}-ac/recharge", "/takings", "/takings.csv"],
    "maintenance": ["/buildings", "/buildings/south/01", "/alarms", "/alarms/list", f"/rooms/{OTHER}"],
    "admin": ["/buildings", "/rooms", "/alarms", "/takings", f"/rooms/{OTHER}"],
}


class Seen(HTMLParser):
    """What a browser would follow, run or style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.inputs: set[str] = set()
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.faults += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.faults.append(tag)
        self._in_script = tag == "script"
        for name in ("href", "src", "hx-get", "sse-connect"):
            if name in given:
                self.links.add(given[name])
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "label" and "for" in given:
            self.labels.add(given["for"])
        if tag == "input" and given.get("type", "text") not in {"hidden", "radio"}:
            self.inputs.add(given.get("id", "(none)"))

    def handle_data(self, data):
        if self._in_script and data.strip():
            self.faults.append("script text")

    def handle_endtag(self, tag):
        self._in_script = False


def transactions_of(place):
    with place.books.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).where(transactions.c.kind == "recharge"))


def test_the_room_says_why_it_is_off_and_what_must_be_paid(place):
    place.hold(f"{OWN}-ac", Reason.ARREARS, evidence={"available_wh": -2500, "floor_wh": 0})
    with place.books.write() as connection:
        connection.execute(
            sa.update(meter_points)
            .where(meter_points.c.circuit_id == f"{OWN}-ac")
            .values(metered_wh=2500, relay="open", last_seen_at=place.clock.now())
        )
    page = place.browser("student").get(f"/rooms/{OWN}").text
    # 2.501 kWh at 0.5653 yuan a kWh is 1.4138 yuan: 1.41 would not be enough.
    for said in ("In arrears", "Balance -2.500 kWh: off for arrears", "Pay at least ¥1.42", "finance counter"):
        assert said in page, said
    assert place.post(
        "finance", f"/circuits/{OWN}-ac/recharge", amount="1.42", channel="cash", key="k"
    ).status_code
    with place.books.read() as connection:
        after = connection.scalar(sa.select(transactions.c.balance_after_wh))
    assert after > 0


def test_the_least_amount_buys_enough_and_one_fen_less_does_not():
    for energy_wh in (1, 17, 2501, 999_999):
        for price in (1, 56_530, 100_000, 123_457):
            least = amount_needed_fen(energy_wh=energy_wh, price_millifen_per_kwh=price)
            assert energy_bought_wh(amount_fen=least, price_millifen_per_kwh=price) >= energy_wh
            assert energy_bought_wh(amount_fen=least - 1, price_millifen_per_kwh=price) < energy_wh


def test_a_resident_sees_the_history_of_the_own_time_only(place):
    assert place.post(
        "finance", f"/circuits/{OWN}-ac/recharge", amount="77.00", channel="cash", key="k"
    ).status_code
    browser = place.browser("student")
    assert "¥77.00" in browser.get(f"/rooms/{OWN}").text
    with place.books.write() as connection:
        now = place.clock.now()
        end_residency(connection, user_id=place.user_ids["student"], room_id=OWN, at=now - timedelta(days=1))
        begin_residency(
            connection, user_id=place.user_ids["student"], room_id=OWN, from_at=now + timedelta(hours=1)
        )
    place.clock.advance(timedelta(hours=2).total_seconds())
    page = browser.get(f"/rooms/{OWN}").text
    assert "¥77.00" not in page
    assert "There are no recharges yet" in page
    assert "¥77.00" in place.browser("finance").get(f"/rooms/{OWN}").text


def test_older_recharges_are_a_page_on(sqlite_place):
    for number in range(13):
        sqlite_place.post("finance", f"/circuits/{OWN}-ac/recharge", **{**RECHARGE, "key": f"k{number}"})
        sqlite_place.clock.advance(timedelta(minutes=1).total_seconds())
    browser = sqlite_place.browser("student")
    first = browser.get(f"/rooms/{OWN}").text
    older = re.search(r'href="([^"]*ac_cursor=[^"]*)"', first)[1].replace("&amp;", "&").partition("#")[0]
    assert first.count("¥50.00") == 10
    assert browser.get(older).text.count("¥50.00") == 3
    assert browser.get(f"/rooms/{OWN}?ac_cursor=nonsense").status_code == 422


def test_a_recharge_is_read_back_before_it_is_posted(place):
    key = place.form_key(f"{OWN}-ac")
    shown = place.post("finance", f"/circuits/{OWN}-ac/recharge/check", **RECHARGE, key=key)
    assert shown.status_code == 200
    for said in ("01-101", "Air conditioning", "¥50.00", "88.448", "Confirm ¥50.00 received", f'value="{key}"'):
        assert said in shown.text, said
    assert transactions_of(place) == 0


def test_a_double_click_and_a_reload_post_once(place):
    key = place.form_key(f"{OWN}-ac")
    answers = [place.post("finance", f"/circuits/{OWN}-ac/recharge", **RECHARGE, key=key) for _ in range(3)]
    assert {answer.headers["location"] for answer in answers} == {answers[0].headers["location"]}
    assert transactions_of(place) == 1
    receipt = place.browser("finance").get(answers[0].headers["location"]).text
    for said in ("txn_", "¥50.00", "¥0.5653 a kWh", "88.448", "finance"):
        assert said in receipt, said
    other = place.post("finance", f"/circuits/{OWN}-ac/recharge", **{**RECHARGE, "amount": "60"}, key=key)
    assert other.status_code == 409
    assert "already used for another recharge" in other.text
    assert transactions_of(place) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": "0"}, "above zero"),
        ({"amount": "1.005"}, "two decimals"),
        ({"amount": "-5"}, "above zero"),
        ({"amount": "５０"}, "two decimals"),
        ({"amount": "1e3"}, "two decimals"),
        ({"amount": "999999999"}, "split it"),
        ({"channel": "gold"}, "Choose how it was paid"),
        ({"note": "x" * 201}, "200 characters"),
        ({"note": "two\nlines"}, "one line"),
    ],
)
def test_a_form_that_cannot_be_taken_says_what_to_change(sqlite_place, fields, said):
    for path in (f"/circuits/{OWN}-ac/recharge/check", f"/circuits/{OWN}-ac/recharge"):
        answer = sqlite_place.post("finance", path, **{**RECHARGE, **fields, "key": "k"})
        assert answer.status_code == 422
        assert said in answer.text
        assert 'value="k"' in answer.text
    assert transactions_of(sqlite_place) == 0


def test_the_days_takings_add_up_by_channel(place):
    for number, (amount, channel) in enumerate([("50.00", "cash"), ("0.10", "cash"), ("30", "card")]):
        place.post("finance", f"/circuits/{OWN}-ac/recharge", amount=amount, channel=channel, key=f"k{number}")
    page = place.browser("finance").get("/takings").text
    for said in ("¥50.10", "¥30.00", "¥80.10"):
        assert said in page
    assert place.browser("finance").get("/takings.csv").text.splitlines() == [
        "campus_day,kind,channel,count,amount_yuan",
        "2026-05-20,recharge,card,1,30.00",
        "2026-05-20,recharge,cash,2,50.10",
    ]
    place.clock.advance(timedelta(days=1).total_seconds())
    assert "Nothing has been taken today" in place.browser("finance").get("/takings").text


def test_maintenance_locks_out_lifts_and_resets(place):
    place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    placed = place.post("maintenance", f"/circuits/{OWN}-ac/lockouts", reason="replace <breaker>")
    assert placed.headers["location"] == f"/rooms/{OWN}"
    page = place.browser("maintenance").get(f"/rooms/{OWN}").text
    assert "replace &lt;breaker&gt;" in page
    assert "Reset trips" in page
    place.post("maintenance", f"/circuits/{OWN}-ac/reset")
    lockout_id = re.search(r'action="/lockouts/([^/]+)/lift"', page)[1]
    with place.books.read() as connection:
        assert [hold.reason for hold in holds.standing(connection)[f"{OWN}-ac"]] == [Reason.LOCKOUT]
    assert place.post("admin", f"/lockouts/{lockout_id}/lift").status_code == 403
    assert place.post("maintenance", f"/lockouts/{lockout_id}/lift").status_code == 303
    with place.books.read() as connection:
        assert holds.standing(connection) == {}


def test_where_maintenance_looks_reported_open_is_never_called_dead(sqlite_place):
    with sqlite_place.books.write() as connection:
        connection.execute(
            sa.update(meter_points).where(meter_points.c.circuit_id == f"{OWN}-ac").values(relay="open")
        )
    said = "Supply switch reported open; isolate, lock and prove dead at the breaker before work."
    assert said in sqlite_place.browser("maintenance").get(f"/rooms/{OWN}").text


def test_buildings_count_each_room_once_by_its_worst_circuit(place):
    with place.books.write() as connection:
        connection.execute(sa.update(meter_points).values(last_seen_at=place.clock.now()))
    place.hold(f"{OWN}-ac", Reason.ARREARS)
    place.hold(f"{OWN}-lighting", Reason.CURFEW)
    place.hold(f"{OTHER}-ac", Reason.LOCKOUT, holder="maintenance", note="work")
    browser = place.browser("maintenance")
    page = browser.get("/buildings").text
    for state, word in (("arrears", "In arrears"), ("locked_out", "Lock-outs"), ("normal", "Supply normal")):
        assert re.search(rf"state={state}.*?{word} <strong>1</strong>", page), state
    filtered = browser.get("/buildings/south/01?state=arrears").text
    assert f'href="/rooms/{OWN}"' in filtered
    assert f'href="/rooms/{OTHER}"' not in filtered
    assert browser.get("/buildings/south/01?state=nonsense").status_code == 422
    assert browser.get("/buildings/south/99").status_code == 404


def test_an_alarm_is_acknowledged_and_leaves_those_that_wait(place):
    browser = place.browser("maintenance")
    assert "&lt;b&gt;bold&lt;/b&gt;" in browser.get("/alarms").text
    assert place.post("maintenance", f"/alarms/{place.alarm_id}/acknowledge").status_code == 303
    with place.books.read() as connection:
        assert alarms.get(connection, place.alarm_id).acknowledged_by == "maintenance"
    page = browser.get("/alarms").text
    assert "Nothing waits for acknowledgement" in page
    assert "Acknowledged by maintenance" in page


def test_names_and_notes_are_written_as_text(sqlite_place):
    with sqlite_place.books.write() as connection:
        connection.execute(
            sa.update(rooms).where(rooms.c.room_id == OWN).values(name="<script>alert(1)</script>")
        )
    sqlite_place.post("finance", f"/circuits/{OWN}-ac/recharge", **{**RECHARGE, "note": "<i>n</i>", "key": "k"})
    pages = [
        sqlite_place.browser(who).get(path).text
        for who, paths in PAGES.items()
        for path in [*paths, f"/rooms/{OWN}" if who != "student" else "/"]
    ]
    assert any("&lt;script&gt;alert(1)" in page for page in pages)
    assert not any("<script>alert" in page or "<i>n" in page for page in pages)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_pages_have_nothing_inline_unique_ids_labels_and_links_that_resolve(sqlite_place, language):
    sqlite_place.hold(f"{OTHER}-ac", Reason.OVERLOAD)
    sqlite_place.post("finance", f"/circuits/{OTHER}-ac/recharge", **RECHARGE, key="k")
    for who, paths in PAGES.items():
        browser = sqlite_place.browser(who)
        browser.cookies.set("dormpower_language", language)
        for path in paths:
            answer = browser.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            seen = Seen(answer.text)
            assert seen.faults == [], path
            assert len(seen.ids) == len(set(seen.ids)), path
            assert seen.inputs <= seen.labels, path
            for link in seen.links - {"/api/v1/events", "#content"}:
                if not link.startswith("/static/vendor"):  # brought by the build, not by the tree
                    assert browser.get(link).status_code == 200, (path, link)


def test_the_language_is_what_the_browser_asks_until_one_is_chosen(sqlite_place):
    browser = TestClient(sqlite_place.app)
    assert "登录" in browser.get("/sign-in", headers={"Accept-Language": "zh-CN"}).text
    assert ">Sign in<" in browser.get("/sign-in", headers={"Accept-Language": "en"}).text
    chosen = browser.post("/language", data={"language": "zh", "next": "/sign-in"})
    assert '<html lang="zh-CN">' in chosen.text
    assert browser.get("/sign-in", headers={"Accept-Language": "en"}).text.count("登录") > 0
    assert browser.post("/language", data={"language": "xx"}).status_code == 422
    foreign = {"Sec-Fetch-Site": "cross-site"}
    refused = browser.post("/language", data={"language": "en"}, headers=foreign, follow_redirects=False)
    assert (refused.status_code, refused.headers.get("set-cookie")) == (403, None)


def test_signing_in_and_out(sqlite_place):
    browser = TestClient(sqlite_place.app, headers={"Accept-Language": "en"})
    wrong = browser.post("/sign-in", data={"username": "student", "password": "wrong"})
    assert wrong.status_code == 401
    assert "The user name or the password is wrong" in wrong.text
    right = browser.post("/sign-in", data={"username": "student", "password": "correct horse battery"})
    assert right.url.path == f"/rooms/{OWN}"
    token = re.search(r'name="csrf_token" value="([^"]+)"', right.text)[1]
    assert browser.post("/sign-out", data={"csrf_token": token}).url.path == "/sign-in"
    assert browser.get(f"/rooms/{OWN}").url.path == "/sign-in"


def test_too_many_attempts_say_how_long_to_wait(sqlite_place):
    browser = TestClient(sqlite_place.app, headers={"Accept-Language": "en"})
    for _ in range(5):
        browser.post("/sign-in", data={"username": "student", "password": "wrong"})
    refused = browser.post("/sign-in", data={"username": "student", "password": "correct horse battery"})
    assert refused.status_code == 429
    assert f"Try again in {refused.headers['retry-after']} seconds" in refused.text


def test_every_sentence_of_the_pages_is_one_that_a_page_says():
    folder = Path(api.pages.__file__).parent
    said = "".join(path.read_text("utf-8") for path in [*folder.glob("*.py"), *folder.glob("templates/*.html")])
    families = ("page.error.", "page.kind.", "page.level.", "page.usage.", "page.transaction.", "page.channel.")
    families += ("page.priority.", "page.alarms.", "page.feeders.mode.", "page.feeders.source.")
    families += ("page.questions.waiting", "page.questions.answered", "page.questions.verdict.")
    unused = [
        code
        for code in sentences()
        if code.startswith("page.")
        and not code.startswith(families)
        and f'"{code}"' not in said
        and f"'{code}'" not in said
    ]
    assert unused == []


def test_a_room_with_air_conditioning_alone_stands_under_its_heading(place):
    with place.books.write() as connection:
        known = connection.execute(sa.select(rooms).where(rooms.c.room_id == OTHER)).mappings().one()
        connection.execute(sa.insert(rooms).values({**known, "room_id": "south-01-109", "name": "01-109"}))
        connection.execute(
            sa.insert(circuits).values(circuit_id="south-01-109-ac", room_id="south-01-109", kind="ac")
        )
    page = place.browser("finance").get("/rooms?q=109").text
    lighting, ac = re.search(r"south-01-109</span>(.*?)</tr>", page, flags=re.DOTALL)[1].split("<td")[1:]
    assert "–" in lighting
    assert "kWh" not in lighting
    assert "kWh" in ac
