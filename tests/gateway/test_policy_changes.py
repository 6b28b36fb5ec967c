"""What a start makes of policies: versions on record, holds without a rule released, all others left alone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from config.changed_policies import with_policies
from dormpower.books import holds, outages, policies, shadow
from dormpower.books.tables import audit_log
from dormpower.domain.holds import Hold, Reason
from dormpower.domain.scopes import Scope
from tests.gateway.composed_site import ComposedSite, site_document

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
CURFEW = {"from": "11:00", "to": "14:00"}
CIRCUIT = "r-1-lighting"

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(**sections: Any) -> ComposedSite:
            feeders = [{"id": "f", "limit_kw": 10}]
            site = ComposedSite(tmp_path, site_document(sections, feeders=feeders), at=NOON)
            stack.callback(site.close)
            for _ in range(4):
                site.sample()
            return site

        yield open_one


def restart(site: ComposedSite, **sections: Any) -> None:
    site.settings = with_policies(site.settings, sections)
    site.start()


def audited(site: ComposedSite, *actions: str) -> list[tuple[str, str, dict[str, Any]]]:
    with site.books.read() as connection:
        rows = connection.execute(
            sa.select(audit_log).where(audit_log.c.action.in_(actions)).order_by(audit_log.c.audit_id)
        )
        return [(row.action, row.subject_id, row.detail) for row in rows]


def outage(site: ComposedSite, *, lasts_s: float = 3600) -> str:
    with site.books.write() as connection:
        now = site.clock.now()
        announced = outages.announce(
            connection,
            scope=Scope(building="01", campus="south"),
            from_at=now,
            to_at=now + timedelta(seconds=lasts_s),
            note="work on the riser",
            actor="mai",
            now=now,
        )
    site.pass_time(1)
    return announced.outage.outage_id


def holds_of(site: ComposedSite) -> list[Hold]:
    return [hold for hold in site.holds(CIRCUIT) if hold.reason is Reason.CURFEW]


@pytest.mark.parametrize("mode", ["enforce", "shadow", "off"])
def test_a_standing_planned_outage_is_left_alone_at_a_start_whatever_the_mode_of_curfews(open_site, mode):
    site = open_site(curfew={"mode": mode})
    outage(site)
    (before,) = holds_of(site)
    assert not before.shadow
    site.start()
    assert holds_of(site) == [before]
    site.pass_time(60)
    assert holds_of(site) == [before]
    assert audited(site, "hold.curfew.released") == []


def test_an_outage_within_an_enforced_curfew_stands_when_the_curfew_becomes_a_report(open_site):
    site = open_site(curfew={"mode": "enforce", "rules": [CURFEW]})
    outage(site)
    (joined,) = holds_of(site)
    assert joined.expected_release_at == NOON + timedelta(hours=2)
    restart(site, curfew={"mode": "shadow", "rules": [CURFEW]})
    assert joined in holds_of(site)
    site.pass_time(1)
    enforced = [hold for hold in holds_of(site) if not hold.shadow]
    assert [hold.evidence["causes"][0][:7] for hold in enforced] == ["outage:"]
    assert enforced[0].expected_release_at < joined.expected_release_at


def test_a_curfew_that_is_switched_off_after_its_outage_is_over_is_released_at_the_start(open_site):
    site = open_site(curfew={"mode": "enforce", "rules": [CURFEW]})
    outage(site, lasts_s=600)
    site.clock.advance(1200)  # nobody ran
    assert holds_of(site) != []
    restart(site, curfew={"mode": "off", "rules": [CURFEW]})
    assert holds_of(site) == []


def test_a_called_off_outage_ends_at_the_first_look_after_the_start(open_site):
    site = open_site(curfew={"mode": "enforce"})
    outage_id = outage(site)
    with site.books.write() as connection:
        outages.call_off(connection, outage_id=outage_id, actor="mai", note="done early", now=site.clock.now())
    site.start()
    site.pass_time(1)
    assert holds_of(site) == []


def test_a_restored_site_and_its_confirmation_change_no_policy(open_site):
    site = open_site(
        arrears={"mode": "enforce"},
        overload={"mode": "enforce"},
        shedding={"mode": "enforce"},
        curfew={"mode": "enforce", "rules": [CURFEW]},
    )
    before = audited(site, "policy.changed")
    (enforced,) = holds_of(site)
    with site.books.write() as connection:
        shadow.require_confirmation(connection)
    site.start()
    assert audited(site, "policy.changed") == before
    assert enforced not in holds_of(site)
    with site.books.write() as connection:
        shadow.confirm(connection, actor="ada", site_id="composed", now=site.clock.now())
    site.start()
    assert audited(site, "policy.changed") == before


def test_shedding_and_closings_are_recorded_policies(open_site):
    site = open_site(shedding={"mode": "enforce", "cycle_s": 20}, closings={"at_once": 5, "every_s": 30})
    with site.books.read() as connection:
        found = policies.versions(connection)
    assert found["rule:shedding"].described["cycle_s"] == 20
    assert found["rule:closings"].described == {"circuits": 5, "every_s": 30}
    restart(site, closings={"at_once": 6, "every_s": 30})
    ((_, rule, detail),) = audited(site, "policy.changed")[-1:]
    assert (rule, detail["before"]["circuits"], detail["after"]["circuits"]) == ("rule:closings", 5, 6)


def test_shedding_that_is_switched_off_releases_its_holds_in_the_step_that_audits_the_change(open_site):
    site = open_site(shedding={"mode": "enforce"})
    with site.books.write() as connection:
        holds.place(
            connection,
            circuit_id="r-1-ac",
            reason=Reason.SHED,
            placed_by="rule:shedding",
            evidence={},
            now=site.clock.now(),
        )
    restart(site, shedding={"mode": "off"})
    assert site.holds("r-1-ac") == ()
    changed, released = audited(site, "policy.changed", "hold.shed.released")[-2:]
    assert (changed[1], changed[2]["after"]["mode"]) == ("rule:shedding", "off")
    assert released[1:] == ("r-1-ac", {**released[2], "why": "not_in_force", "mode": "off"})
