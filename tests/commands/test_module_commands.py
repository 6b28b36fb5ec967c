"""`dormpower module`: replacements and commissionings on record, for the module that the site file names."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from config.settings import load
from dormpower import cli
from dormpower.books import migration, tables
from dormpower.books.database import open_books
from dormpower.books.sites import sync_site
from dormpower.commands.opening import campus_now, operator
from dormpower.domain.spans import UnableToChangeMeterError

SITE = """
site: {id: s, name: S}
database: sqlite:///books.db
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 1}]
modules:
  - {id: m1, profile: dormpower-dual, line: a, unit: 1}
  - {id: m2, profile: dormpower-dual, line: a, unit: 2}
rooms:
  - {room_id: r1, campus: c, building: b, floor: 1, name: 1, ac_module: m1, ac_channel: 1, rated_current_a: 32}
policies: {prices: [{from: 2026-01-01, price_millifen_per_kwh: 56530}]}
"""


@pytest.fixture
def desk(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE, encoding="utf-8")
    books = open_books(f"sqlite:///{tmp_path}/books.db")
    migration.upgrade(books)
    settings = load(path)
    now, today = campus_now(settings)
    sync_site(books=books, site=settings.site, now=now - timedelta(days=1), today=today)
    with books.write() as connection:
        connection.execute(
            sa.update(tables.meter_points).values(
                standing="accepted",
                register_wh=1000,
                register_at=now - timedelta(hours=2),
                segment_from_wh=1000,
                segment_from_at=now - timedelta(hours=2),
                open_on=today,
            )
        )

    def run(*arguments):
        return CliRunner().invoke(cli.app, ["module", *map(str, arguments), "--config", str(path)])

    yield run, path, now
    books.close()


def test_a_replacement_is_recorded_for_the_module_that_the_site_file_names_now(desk):
    run, path, now = desk
    at = (now - timedelta(hours=1)).isoformat()
    done = run("replaced", "r1-ac", "--at", at, "--final-wh", 1500, "--first-wh", 0, "--note", "dark")
    assert done.exit_code == 0, done.output
    path.write_text(SITE.replace("ac_module: m1", "ac_module: m2"), encoding="utf-8")
    run("replaced", "r1-ac", "--at", at, "--final-wh", 1500, "--first-wh", 0, "--note", "another one")
    (second, first) = json.loads(run("changes", "--json").stdout)["items"]
    assert first["meter_change_id"] == int(done.stdout)
    assert (first["module_id"], first["outcome"]) == ("m1", "superseded")
    assert (second["module_id"], second["channel"], second["outcome"]) == ("m2", 1, None)
    assert second["recorded_by"] == operator()
    assert "another one" not in run("changes", "--waiting").stdout
    assert "waits" in run("changes", "--waiting").stdout


def test_refusals_are_sentences_and_wrong_usage_is_told_apart(desk):
    run, _, now = desk
    at = (now - timedelta(hours=1)).isoformat()
    for arguments, told in (
        (("replaced", "r1-ac", "--at", at, "--final-wh", 999, "--note", "x"), "at least the 1000 Wh read last"),
        (("commissioned", "r1-ac", "--at", at, "--first-wh", 5, "--note", "x"), "believed already"),
        (("replaced", "nowhere-ac", "--at", at, "--note", "x"), "describes no such circuit"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, UnableToChangeMeterError)
        assert told in str(done.exception)
    assert run("replaced", "r1-ac", "--at", "yesterday", "--note", "x").exit_code == 2
    assert run("replaced", "r1-ac", "--note", "x").exit_code == 2
