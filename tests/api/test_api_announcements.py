"""Announcements on a room, as the rules in force have them: the site file's, and what was applied since."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
import yaml
from fastapi.testclient import TestClient

from api.app import create_app
from api.rules_in_force import SiteRules
from config.settings import load
from dormpower.books import shadow
from dormpower.books.tables import policy_proposals
from tests.api.conftest import OTHER, OWN

CURFEW = {"mode": "enforce", "rules": [{"from": "23:00", "to": "06:00", "kind": "lighting", "room": OWN}]}
NIGHT = {"mode": "enforce", "rules": [{"from": "22:00", "to": "07:00", "limit_w": 600}]}
TONIGHT = ("2026-05-20T15:00:00Z", "2026-05-20T22:00:00Z")


@pytest.fixture
def settings(tmp_path):
    rooms = [
        {
            "room_id": room_id,
            "campus": "south",
            "building": "01",
            "floor": "1",
            "name": room_id,
            "lighting_module": f"m-{number}",
            "lighting_channel": 0,
            "ac_module": f"m-{number}",
            "ac_channel": 1,
            "rated_current_a": 20,
        }
        for number, room_id in enumerate((OWN, OTHER))
    ]
    document = {
        "site": {"id": "test", "name": "Test"},
        "lines": [{"id": "l1", "transport": "tcp", "host": "127.0.0.1", "port": 5020}],
        "modules": [
            {"id": f"m-{number}", "profile": "dormpower-dual", "line": "l1", "unit": number + 1}
            for number in range(2)
        ],
        "rooms": rooms,
        "policies": {"curfew": CURFEW, "arrears": {"low_wh": 1, "critical_wh": 1}},
    }
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return load(path)


@pytest.fixture
def ruled(sqlite_campus, settings) -> Iterator:
    campus = sqlite_campus
    context = replace(campus.context, rules=SiteRules(settings, campus.clock))
    with TestClient(create_app(context)) as client:
        campus.client = client
        yield campus


def told(campus, room_id=OWN, who="student"):
    answer = campus.ask(who, "GET", f"/rooms/{room_id}", headers={"Accept-Language": "en"})
    return answer.json()["announcements"]


def apply(campus, section, content):
    """Put a section in force, as the gateway does."""
    now = campus.clock.now()
    with campus.books.write() as connection:
        connection.execute(
            sa.insert(policy_proposals).values(
                proposal_id=f"pol-{section}",
                section=section,
                content=content,
                note="test",
                proposed_by="admin",
                proposed_at=now,
                state="applied",
                applied_at=now,
            )
        )


def test_a_room_tells_its_next_curfew_to_its_residents_and_others_do_not(ruled):
    (announcement,) = told(ruled)
    assert announcement == {
        "cause": "curfew",
        "outage_id": None,
        "kind": "lighting",
        "from_at": TONIGHT[0],
        "to_at": TONIGHT[1],
        "limit_w": None,
        "detail": announcement["detail"],
    }
    assert announcement["detail"]["text"] == "Off by schedule from 2026-05-20 23:00 to 2026-05-21 06:00."
    assert told(ruled, OTHER, "maintenance") == []
    listed = ruled.ask("maintenance", "GET", "/rooms").json()["items"]
    assert {room["room_id"]: len(room["announcements"]) for room in listed}[OWN] == 1


def test_an_applied_change_is_told_within_a_second_and_keeps_the_other_sections(ruled):
    assert [one["cause"] for one in told(ruled)] == ["curfew"]
    apply(ruled, "night_mode", NIGHT)
    apply(ruled, "arrears", {"low_wh": 20_000, "critical_wh": 5_000})
    ruled.clock.advance(2)
    night, curfew = told(ruled)
    assert (night["cause"], night["limit_w"], night["kind"]) == ("night_limit", 600, None)
    assert "at most 600 W" in night["detail"]["text"]
    assert curfew["cause"] == "curfew"


def test_restored_books_that_nobody_has_confirmed_announce_no_schedule(ruled):
    with ruled.books.write() as connection:
        shadow.require_confirmation(connection)
    assert told(ruled) == []


def test_an_applied_section_that_does_not_fit_the_site_leaves_the_file_s_in_force(ruled):
    apply(ruled, "curfew", {"rules": [{"from": "23:00", "to": "06:00", "room": "gone"}]})
    assert [one["cause"] for one in told(ruled)] == ["curfew"]
