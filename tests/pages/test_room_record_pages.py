"""The room's record on its pages: what is announced, time off, questions, the timeline; feeders and reports."""

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import confirmations, control, feeders, holds, outages, reviews
from dormpower.books.tables import feeder_states, meter_points
from dormpower.domain.arrears import Warnings
from dormpower.domain.confirming import ReadBack
from dormpower.domain.days import CampusDays
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay
from dormpower.domain.scopes import Scope

OWN, OTHER = "south-01-101", "south-01-102"
TRIP = {"limit_w": 800, "over_s": 10.0, "sample_count": 3, "sampling_period_s": 5.0}


def test_a_resident_reads_the_evidence_asks_and_reads_the_answer(place):
    place.hold(
        f"{OWN}-lighting",
        Reason.OVERLOAD,
        evidence={**TRIP, "samples": [[place.clock.now().isoformat(), 1450]]},
    )
    browser = place.browser("student")
    page = browser.get(f"/rooms/{OWN}").text
    assert "1450" in page
    assert "800" in page
    subject_id = re.search(r'name="subject_id" value="([^"]+)"', page)[1]
    asked = place.post(
        "student",
        f"/circuits/{OWN}-lighting/questions",
        subject_kind="hold",
        subject_id=subject_id,
        question="Only a lamp was on.",
    )
    assert asked.headers["location"] == f"/rooms/{OWN}#questions"
    page = browser.get(f"/rooms/{OWN}").text
    assert 'id="questions"' in page
    assert "Only a lamp was on." in page
    assert "Not answered yet" in page
    assert 'name="subject_id"' not in page
    waiting = place.browser("maintenance").get("/questions").text
    dispute_id = re.search(r'action="/questions/([^/]+)/answer"', waiting)[1]
    assert (
        place.post(
            "maintenance", f"/questions/{dispute_id}/answer", verdict="false", answer="The meter was wrong."
        ).status_code
        == 303
    )
    page = browser.get(f"/rooms/{OWN}").text
    assert "It was a false trip: The meter was wrong." in page
    assert "No question waits" in place.browser("admin").get("/questions").text


def test_a_question_about_another_rooms_decision_is_not_taken(place):
    foreign = place.hold(f"{OTHER}-ac", Reason.OVERLOAD)
    answer = place.post(
        "student", f"/circuits/{OWN}-ac/questions", subject_kind="hold", subject_id=foreign, question="Why?"
    )
    assert answer.status_code == 404
    own = place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    empty = place.post(
        "student", f"/circuits/{OWN}-ac/questions", subject_kind="hold", subject_id=own, question=" "
    )
    assert empty.status_code == 422
    with place.books.read() as connection:
        assert reviews.listing(connection)[0] == []


def test_answers_stay_in_sight_however_many_newer_questions_wait(sqlite_place):
    def ask(number):
        sqlite_place.clock.advance(1)
        hold_id = sqlite_place.hold(f"{OWN}-ac", Reason.SHED)
        with sqlite_place.books.write() as connection:
            asked = reviews.dispute(
                connection,
                subject_kind="hold",
                subject_id=hold_id,
                question=f"Question {number}?",
                actor="student",
                now=sqlite_place.clock.now(),
            )
            holds.release(
                connection,
                hold_id=hold_id,
                released_by="rule:test",
                evidence={},
                now=sqlite_place.clock.now(),
            )
        return asked.dispute_id

    sqlite_place.post("maintenance", f"/questions/{ask(0)}/answer", verdict="right", answer="It was due.")
    for number in range(1, 52):
        ask(number)
    page = sqlite_place.browser("maintenance").get("/questions").text
    assert "It was right: It was due." in page
    assert page.count("</form>") - 2 == 50  # language and sign-out are forms too


def test_the_timeline_tells_what_happened_in_the_readers_language(place):
    hold_id = place.hold(f"{OWN}-ac", Reason.OVERLOAD, evidence=TRIP)
    place.clock.advance(60)
    with place.books.write() as connection:
        holds.release(connection, hold_id=hold_id, released_by="rule:test", evidence={}, now=place.clock.now())
    browser = place.browser("student")
    page = browser.get(f"/circuits/{OWN}-ac/timeline").text
    entries = re.findall(r'<li class="entry-(\w+)">', page)
    assert entries.count("hold") == 2
    assert "rule:test" not in page  # sentences, no codes
    chinese = browser.get(f"/circuits/{OWN}-ac/timeline", headers={"Accept-Language": "zh"}).text
    assert "供电记录" in chinese
    assert browser.get(f"/circuits/{OTHER}-ac/timeline").status_code == 404
    assert browser.get(f"/circuits/{OWN}-ac/timeline?cursor=nonsense").status_code == 422


