"""What people read of a decision's evidence: the figures of its sentence, and nothing of anybody else."""

from datetime import UTC, datetime

from dormpower.domain.evidence import MAX_SAMPLES, shown_evidence
from dormpower.domain.holds import Reason

AT = "2026-05-20T04:00:00+00:00"


def test_an_overload_tells_limit_peak_and_how_long() -> None:
    written = {
        "limit_w": 2000,
        "night": False,
        "samples": [[AT, 2100.4], [AT, 2350.6]],
        "over_s": 12.0,
        "sample_count": 2,
        "sampling_period_s": 12.0,
    }
    shown = shown_evidence(Reason.OVERLOAD, written)
    assert shown is not None
    assert shown.params == {
        "limit_w": 2000,
        "peak_w": 2351,
        "over_s": 12,
        "sample_count": 2,
        "sampling_period_s": 12,
    }
    assert [(one.at, one.power_w) for one in shown.samples] == [
        (datetime(2026, 5, 20, 4, tzinfo=UTC), 2100.4),
        (datetime(2026, 5, 20, 4, tzinfo=UTC), 2350.6),
    ]


def test_a_step_of_load_tells_its_figures_and_its_samples_before_and_after() -> None:
    written = {
        "delta_w": 1502.3,
        "ratio": 0.99876,
        "power_factor": None,
        "duration_s": 5.0,
        "sampling_period_s": 5.0,
        "resistive_from": 0.95,
        "before": [[AT, 80.0, 90.0]],
        "after": [[AT, 1582.3, None]],
    }
    shown = shown_evidence(Reason.PROHIBITED, written)
    assert shown is not None
    assert (shown.params["delta_w"], shown.params["ratio"], shown.params["power_factor"]) == (1502, 0.999, None)
    assert [(one.power_w, one.apparent_va) for one in shown.samples] == [(80.0, 90.0), (1582.3, None)]


def test_a_shed_never_names_the_room_that_it_takes_over_from() -> None:
    written = {
        "feeder_id": "south-03",
        "why": "swap",
        "demand_w": 181_000,
        "limit_w": 180_000,
        "power_w": 950.0,
        "turn": 2,
        "swapped_for": "south-03-999-ac",
    }
    shown = shown_evidence(Reason.SHED, written)
    assert shown is not None
    assert shown.code == "evidence.shed_swap"
    assert "south-03-999-ac" not in str(shown)
    assert shown.params["demand_w"] == 181_000


def test_what_is_shown_of_a_long_record_is_bounded() -> None:
    shown = shown_evidence(Reason.OVERLOAD, {"samples": [[AT, float(power_w)] for power_w in range(500)]})
    assert shown is not None
    assert len(shown.samples) == MAX_SAMPLES
    assert shown.samples[-1].power_w == 499.0


def test_a_planned_outage_and_the_daily_hours_are_told_apart() -> None:
    codes = [
        shown.code
        for causes in (["outage:out_1", "curfew.weekdays"], ["curfew.weekdays"])
        if (shown := shown_evidence(Reason.CURFEW, {"causes": causes, "from_at": AT}))
    ]
    assert codes == ["evidence.outage", "evidence.curfew"]
    assert shown_evidence(Reason.LOCKOUT, {}) is None
