"""The catalogue of sentences: complete in both languages, and chosen as the browser asks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.arrears import Level
from dormpower.domain.evidence import shown_evidence
from dormpower.domain.holds import Hold, Reason, Release, SupplyState, explain
from dormpower.domain.reconcile import Control, WaitsFor, WaitUntil, waiting_of
from dormpower.domain.samples import Flag
from dormpower.domain.timeline import CAUSES, ENDED, OTHER, OUTCOMES, UNDER_WAY
from dormpower.messages.catalogue import (
    LANGUAGES,
    UnknownMessageError,
    negotiate,
    parameters,
    sentences,
    text,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("code", sorted(sentences()))
def test_every_code_has_both_languages_with_the_same_parameters(code: str) -> None:
    entry = sentences()[code]
    assert set(entry) == set(LANGUAGES)
    assert parameters(entry["zh"]) == parameters(entry["en"])
    assert all(sentence.strip() for sentence in entry.values())


@pytest.mark.parametrize(
    "code",
    [
        *(f"state.{state}" for state in SupplyState),
        *(f"level.{level}" for level in Level),
        *(f"release.{release}" for release in Release),
        *(f"control.{control}" for control in Control),
        *(f"waiting.{why}" for why in WaitsFor if waiting_of(WaitUntil(why=why)) is not None),
        *(f"alarm.{kind}" for kind in AlarmKind),
        *(f"warning.{level}" for level in Level if level is not Level.OK),
        *(f"flags.{flag}" for flag in Flag),
        *(f"reason.{reason}" for reason in Reason),
        *(f"cause.{cause}" for cause in (*sorted(CAUSES), OTHER)),
        *(f"outcome.{outcome}" for outcome in (*sorted(OUTCOMES), UNDER_WAY, OTHER)),
        *(f"ended.{how}" for how in sorted(ENDED)),
    ],
)
def test_everything_that_people_see_has_an_entry(code: str) -> None:
    assert code in sentences()


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_hold_is_explained_in_both_languages(reason: Reason, timed: bool, language: str) -> None:
    hold = Hold(
        hold_id="hld_1",
        circuit_id="south-03-412-ac",
        reason=reason,
        placed_at=AT,
        placed_by="rule:test",
        holder="maintenance",
        note="replace breaker",
        evidence={"available_wh": -12},
        expected_release_at=AT if timed else None,
        confirmed_open_at=AT if timed else None,
    )
    explanation = explain(hold)
    assert set(explanation.params) == parameters(sentences()[explanation.code]["en"])
    assert text(explanation.code, explanation.params, language)


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("evidence", [{}, {"why": "swap"}, {"causes": ["outage:o1"]}])
@pytest.mark.parametrize("language", LANGUAGES)
def test_all_evidence_that_is_shown_has_its_sentence(reason: Reason, evidence: dict, language: str) -> None:
    shown = shown_evidence(reason, evidence)
    if shown is not None:
        assert parameters(sentences()[shown.code]["en"]) <= set(shown.params)
        assert text(shown.code, shown.params, language)


def test_a_list_is_filled_in_with_the_sentences_of_its_members_and_nothing_known_as_such() -> None:
    params = {"flags": ["cover_open", "relay_fault"], "power_w": None}
    assert "cover open, relay feedback fault; power at that moment ? W" in text(
        "evidence.module_trip", params, "en"
    )
    assert "表盖打开、开关反馈故障" in text("evidence.module_trip", params, "zh")


def test_no_sentence_calls_a_switched_off_circuit_safe() -> None:
    for code, entry in sentences().items():
        assert "safe" not in entry["en"].lower(), code
        assert "安全" not in entry["zh"], code


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("en", "en"),
        ("en-GB,en;q=0.9,zh;q=0.5", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en;q=0.1,zh;q=0.2", "zh"),
        ("fr,en;q=0.3", "en"),
        ("fr", "zh"),
        ("en;q=0", "zh"),
        ("en;q=nonsense", "zh"),
    ],
)
def test_the_language_is_the_one_that_the_browser_asks_for(header: str | None, language: str) -> None:
    assert negotiate(header) == language


@given(st.text())
def test_no_header_whatever_breaks_the_choice_of_language(header: str) -> None:
    assert negotiate(header) in LANGUAGES


def test_an_unknown_code_or_a_missing_parameter_is_told() -> None:
    with pytest.raises(UnknownMessageError, match="no such"):
        text("no such", {}, "en")
    with pytest.raises(UnknownMessageError, match="balance_kwh"):
        text("hold.arrears", {}, "en")


def test_a_parameter_is_filled_in_as_text_and_never_interpreted() -> None:
    said = text("hold.lockout", {"holder": "{note}", "note": "{0}"}, "en", zone=ZoneInfo("UTC"))
    assert "{note}: {0}." in said
