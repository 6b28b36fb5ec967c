"""The main job on a running site: poll, store, charge, warn twice, cut, recharge, close; a day settled exactly.

`prove_main_job` drives one circuit of every kind of line at once and raises AssertionError where what happened
is not what the simulated modules know to be true. The same steps run on every database, broker and readings
store that the site may stand on.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from proofs.running_site import RunningSite, eventually
from proofs.site_folder import PRICE_MILLIFEN_PER_KWH, Plan

# Ten past eleven at night: a day ends within the proof. No courtesy hours until three.
BEFORE_MIDNIGHT = datetime(2026, 5, 20, 15, 10, tzinfo=UTC)
DAY, NEXT_DAY = "2026-05-20", "2026-05-21"
# The lead is long enough for both warnings to be seen on the room's status before the cut.
MAIN_PLAN = Plan(tcp_rooms=1, rtu_rooms=1, mqtt_rooms=1, campus_start=BEFORE_MIDNIGHT, warning_lead_s=600)
MAIN_CIRCUITS = ("tcp-01-101-lighting", "rtu-01-101-ac", "mqtt-01-101-lighting")
FIRST_FEN, SECOND_FEN = 120, 3_000
RESOLUTION_WH = 10  # of `dormpower-dual`, the coarsest in these sites
AC_MINIMUM_OFF = timedelta(seconds=300)


def energy_of(amount_fen: int) -> int:
    """Return what an amount buys, in whole Wh rounded down."""
    return amount_fen * 1_000_000 // PRICE_MILLIFEN_PER_KWH


def prove_main_job(
    site: RunningSite, circuits: Sequence[str] = MAIN_CIRCUITS, *, power_w: float = 7_000.0
) -> None:
    """Drive the circuits from a first recharge through arrears and back, and past midnight."""
    before = prepare(site, circuits)
    for circuit_id in circuits:
        site.set_power(circuit_id, power_w)
    told_at = expect_warned(site, circuits)
    for circuit_id in circuits:
        shown = expect_cut(site, circuit_id)
        assert as_instant(shown["holds"][0]["since_at"]) >= told_at[circuit_id], "cut earlier than was told"
    for circuit_id in circuits:
        answer = site.recharge(circuit_id, SECOND_FEN, key=f"second-{circuit_id}")
        assert answer.status_code == 201, answer.text
    for circuit_id in circuits:
        expect_closed(site, circuit_id)
        site.set_power(circuit_id, 1_000.0)
    for circuit_id in circuits:
        expect_day_settled(site, circuit_id)
    site.set_all_powers(0.0)
    for circuit_id in circuits:
        bought_wh = energy_of(FIRST_FEN) + energy_of(SECOND_FEN)
        expect_charged_exactly(site, circuit_id, bought_wh=bought_wh, before=before[circuit_id])
    audited = site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr


def prepare(site: RunningSite, circuits: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fund all circuits, these with little, and start the gateway; nothing is drawn yet.

    Returns what really was before the gateway saw anything, by circuit.
    """
    site.set_all_powers(0.0)
    before = {circuit_id: site.truth(circuit_id) for circuit_id in circuits}
    site.fund_all(but=circuits)
    for circuit_id in circuits:
        answer = site.recharge(circuit_id, FIRST_FEN, key=f"first-{circuit_id}")
        assert answer.status_code == 201, answer.text
        assert answer.json()["energy_wh"] == energy_of(FIRST_FEN)
    site.start_gateway()
    for circuit_id in circuits:
        expect_normal(site, circuit_id)
    return before


def expect_normal(site: RunningSite, circuit_id: str) -> dict[str, Any]:
    """Wait until a circuit is on, its register believed."""

    def normal() -> dict[str, Any] | None:
        shown = site.circuit(circuit_id)
        accepted = site.point(circuit_id).standing == "accepted"
        return shown if accepted and (shown["state"], shown["relay"]) == ("normal", "closed") else None

    return eventually(normal, what=f"{circuit_id} is normal and closed")


def expect_warned(site: RunningSite, circuits: Sequence[str]) -> dict[str, datetime]:
    """Wait until each circuit shows both warnings while it is still supplied; queued once for each channel.

    Returns the earliest instant of a cut that each was told.
    """
    told_at: dict[str, datetime] = {}

    def warned() -> bool:
        for circuit_id in circuits:
            shown = site.circuit(circuit_id)
            if circuit_id in told_at or len(shown["warnings"]) != 2:
                continue
            if shown["state"] != "normal":
                raise RuntimeError(f"{circuit_id}: {shown['state']} before both warnings were seen")
            told_at[circuit_id] = as_instant(shown["cut_not_before_at"])
            assert [one["number"] for one in shown["warnings"]] == [1, 2]
            assert all(one["detail"]["text"] for one in shown["warnings"])
            lead = timedelta(seconds=site.files.plan.warning_lead_s)
            assert told_at[circuit_id] >= as_instant(shown["warnings"][1]["warned_at"]) + lead
        return len(told_at) == len(circuits)

    eventually(warned, what="both warnings are shown", every_s=0.02)
    for circuit_id in circuits:
        queued = site.rows("SELECT channel FROM notices WHERE circuit_id = :circuit_id", circuit_id=circuit_id)
        assert [row.channel for row in queued] == ["wechat", "wechat"]
    return told_at


