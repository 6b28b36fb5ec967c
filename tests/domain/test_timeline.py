"""How each thing that happens to a circuit is told."""

from datetime import UTC, datetime

import pytest

from dormpower.domain.feeder_facts import Why
from dormpower.domain.restoring import TIMER_OVER
from dormpower.domain.timeline import CommandSent, StateChanged, explain_entry, how_it_ended
from dormpower.messages.catalogue import text
from gateway.ports import SwitchOutcome

AT = datetime(2026, 5, 20, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ({"cause": "balance_above_floor", "available_wh": 10}, "payment"),
        ({"cause": TIMER_OVER, "restores_today": 1}, "timer"),
        ({"why": "over"}, "schedule"),
        ({"why": "schedule_changed"}, "schedule_changed"),
        ({"why": Why.CAPACITY.value, "pickup_w": 900}, "capacity"),
        ({"why": Why.TURN_OVER.value}, "turn_over"),
        ({"why": "not_in_force", "mode": "off"}, "policy"),
        ({"cause": "policy_shadow"}, "policy"),
        ({"reset_by": "maintenance"}, "reset"),
        ({"admin_reason": None}, "person"),
        ({"note": "all clear"}, "person"),
        ({}, "other"),
        ({"cause": "something a later version writes"}, "other"),
    ],
)
def test_how_a_hold_ended_is_told_by_what_its_rule_wrote_down(evidence: dict, told: str) -> None:
    assert how_it_ended(evidence) == told


def command(outcome: str | None, relay: str = "open", reasons: tuple[str, ...] = ("overload",)) -> CommandSent:
    return CommandSent(
        entry_id="cmd_1",
        at=AT,
        relay=relay,
        reasons=reasons,
        attempt=2,
        finished_at=None,
        outcome=outcome,
        read_back_relay=None,
        read_back_at=None,
    )


@pytest.mark.parametrize("outcome", [*SwitchOutcome, "interrupted", None])
@pytest.mark.parametrize("relay", ["open", "closed"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_outcome_of_a_command_has_a_sentence_of_its_own(outcome, relay, language) -> None:
    said = explain_entry(command(outcome, relay))
    assert said.params["outcome"] != ["other"]
    assert text(said.code, said.params, language)


def test_a_command_tells_why_which_try_and_how_it_ended() -> None:
    said = explain_entry(command("not_followed", reasons=("overload", "arrears")))
    assert text(said.code, said.params, "en") == (
        "Command to open the switch (overload, arrears), try 2: read back, and the switch did not follow."
    )
    closing = explain_entry(command("confirmed", "closed", ()))
    assert "Nothing holds it off any more" in text(closing.code, closing.params, "en")


def test_what_another_version_wrote_is_told_as_other_and_never_refused() -> None:
    changed = StateChanged(
        entry_id="1",
        at=AT,
        from_state="normal",
        to_state="offline",
        cause="weather",
        actor="rule:weather",
        relay=None,
    )
    for entry in (changed, command("melted")):
        said = explain_entry(entry)
        assert "other" in str(said.params)
        assert text(said.code, said.params, "zh")