def test_a_lock_out_is_an_order_until_it_is_read_back_open(place):
    with place.books.write() as connection:
        connection.execute(sa.update(meter_points).values(relay="closed", last_seen_at=place.clock.now()))
        holds.place_lockout(
            connection, circuit_id=f"{OWN}-ac", holder="maintenance", reason="work", now=place.clock.now()
        )
    browser = place.browser("maintenance")
    for path in (f"/rooms/{OWN}", f"/rooms/{OWN}/cards", "/buildings/south/01", "/rooms"):
        page = browser.get(path).text
        assert "Lock-out ordered, not yet read back open" in page, path
        assert not re.search(r"</span> Locked out</", page), path
    with place.books.write() as connection:
        connection.execute(
            sa.update(meter_points).where(meter_points.c.circuit_id == f"{OWN}-ac").values(relay="open")
        )
        confirmations.note(
            connection,
            circuit_id=f"{OWN}-ac",
            read_back=ReadBack(relay=Relay.OPEN, drawing=False, read_at=place.clock.now()),
            evidence={},
            now=place.clock.now(),
        )
    page = browser.get(f"/rooms/{OWN}").text
    assert re.search(r"</span> Locked out</", page)
    assert "not yet read back" not in page


def test_an_announced_outage_stands_on_the_room(place):
    now = place.clock.now()
    with place.books.write() as connection:
        outages.announce(
            connection,
            scope=Scope(campus="south", building="01"),
            from_at=now + timedelta(hours=5),
            to_at=now + timedelta(hours=7),
            note="New cable.",
            actor="maintenance",
            now=now,
        )
    page = place.browser("student").get(f"/rooms/{OWN}").text
    assert "Planned outage from" in page
    assert "New cable." in page


def test_time_off_for_the_feeder_is_shown_by_day(place):
    days, now = CampusDays(place.context.zone), place.clock.now()
    with place.books.write() as connection:
        feeders.note_turns(
            connection,
            [
                feeders.EndedTurn(
                    circuit_id=f"{OWN}-ac",
                    room_id=OWN,
                    from_at=now - timedelta(minutes=14),
                    to_at=now,
                    shadow=False,
                )
            ],
            days=days,
        )
    shown = place.browser("maintenance").get(f"/rooms/{OWN}").text
    assert re.search(r'data-label="Minutes off">14<', shown)
    assert "Time off for the feeder" not in place.browser("maintenance").get(f"/rooms/{OTHER}").text
    reports = place.browser("admin").get("/reports").text
    assert "1 circuits, 14 minutes in all, the longest 14." in reports
    assert f'href="/rooms/{OWN}"' in reports


def test_the_reports_tell_who_would_have_been_off(place):
    place.hold(f"{OWN}-ac", Reason.OVERLOAD, shadow=True, evidence=TRIP)
    page = place.browser("maintenance").get("/reports?days=30").text
    assert f"{OWN}-ac" in page
    assert "no relay moved" in page
    assert place.browser("maintenance").get("/reports?days=31").status_code == 422


@pytest.mark.parametrize(
    ("source", "said"), [("metered", "190 kW · metered"), ("unknown", "nobody is restored")]
)
def test_feeders_show_their_demand_or_that_it_is_unknown(place, source, said):
    with place.books.write() as connection:
        connection.execute(
            sa.insert(feeder_states).values(
                feeder_id="south-01",
                parent=None,
                limit_w=180_000,
                mode="enforce",
                source=source,
                measured_w=190_000 if source == "metered" else None,
                expected_w=190_000,
                projected_w=195_000,
                reserved_w=0,
                circuits_off=3,
                sampled_at=place.clock.now(),
                decided_at=place.clock.now(),
                memory={"alarms": ["feeder_overloaded"], "below_since_at": None, "points": [], "loss": 0.0},
            )
        )
    page = place.browser("maintenance").get("/feeders").text
    assert said in page
    assert "180 kW" in page


def test_a_warning_that_was_given_is_told_once_with_its_instant(place):
    with place.books.write() as connection:
        connection.execute(
            sa.update(meter_points)
            .where(meter_points.c.circuit_id == f"{OWN}-ac")
            .values(metered_wh=0, last_seen_at=place.clock.now())
        )
        control.save_warnings(
            connection,
            circuit_id=f"{OWN}-ac",
            warnings=Warnings(first_at=place.clock.now()),
            now=place.clock.now(),
        )
    page = place.browser("student").get(f"/rooms/{OWN}/cards").text
    ac = page.split('id="card-ac"')[1]
    assert "Warned that the balance is low" in ac
    assert "The balance is used up. Please recharge now." not in ac
