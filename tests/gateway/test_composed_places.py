"""What differs by place and by profile, from the site file to control: off times, trips, limits of phases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
import yaml

from config.changed_policies import with_policies
from config.faults import UnableToLoadSiteError
from dormpower.books import policies
from dormpower.books.tables import audit_log
from dormpower.domain.holds import Reason
from tests.gateway.composed_site import RATED_CURRENT_A, ComposedSite, site_document

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
SHIPPED = Path(__file__).parents[2] / "config" / "profiles" / "dormpower-dual.yaml"

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(*, profile: dict[str, Any] | None = None, **policies: Any) -> ComposedSite:
            document = site_document(policies, rooms=2)
            if profile:
                folder = tmp_path / "profiles"
                folder.mkdir()
                own = yaml.safe_load(SHIPPED.read_text("utf-8")) | {"name": "own"} | profile
                (folder / "own.yaml").write_text(yaml.safe_dump(own, sort_keys=False), "utf-8")
                document["profiles_folder"] = "profiles"
                document["modules"] = [{**one, "profile": "own"} for one in document["modules"]]
            site = ComposedSite(tmp_path, document, at=NOON)
            stack.callback(site.close)
            for _ in range(4):
                site.sample()
            return site

        yield open_one


def test_minimum_off_times_are_by_kind_and_differ_by_place(open_site):
    site = open_site(min_off={"ac_s": 240, "overrides": [{"room": "r-2", "ac_s": 600, "lighting_s": 10}]})
    found = {
        circuit.circuit_id: site.gateway.control.memory(circuit.circuit_id).circuit.min_off_s
        for circuit in site.settings.site.circuits()
    }
    assert found == {"r-1-lighting": 0, "r-1-ac": 240, "r-2-lighting": 10, "r-2-ac": 600}


def test_how_relays_may_close_is_on_record_and_a_change_is_audited(open_site):
    site = open_site(min_off={"ac_s": 240})
    site.settings = with_policies(site.settings, {"min_off": {"ac_s": 600}})
    site.start()
    with site.books.read() as connection:
        in_force = policies.versions(connection)
        changed = connection.execute(
            sa.select(audit_log.c.detail).where(
                audit_log.c.action == "policy.changed", audit_log.c.subject_id == "rule:min_off"
            )
        ).scalars()
        assert [detail["after"]["ac_s"] for detail in changed] == [240, 600]
    assert in_force["rule:min_off"].described["ac_s"] == 600
    assert in_force["rule:trips"].described["restores_a_day"] == 3


def test_below_three_minutes_for_air_conditioning_the_site_check_warns(open_site):
    site = open_site(min_off={"ac_s": 60})
    assert "policies.min_off.ac_s" in {fault.key for fault in site.settings.warnings}


def test_how_often_a_module_s_own_trip_ends_by_itself_differs_by_place(open_site):
    site = open_site(
        profile={"self_restore_s": 300}, trips={"overrides": [{"kind": "lighting", "restores_a_day": 0}]}
    )
    site.sample(tripped=["r-1-lighting", "r-1-ac"])
    (latched,), (timed,) = site.holds("r-1-lighting"), site.holds("r-1-ac")
    assert (latched.reason, timed.reason) == (Reason.MODULE_TRIP, Reason.MODULE_TRIP)
    assert latched.expected_release_at is None  # none today: maintenance resets it
    assert timed.expected_release_at is not None


@pytest.mark.parametrize(("phases", "tripped"), [(1, True), (3, False)])
def test_without_a_limit_given_each_phase_may_carry_the_rated_current(open_site, phases, tripped):
    site = open_site(profile={"phases": phases}, overload={"mode": "enforce"})
    for _ in range(3):
        site.sample({"r-1-ac": 2.0 * RATED_CURRENT_A * 220})
    assert [hold.reason is Reason.OVERLOAD for hold in site.holds("r-1-ac") if not hold.shadow] == (
        [True] if tripped else []
    )


HOURS = {"from": "23:00", "to": "06:00"}
RULES = {"curfew": HOURS, "night_mode": {**HOURS, "limit_w": 300}}
OVERRIDES = ("min_off", "trips", "arrears", "overload", "prohibited", "shedding")
PLACES = [
    ({"campus": "suoth"}, "campus"),
    ({"building": "9"}, "building"),
    ({"room": "r-7"}, "room"),
    ({"campus": "south", "room": "r-7"}, "room"),
]
FLOOR = ({"building": "01", "floor": "7"}, "floor")


@pytest.mark.parametrize(
    ("section", "rows", "place", "part"),
    [
        *((name, "rules", *one) for name in RULES for one in [*PLACES, FLOOR]),
        *((name, "overrides", *one) for name in OVERRIDES for one in PLACES),
    ],
)
def test_a_rule_for_a_place_that_no_room_has_is_refused(tmp_path, section, rows, place, part):
    values = {**RULES, "shedding": {"shed": "never"}}.get(section, {})
    document = site_document({section: {rows: [place | values]}})
    with pytest.raises(UnableToLoadSiteError) as refusal:
        ComposedSite(tmp_path, document, at=NOON)
    (fault,) = refusal.value.faults
    assert fault.key == f"policies.{section}.{rows}[0].{part}"
    assert fault.message.startswith(f"unknown {part}")


def test_a_building_is_looked_for_within_its_campus(tmp_path):
    rooms = site_document({}, rooms=2)["rooms"]
    rooms[1] |= {"campus": "north", "building": "02"}
    row = {"campus": "south", "building": "02", **HOURS}
    with pytest.raises(UnableToLoadSiteError, match="unknown building '02'"):
        ComposedSite(tmp_path, site_document({"curfew": {"rules": [row]}}, rooms=2) | {"rooms": rooms}, at=NOON)
