"""Feeders, reports, the timeline, permits, approvals and alarms from the command line, over the books."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from config.settings import load
from dormpower import cli
from dormpower.books import (
    alarms,
    control,
    feeders,
    holds,
    intents,
    migration,
    openings,
    permits,
    reviews,
    shadow_alarms,
)
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.books.tables import audit_log
from dormpower.commands.opening import campus_now, operator
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import Demand, FeederState, Source
from dormpower.domain.holds import Reason
from dormpower.domain.openings import OpeningsPolicy

SITE = """
site: {id: s, name: S, zone: Asia/Shanghai}
database: sqlite:///books.db
api: {host: 127.0.0.1, port: 8000}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r-1, campus: south, building: "03", floor: "1", name: "101", lighting_module: m1,
      lighting_channel: 0, ac_module: m1, ac_channel: 1, rated_current_a: 20}
policies: {prices: [{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}]}
"""


@dataclass
class Desk:
    """A site with books, and the commands on it."""

    config: str
    books: Books
    now: datetime
    days: CampusDays

    def run(self, *arguments: str):
        return CliRunner().invoke(cli.app, [*arguments, "--config", self.config])

    def json(self, *arguments: str):
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def place(self, circuit_id="r-1-ac", reason=Reason.OVERLOAD, *, shadow=False, evidence=None):
        with self.books.write() as connection:
            return holds.place(
                connection,
                circuit_id=circuit_id,
                reason=reason,
                placed_by=f"rule:{reason}",
                shadow=shadow,
                evidence=evidence or {},
                now=self.now,
            )

    def audited(self):
        with self.books.read() as connection:
            rows = connection.execute(sa.select(audit_log.c.action, audit_log.c.actor)).all()
        return {(row.action, row.actor) for row in rows}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "dormpower.yaml"
    path.write_text(SITE, encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=settings.folder)
    migration.upgrade(books)
    now, today = campus_now(settings)
    sync_site(books=books, site=settings.site, now=now, today=today)
    yield Desk(config=str(path), books=books, now=now, days=CampusDays(settings.zone))
    books.close()


def test_feeders_are_shown_with_demand_and_share_of_their_limit(desk):
    assert desk.json("feeder", "list") == {"items": []}
    with desk.books.write() as connection:
        feeders.save_feeder(
            connection,
            demand=Demand(feeder_id="south-03", limit_w=180_000, source=Source.METERED, measured_w=171_000),
            parent="south",
            mode="enforce",
            circuits_off=3,
            state=FeederState(),
            now=desk.now,
        )
    (one,) = desk.json("feeder", "list")["items"]
    assert (one["feeder_id"], one["measured_w"], one["circuits_off"]) == ("south-03", 171_000, 3)
    shown = desk.run("feeder", "list").stdout
    assert "171.0" in shown
    assert "95%" in shown


def test_who_was_shed_is_reported_for_the_days_asked_for(desk):
    with desk.books.write() as connection:
        feeders.note_turns(
            connection,
            [
                feeders.EndedTurn(
                    circuit_id="r-1-ac",
                    room_id="r-1",
                    from_at=desk.now - timedelta(minutes=12),
                    to_at=desk.now,
                    shadow=False,
                )
            ],
            days=desk.days,
        )
    found = desk.json("report", "fairness")
    assert found["minutes_off"] == 12.0
    assert found["items"] == [{"room_id": "r-1", "circuit_id": "r-1-ac", "minutes_off": 12.0, "turns": 1}]
    assert desk.json("report", "fairness", "--from", "2020-01-01", "--to", "2020-01-31")["items"] == []
    assert desk.json("report", "fairness", "--building", "04")["items"] == []
    assert "12.0" in desk.run("report", "fairness").stdout
    assert desk.run("report", "fairness", "--from", "2026-02-02", "--to", "2026-02-01").exit_code == 2
    assert desk.run("report", "fairness", "--from", "yesterday").exit_code == 2


def test_who_would_have_been_off_is_reported_with_the_reason_why(desk):
    hold_id = desk.place(shadow=True, evidence={"limit_w": 2000})
    desk.place("r-1-lighting")
    (one,) = desk.json("report", "shadow", "--reason", "overload")["items"]
    assert (one["hold_id"], one["to_at"], one["campus"]) == (hold_id, None, "south")
    assert "Limit 2000 W" in one["why"]
    assert desk.json("report", "shadow", "--reason", "shed")["items"] == []
    assert "限值" in desk.json("report", "shadow", "--language", "zh")["items"][0]["why"]
    assert "r-1-ac" in desk.run("report", "shadow").stdout


def test_what_rules_in_shadow_would_have_told_is_reported(desk):
    with desk.books.write() as connection:
        shadow_alarms.begin(
            connection,
            circuit_id="r-1-ac",
            kind="prohibited_load",
            evidence={"delta_w": 1500.0, "ratio": 0.99},
            now=desk.now,
        )
    (one,) = desk.json("report", "shadow-alarms")["items"]
    assert (one["circuit_id"], one["kind"], one["to_at"]) == ("r-1-ac", "prohibited_load", None)
    assert "Power rose at once by 1500" in one["why"]
    assert desk.json("report", "shadow-alarms", "--building", "04")["items"] == []
    assert "r-1-ac" in desk.run("report", "shadow-alarms").stdout


def test_the_rate_of_false_trips_is_reported_by_building(desk):
    hold_id = desk.place(reason=Reason.PROHIBITED)
    with desk.books.write() as connection:
        reviews.review(
            connection,
            subject_kind="hold",
            subject_id=hold_id,
            verdict="false",
            note="laptop",
            actor="maintenance",
            now=desk.now,
        )
    (one,) = desk.json("report", "false-trips")["items"]
    assert (one["campus"], one["building"], one["trips"], one["rate"]) == ("south", "03", 1, 1.0)
    assert "100.0%" in desk.run("report", "false-trips").stdout


def test_the_timeline_is_shown_page_by_page_in_words(desk):
    desk.place(evidence={"limit_w": 2000})
    page = desk.json("timeline", "r-1-ac", "--limit", "1")
    assert [one["type"] for one in page["items"]] == ["state"]
    (placed,) = desk.json("timeline", "r-1-ac", "--cursor", page["next_cursor"])["items"]
    assert (placed["type"], placed["step"], placed["reason"]) == ("hold", "placed", "overload")
    assert placed["text"].startswith("Held off: overload. Limit 2000 W")
    done = desk.run("timeline", "r-1-ac", "--language", "zh", "--limit", "1")
    assert "供电状态变为" in done.stdout
    assert "--cursor" in done.stderr
    unknown = desk.run("timeline", "r-9-ac")
    assert "there is none of this id" in str(unknown.exception)


def test_a_permit_is_granted_listed_and_revoked_in_the_operators_name(desk):
    granted = desk.run(
        *("permit", "grant", "r-1", "--appliance", "kettle", "--from-w", "1000", "--to-w", "2000"),
        *("--until", "2099-06-30T18:00"),
    )
    permit_id = granted.stdout.strip()
    (one,) = desk.json("permit", "list", "--room", "r-1")["items"]
    assert (one["permit_id"], one["granted_by"]) == (permit_id, operator())
    assert one["to_at"] == "2099-06-30T10:00:00Z"  # campus time
    assert "kettle" in desk.run("permit", "list").stdout
    with desk.books.read() as connection:
        assert {one.circuit_id for one in intents.unhandled(connection, 10)} == {"r-1-ac", "r-1-lighting"}
    assert desk.run("permit", "revoke", permit_id).exit_code == 0
    with desk.books.read() as connection:
        assert permits.standing(connection, now=desk.now) == {}
    again = desk.run("permit", "revoke", permit_id)
    assert isinstance(again.exception, permits.UnableToFindPermitError)
    assert {("permit.grant", operator()), ("permit.revoke", operator())} <= desk.audited()
    wrong = ("--appliance", "kettle", "--from-w", "1", "--to-w", "2", "--until", "tomorrow")
    assert desk.run("permit", "grant", "r-1", *wrong).exit_code == 2


def test_cuts_that_wait_are_listed_and_approved_by_name_or_all(desk):
    with desk.books.write() as connection:
        for kind in ("ac", "lighting"):
            control.pend_cut(connection, circuit_id=f"r-1-{kind}", reason="arrears", evidence={}, now=desk.now)
    assert desk.run("approval", "approve").exit_code == 2
    assert desk.run("approval", "approve", "r-1-ac", "--all").exit_code == 2
    assert "approved: 1" in desk.run("approval", "approve", "r-1-ac").stdout
    waiting = {one["circuit_id"]: one["approved_by"] for one in desk.json("approval", "list")["items"]}
    assert waiting == {"r-1-ac": operator(), "r-1-lighting": None}
    assert "r-1-lighting" in desk.run("approval", "list").stdout
    assert "approved: 1" in desk.run("approval", "approve", "--all").stdout
    assert ("cut.approve", operator()) in desk.audited()


def test_cuts_that_wait_are_refused_with_a_reason(desk):
    with desk.books.write() as connection:
        control.pend_cut(connection, circuit_id="r-1-ac", reason="arrears", evidence={}, now=desk.now)
    assert desk.run("approval", "refuse", "--all").exit_code == 2
    assert desk.run("approval", "refuse", "--reason", "wrong price").exit_code == 2
    blank = desk.run("approval", "refuse", "--all", "--reason", " ")
    assert isinstance(blank.exception, control.UnableToRefuseCutsError)
    assert "refused: 1" in desk.run("approval", "refuse", "r-1-ac", "--reason", "wrong price").stdout
    (cut,) = desk.json("approval", "list")["items"]
    assert (cut["refused_by"], cut["refusal"]) == (operator(), "wrong price")
    assert ("cut.refuse", operator()) in desk.audited()


def test_a_cut_is_named_by_its_circuit_and_its_reason(desk):
    with desk.books.write() as connection:
        for reason in ("arrears", "curfew", "prohibited"):
            control.pend_cut(connection, circuit_id="r-1-ac", reason=reason, evidence={}, now=desk.now)
    wrong = desk.run("approval", "approve", "r-1-ac:weather")
    assert (wrong.exit_code, "r-1-ac:weather" in wrong.output) == (2, True)
    assert "approved: 1" in desk.run("approval", "approve", "r-1-ac:curfew").stdout
    assert "refused: 1" in desk.run("approval", "refuse", "r-1-ac:arrears", "--reason", "wrong price").stdout
    decided = {
        cut["reason"]: (cut["approved_by"], cut["refused_by"]) for cut in desk.json("approval", "list")["items"]
    }
    me = operator()
    assert decided == {"arrears": (None, me), "curfew": (me, None), "prohibited": (None, None)}


def test_alarms_are_listed_acknowledged_put_aside_and_brought_back(desk):
    desk.place()
    (raised,) = desk.json("alarm", "list", "--kind", "load_off")["items"]
    alarm_id = raised["alarm_id"]
    assert "r-1-ac" in desk.run("alarm", "list").stdout
    assert desk.run("alarm", "acknowledge", alarm_id).exit_code == 0
    assert desk.json("alarm", "list", "--unacknowledged")["items"] == []
    aside = ("alarm", "shelve", alarm_id, "--reason", "known")
    for hours in ("100", "inf", "-inf", "nan", "-1", "0", "1e300"):
        refused = desk.run(*aside, "--hours", hours)
        assert refused.exit_code == 2
        assert "expected hours above 0, at most 72" in refused.stderr
    assert desk.json("alarm", "list", "--shelved")["items"] == []
    assert desk.run(*aside, "--hours", "2").exit_code == 0
    (one,) = desk.json("alarm", "list", "--shelved")["items"]
    assert (one["acknowledged_by"], one["shelved_by"]) == (operator(), operator())
    assert desk.json("alarm", "list", "--not-shelved")["items"] == []
    assert desk.run("alarm", "unshelve", alarm_id).exit_code == 0
    assert desk.json("alarm", "list", "--shelved")["items"] == []
    assert desk.json("alarm", "list", "--state", "cleared")["items"] == []
    assert isinstance(desk.run("alarm", "acknowledge", "alm_none").exception, alarms.UnableToFindAlarmError)
    assert {("alarm.acknowledge", operator()), ("alarm.shelved", operator())} <= desk.audited()


@pytest.mark.parametrize(
    "arguments",
    [
        ("permit", "grant", "r-1", *("--appliance", "kettle", "--from-w", "1", "--to-w", "2"), "--until"),
        ("module", "commissioned", "r-1-ac", *("--first-wh", "1", "--note", "new"), "--at"),
        ("report", "fairness", "--to"),
        ("report", "shadow", "--from"),
        ("report", "false-trips", "--to"),
    ],
)
@pytest.mark.parametrize("when", ["0001-01-01", "1999-12-31", "2200-01-02", "9999-12-31"])
def test_instants_and_days_that_no_calendar_holds_are_wrong_usage(desk: Desk, arguments, when):
    refused = desk.run(*arguments, when)
    assert refused.exit_code == 2, refused.output
    assert "2000 to 2199" in refused.output
    assert desk.json("permit", "list")["items"] == []


def test_a_building_found_open_is_listed_with_the_way_back(desk):
    desk.place(reason=Reason.OPENED_LOCALLY)
    desk.place("r-1-lighting", reason=Reason.OPENED_LOCALLY)
    with desk.books.write() as connection:
        found = [hold for one in holds.standing(connection).values() for hold in one]
        openings.tell(connection, found, policy=OpeningsPolicy(circuits=2), now=desk.now)
    listed = desk.run("alarm", "list", "--building", "03")
    assert "building_opened" in listed.stdout
    assert "2 of 2 circuits of south/03 are still off" in listed.stderr
    assert 'POST /api/v1/resets {"scope": {"campus": "south", "building": "03"}}' in listed.stderr
    assert len(desk.json("alarm", "list")["items"]) == 1