def expect_cut(site: RunningSite, circuit_id: str) -> dict[str, Any]:
    """Wait for an arrears cut; prove two warnings in time, the read-back, and open contacts in the field."""

    def cut() -> dict[str, Any] | None:
        shown = site.circuit(circuit_id)
        wanted = ("arrears", "open", "settled")
        return shown if (shown["state"], shown["relay"], shown["control"]) == wanted else None

    shown = eventually(cut, what=f"{circuit_id} is cut for arrears")
    assert shown["level"] == "arrears"
    assert [(hold["reason"], hold["release"]) for hold in shown["holds"]] == [("arrears", "payment")]
    (row,) = site.rows(
        "SELECT placed_at, evidence FROM holds WHERE circuit_id = :circuit_id AND released_at IS NULL",
        circuit_id=circuit_id,
    )
    evidence = as_json(row.evidence)
    assert evidence["available_wh"] <= evidence["floor_wh"] == 0
    first = datetime.fromisoformat(evidence["first_warning_at"])
    second = datetime.fromisoformat(evidence["second_warning_at"])
    lead = timedelta(seconds=site.files.plan.warning_lead_s)
    assert first <= second <= as_instant(row.placed_at) - lead, "the second warning is too young for this cut"
    last = site.commands(circuit_id)[-1]
    assert (last.relay, last.outcome, last.read_back_relay) == ("open", "confirmed", "open")
    truth = site.truth(circuit_id)
    assert (truth["contacts"], truth["conducts"]) == ("open", False)
    return shown


def expect_closed(site: RunningSite, circuit_id: str) -> None:
    """Wait until a paid circuit is closed again; its minimum off time has been kept."""
    eventually(
        lambda: (site.circuit(circuit_id)["state"], site.truth(circuit_id)["contacts"]) == ("normal", "closed"),
        what=f"{circuit_id} closes after the payment",
    )
    expect_normal(site, circuit_id)
    opened, closed = site.commands(circuit_id)[-2:]
    assert (closed.relay, closed.outcome, closed.read_back_relay) == ("closed", "confirmed", "closed")
    if circuit_id.endswith("-ac"):
        assert as_instant(closed.recorded_at) >= as_instant(opened.finished_at) + AC_MINIMUM_OFF


def expect_day_settled(site: RunningSite, circuit_id: str) -> None:
    """Wait until the first day is posted; the usage shown, the journal and the registers say the same."""
    path = f"/circuits/{circuit_id}/usage/daily?from={DAY}&to={DAY}"
    eventually(
        lambda: site.rows(
            "SELECT 1 FROM settled_days WHERE circuit_id = :circuit_id AND used_on = :used_on",
            circuit_id=circuit_id,
            used_on=DAY,
        ),
        what=f"{circuit_id}: {DAY} is settled",
        within_s=60,
    )
    (day,) = site.get(path)["items"]
    charged = site.rows(
        "SELECT -SUM(energy_wh) AS energy_wh FROM transactions WHERE circuit_id = :circuit_id "
        "AND used_on = :used_on AND kind IN ('consumption', 'adjustment')",
        circuit_id=circuit_id,
        used_on=DAY,
    )
    assert day["energy_wh"] == charged[0].energy_wh > 0
    assert day["quality"] in {"measured", "estimated"}
    if day["register_to_wh"] is not None:
        assert day["register_to_wh"] - day["register_from_wh"] == day["energy_wh"]


def expect_charged_exactly(
    site: RunningSite, circuit_id: str, *, bought_wh: int, before: Mapping[str, Any]
) -> None:
    """Prove that what was charged is what flowed, to the module's resolution, and the balance the rest."""

    def all_taken_in() -> Any:
        point, truth = site.point(circuit_id), site.truth(circuit_id)
        return point if truth["power_w"] == 0 and point.register_wh == truth["register_wh"] else None

    point = eventually(all_taken_in, what=f"{circuit_id}: the last register is taken in")
    truth = site.truth(circuit_id)
    assert point.metered_wh == truth["register_wh"] - before["register_wh"], "all that flowed is metered"
    flowed_wh = truth["energy_wh"] - before["energy_wh"]
    assert abs(flowed_wh - point.metered_wh) <= RESOLUTION_WH
    usage = site.get(f"/circuits/{circuit_id}/usage/daily?from={DAY}&to={NEXT_DAY}")
    assert usage["total_wh"] == point.metered_wh
    assert site.circuit(circuit_id)["balance_wh"] == bought_wh - point.metered_wh


def as_json(value: Any) -> Any:
    """Return a JSON column of a raw row: text on SQLite, a document on PostgreSQL."""
    return json.loads(value) if isinstance(value, str) else value


def as_instant(value: Any) -> datetime:
    """Return an instant column of a raw row as it is kept: milliseconds, text or an instant."""
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC)
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo else found.replace(tzinfo=UTC)
