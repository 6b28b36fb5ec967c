"""`dormpower policy` over the books, with and without a gateway that answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from config.settings import Settings, load
from dormpower import cli
from dormpower.books import leases, migration, policy_proposals, policy_takeovers, shadow
from dormpower.books.database import Books, open_books
from dormpower.books.policy_proposals import State
from dormpower.clock import load_clock
from dormpower.commands import policy

SITE = """
site: {id: s, name: S, zone: Asia/Shanghai}
database: sqlite:///books.db
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r-1, campus: south, building: "03", floor: "1", name: "101", lighting_module: m1,
      lighting_channel: 0, rated_current_a: 20}
policies:
  prices: [{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}]
  overload: {limit_w: 3000, mode: enforce}
"""
DRY_RUN = {
    "circuits": 1,
    "counts": {"cut": 1, "release": 0},
    "basis": {"stale": 0, "circuits": 1},
    "items": [
        {
            "effect": "cut",
            "circuit_id": "r-1-lighting",
            "rule": "rule:overload",
            "at": "2026-01-01T00:00:00+00:00",
            "already_off": False,
            "evidence": {"limit_w": 2000},
        }
    ],
}


@dataclass
class Desk:
    """A site with books, the commands on it, and what a gateway would answer."""

    settings: Settings
    books: Books

    def run(self, *arguments: str):
        return CliRunner().invoke(cli.app, ["policy", *arguments, "--config", str(self.settings.path)])

    def propose(self, text: str = "{limit_w: 2000, mode: enforce}", section: str = "overload") -> str:
        file = self.settings.folder / "section.yaml"
        file.write_text(text, encoding="utf-8")
        done = self.run("propose", section, str(file), "--note", "exam weeks")
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    def get(self, proposal_id: str) -> policy_proposals.Proposal:
        with self.books.read() as connection:
            return policy_proposals.get(connection, proposal_id)

    def _answer(self, *, refusing: bool) -> None:
        clock = load_clock(self.settings.folder)
        with self.books.write() as connection:
            for proposal in policy_takeovers.waiting(connection):
                now = clock.now()
                if refusing:
                    faults = [("policies.overload", "no such room")]
                    policy_takeovers.refuse(
                        connection, proposal=proposal, faults=faults, actor="gateway", now=now
                    )
                elif proposal.state is State.APPROVED:
                    policy_takeovers.take_over(connection, proposal_id=proposal.proposal_id, now=now)
                else:
                    policy_takeovers.note_dry_run(
                        connection, proposal=proposal, result=DRY_RUN, now=now, real_now=clock.real_now()
                    )

    @contextmanager
    def gateway(self, *, answers: bool = True, refusing: bool = False) -> Iterator[None]:
        """A gateway that holds its lease, and answers."""
        real_now = load_clock(self.settings.folder).real_now()
        leases.acquire(books=self.books, name="gateway:g1", holder="test", real_now=real_now, for_s=3600)
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.wait(0.01):
                self._answer(refusing=refusing)

        thread = threading.Thread(target=serve)
        if answers:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            if answers:
                thread.join()


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "dormpower.yaml"
    path.write_text(SITE, encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=settings.folder)
    migration.upgrade(books)
    yield Desk(settings=settings, books=books)
    books.close()


def test_a_change_is_proposed_tried_and_applied(desk):
    proposal_id = desk.propose()
    with desk.gateway():
        tried = desk.run("dry-run", proposal_id)
        assert tried.exit_code == 0, tried.output
        assert "r-1-lighting" in tried.stdout
        assert "cut 1; 0 of 1 circuits without a fresh reading" in tried.stdout
        assert json.loads(desk.run("dry-run", proposal_id, "--json").stdout) == DRY_RUN
        wrong = desk.run("apply", proposal_id, "--circuits", "0")
        assert wrong.exit_code != 0
        assert "said 1 would be cut, you confirm 0" in str(wrong.exception)
        done = desk.run("apply", proposal_id, "--circuits", "1")
    assert (done.exit_code, done.stdout.strip()) == (0, "applied: overload")
    applied = desk.get(proposal_id)
    assert applied.state is State.APPLIED
    assert str(applied.approved_by).startswith("cli:")
    assert applied.file_fingerprint == policy_proposals.fingerprint_of({"limit_w": 3000, "mode": "enforce"})


def test_on_a_restored_site_a_dry_run_says_what_it_is_worth_and_nothing_is_applied(desk, monkeypatch):
    monkeypatch.setitem(DRY_RUN, "basis", {"stale": 0, "circuits": 1, "in_shadow": True})
    with desk.books.write() as connection:
        shadow.require_confirmation(connection)
    proposal_id = desk.propose()
    with desk.gateway():
        tried = desk.run("dry-run", proposal_id)
        assert "the restore of this site awaits its confirmation" in tried.stderr
        assert "to apply:" not in tried.stderr
        refused = desk.run("apply", proposal_id, "--circuits", "1")
    assert refused.exit_code == 1
    assert "confirm it first with `dormpower restore --confirm`" in str(refused.exception)
    assert desk.get(proposal_id).state is State.PROPOSED


def test_sections_are_listed_with_where_they_come_from_and_what_is_open(desk):
    first = desk.propose()
    with desk.gateway():
        desk.run("dry-run", first)
        desk.run("apply", first, "--circuits", "1")
    second = desk.propose("mode: off", section="shedding")
    listed = json.loads(desk.run("list", "--json").stdout)
    sections = {one["section"]: one for one in listed["sections"]}
    assert (sections["overload"]["source"], sections["overload"]["proposal_id"]) == ("proposal", first)
    assert sections["overload"]["content"] == {"limit_w": 2000, "mode": "enforce"}
    assert sections["arrears"] == {
        "section": "arrears",
        "source": "file",
        "proposal_id": None,
        "applied_at": None,
        "content": None,
    }
    assert [one["proposal_id"] for one in listed["proposals"]] == [second]
    shown = desk.run("list").stdout
    assert first in shown
    assert "exam weeks" in shown


def test_faults_of_a_section_are_told_with_their_keys(desk):
    file = desk.settings.folder / "section.yaml"
    file.write_text("limit_w: 0\nmdoe: off\n", encoding="utf-8")
    done = desk.run("propose", "overload", str(file), "--note", "x")
    assert done.exit_code == 1
    assert "policies.overload.limit_w: expected whole watts" in str(done.exception)
    assert "policies.overload.mdoe: unknown key, did you mean mode?" in str(done.exception)
    assert desk.run("propose", "prices", str(file), "--note", "x").exit_code == 2
    file.write_text("[", encoding="utf-8")
    assert "not YAML" in str(desk.run("propose", "overload", str(file), "--note", "x").exception)


def test_without_a_gateway_nothing_is_asked_and_the_sentence_says_what_to_do(desk):
    proposal_id = desk.propose()
    for arguments in (("dry-run", proposal_id), ("apply", proposal_id, "--circuits", "0")):
        done = desk.run(*arguments)
        assert done.exit_code == 1
        assert "gateway g1 does not run: start it" in str(done.exception)
    assert desk.get(proposal_id).dry_run_asked_at is None


def test_a_gateway_that_does_not_answer_is_not_waited_for_for_ever(desk, monkeypatch):
    monkeypatch.setattr(policy, "WAIT_S", 0.05)
    proposal_id = desk.propose()
    with desk.gateway(answers=False):
        done = desk.run("dry-run", proposal_id)
        assert "has not answered within 0.05 s" in str(done.exception)
    monkeypatch.undo()
    with desk.gateway():
        desk.run("dry-run", proposal_id)
    monkeypatch.setattr(policy, "WAIT_S", 0.05)
    with desk.gateway(answers=False):
        done = desk.run("apply", proposal_id, "--circuits", "1")
        assert "approved, and the gateway has not taken it over" in str(done.exception)
    assert desk.get(proposal_id).state is State.APPROVED
    assert desk.run("withdraw", proposal_id).exit_code == 0
    assert desk.get(proposal_id).state is State.WITHDRAWN


def test_what_the_gateway_cannot_work_with_is_told(desk):
    proposal_id = desk.propose()
    with desk.gateway(refusing=True):
        done = desk.run("dry-run", proposal_id)
    assert done.exit_code == 1
    assert str(done.exception) == "policies.overload: no such room"
