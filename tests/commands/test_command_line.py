"""The command line as its users meet it: exit codes, sentences, no tracebacks, documented commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
import typer

from config.rooms_file import COLUMNS
from dormpower import cli
from dormpower.books import tables as t
from dormpower.books.database import open_books

ROOT = Path(__file__).parents[2]
SITE = """
site: {{id: s, name: S, zone: Asia/Shanghai}}
api: {{host: 127.0.0.1, port: 8000}}
lines: [{{id: a, transport: tcp, host: 127.0.0.1, port: {port}}}]
modules:
  - {{id: m1, profile: dormpower-dual, line: a, unit: 1}}
  - {{id: m2, profile: dormpower-dual, line: a, unit: 2}}
rooms_file: rooms.csv
policies: {{prices: [{{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}}]}}
"""
ROOMS = f"""{",".join(COLUMNS)}
r-1,south,03,1,101,m1,0,m1,1,32,
r-2,south,03,1,102,m2,0,m2,1,32,
"""


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("DORMPOWER_CONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "dormpower.yaml").write_text(SITE.format(port=1), encoding="utf-8")
    (folder / "rooms.csv").write_text(ROOMS, encoding="utf-8")
    return folder


def run(*arguments: object, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from dormpower.cli import main; main()", *map(str, arguments)],
        check=False,
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_a_good_site_checks_with_exit_code_0_and_a_broken_one_with_1(site):
    assert run("site", "check", folder=site).returncode == 0
    (site / "dormpower.yaml").write_text(SITE.format(port=70000), encoding="utf-8")
    done = run("site", "check", folder=site)
    assert done.returncode == 1
    assert "dormpower.yaml: lines[0].port: expected 1–65535, got 70000" in done.stderr
    assert done.stdout == ""
    as_json = run("site", "check", "--json", folder=site)
    assert as_json.returncode == 1
    assert [fault["key"] for fault in json.loads(as_json.stdout)["faults"]] == ["lines[0].port"]


def test_wrong_usage_is_exit_code_2(site):
    assert run("no-such-command", folder=site).returncode == 2
    assert run("site", "check", "--no-such-option", folder=site).returncode == 2
    assert run("restore", folder=site).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["token"],
        ["token", "li", "--revoke", "b"],
        ["add", "li", "wang", "--role", "student"],
        ["add", "li", "--role", "finance", "--room", "r-1"],
    ],
)
def test_options_of_users_that_contradict_each_other_are_wrong_usage(site, arguments):
    done = run("user", *arguments, folder=site, stdin="a password\n")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


def test_a_password_that_is_missing_is_a_refusal_not_wrong_usage(site):
    done = run("user", "add", "li", "--role", "student", folder=site)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "password: expected it as the first line of standard input, got nothing\n"


@pytest.mark.parametrize(
    "command",
    [["migrate"], ["serve"], ["gateway"], ["api"], ["simulate"], ["rooms", "export", "x.csv"], ["audit"]],
)
def test_a_missing_site_file_is_one_sentence_and_exit_code_1(tmp_path, command, monkeypatch):
    monkeypatch.delenv("DORMPOWER_CONFIG", raising=False)
    done = run(*command, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "dormpower.yaml: there is no such file; name one with --config FILE or DORMPOWER_CONFIG\n"
    )


def test_books_that_are_not_there_yet_are_refused_with_what_to_do(site):
    done = run("rooms", "import", "rooms.csv", folder=site)
    assert done.returncode == 1
    assert "run `dormpower migrate`" in done.stderr
    assert run("migrate", folder=site).returncode == 0


def test_migrate_makes_the_described_rooms_known_so_that_residents_can_be_added(site):
    run("migrate", folder=site)
    done = run("user", "add", "li", "--role", "student", "--room", "r-2", folder=site, stdin="secret word\n")
    assert (done.returncode, done.stderr) == (0, "added li (student)\n")


def test_something_unexpected_is_a_sentence_and_its_traceback_is_in_the_log(site, monkeypatch, capsys):
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", lambda **_: broken())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    structlog.reset_defaults()  # main logs to this test's standard error
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    log = Path(shown.err.rsplit(" in ", 1)[1].strip())
    assert "RuntimeError: a bug" in log.read_text(encoding="utf-8")


def test_importing_what_was_exported_changes_nothing(site):
    run("migrate", folder=site)
    run("rooms", "import", "rooms.csv", folder=site)
    for name in ("out.csv", "out.xlsx"):
        assert run("rooms", "export", name, folder=site).returncode == 0
        done = run("rooms", "import", name, "--json", folder=site)
        assert json.loads(done.stdout) == {"added": [], "changed": [], "removed": [], "dry_run": False}
    assert (site / "rooms.csv").read_text(encoding="utf-8") == ROOMS
    assert (site / "out.csv").read_text(encoding="utf-8") == ROOMS


def test_importing_shows_the_change_replaces_the_file_and_syncs_the_books(site):
    run("migrate", folder=site)
    run("rooms", "import", "rooms.csv", folder=site)
    changed = ROOMS.replace("r-2", "r-3").replace(",101,", ",Warden,")
    (site / "new.csv").write_text(changed, encoding="utf-8")
    planned = run("rooms", "import", "new.csv", "--dry-run", "--json", folder=site)
    assert (site / "rooms.csv").read_text(encoding="utf-8") == ROOMS
    done = run("rooms", "import", "new.csv", "--json", folder=site)
    changes = json.loads(done.stdout)
    assert changes == {
        "added": ["r-3"],
        "changed": ["r-1 (name)"],
        "removed": ["r-2"],
        "dry_run": False,
    }
    assert json.loads(planned.stdout) == {**changes, "dry_run": True}
    assert (site / "rooms.csv").read_text(encoding="utf-8") == changed
    books = open_books("sqlite:///books.db", base=site)
    with books.read() as connection:
        rows = connection.execute(sa.select(t.rooms.c.room_id, t.rooms.c.name, t.rooms.c.closed_at)).all()
    books.close()
    assert {row.room_id: (row.name, row.closed_at is None) for row in rows} == {
        "r-1": ("Warden", True),
        "r-2": ("102", False),
        "r-3": ("102", True),
    }


def test_a_rooms_file_with_a_fault_changes_nothing(site):
    run("migrate", folder=site)
    (site / "new.csv").write_text(ROOMS.replace("m2,1", "m1,1"), encoding="utf-8")
    done = run("rooms", "import", "new.csv", folder=site)
    assert done.returncode == 1
    assert "new.csv: row 3: ac_channel: channel 1 of m1 already serves r-1-ac" in done.stderr
    assert (site / "rooms.csv").read_text(encoding="utf-8") == ROOMS


def test_the_doctor_names_what_is_wrong_and_exits_with_1(site):
    done = run("doctor", "--json", folder=site)
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    wrong = {one["subject"]: one["detail"] for one in findings if one["verdict"] == "wrong"}
    assert wrong["books"] == "there are none yet; run `dormpower migrate`"
    assert wrong["line"].startswith("a: 127.0.0.1:1: not reachable")
    assert {one["subject"] for one in findings} >= {
        "python",
        "uvloop",
        "disk",
        "clock",
        "readings",
        "permissions",
    }


def _commands(command: object, path: tuple[str, ...] = ()) -> list[str]:
    names = getattr(command, "list_commands", None)
    if names is None:
        return [" ".join(path)]
    return [
        found for name in names(None) for found in _commands(command.get_command(None, name), (*path, name))
    ]


def test_every_command_is_documented():
    interfaces = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
    commands = _commands(typer.main.get_command(cli.app))
    assert {"site check", "rooms import", "backup", "audit"} <= set(commands)
    assert [command for command in commands if f"`dormpower {command}" not in interfaces] == []
