"""Backup while a writer writes, restore elsewhere: checked whole first, proven, in shadow until confirmed."""

import json
import shutil
import sqlite3
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import load
from dormpower.books import leases, migration, shadow
from dormpower.books.database import open_books
from dormpower.books.sites import sync_site
from dormpower.commands.archive import UnableToReadBackupError, unpack
from dormpower.commands.backup import UnableToBackUpError, backup
from dormpower.commands.ledger import broken_rules
from dormpower.commands.restore import UnableToRestoreError, restore
from dormpower.commands.restore_targets import UnableToPlaceBackupError

SITE = """
site: {id: s, name: S}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 1}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r-1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     ac_module: m1, ac_channel: 1, rated_current_a: 32}
"""
NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    path = folder / "dormpower.yaml"
    path.write_text(SITE, encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=folder)
    migration.upgrade(books)
    sync_site(books=books, site=settings.site, now=NOW, today=NOW.date())
    books.close()
    with sqlite3.connect(folder / "readings.db") as readings:
        readings.execute("CREATE TABLE readings (at INTEGER)")
        readings.execute("INSERT INTO readings VALUES (1)")
    readings.close()
    return path


def count_audit_rows(path: Path, where: str = "TRUE") -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM audit_log WHERE {where}").fetchone()[0])


def count_pairs(path: Path) -> int:
    return count_audit_rows(path, "action = 'pair'")


def test_a_backup_made_while_a_writer_writes_restores_elsewhere_and_proves(site, tmp_path, capsys):
    stop = threading.Event()
    written = threading.Event()

    def write() -> None:
        connection = sqlite3.connect(site.parent / "books.db", timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(2):  # both rows of a transaction are in the backup, or neither
                connection.execute(
                    "INSERT INTO audit_log (written_at, actor, action, subject_kind, subject_id, detail)"
                    " VALUES (0, 'writer', 'pair', 'site', 's', '{}')"
                )
            connection.execute("COMMIT")
            written.set()
            # As the gateway between two batches, it leaves the lock to others. SQLite keeps no queue for it: a
            # loop that takes it back within microseconds starves whoever waits, whatever the time-out.
            stop.wait(0.002)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(20)
        backup(tmp_path / "b.tar.gz", site)
        written.clear()
        assert written.wait(20)  # nothing that the backup did keeps the writer from going on
    finally:
        stop.set()
        writer.join()

    target = tmp_path / "elsewhere" / "dormpower.yaml"
    restore(tmp_path / "b.tar.gz", target)
    in_backup, in_the_end = count_pairs(target.parent / "books.db"), count_pairs(site.parent / "books.db")
    assert in_backup % 2 == 0
    assert 0 < in_backup < in_the_end
    assert load(target).site == load(site).site
    assert (target.parent / "readings.db").is_file()
    books = open_books("sqlite:///books.db", base=target.parent)
    assert broken_rules(books) == []
    with books.read() as connection:
        assert shadow.awaits_confirmation(connection)
    restore(None, target, confirmed=True)
    with books.read() as connection:
        assert not shadow.awaits_confirmation(connection)
    books.close()
    with pytest.raises(UnableToRestoreError, match="nothing to confirm"):
        restore(None, target, confirmed=True)


def test_what_is_there_is_refused_and_with_force_moved_aside(site, tmp_path):
    backup(tmp_path / "b.tar.gz", site)
    with pytest.raises(UnableToRestoreError, match="exists already"):
        restore(tmp_path / "b.tar.gz", site)
    before = count_audit_rows(site.parent / "books.db")
    restore(tmp_path / "b.tar.gz", site, force=True)
    aside = next(site.parent.glob("before-restore-*"))
    assert count_audit_rows(aside / "books.db") == before
    assert (aside / "dormpower.yaml").read_text(encoding="utf-8") == SITE


def contents(folder: Path) -> dict[str, bytes]:
    """All that stands in a folder; what SQLite keeps beside a database while it is read says nothing."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))
    }


@pytest.fixture
def other_disk(tmp_path) -> Iterator[Path]:
    """A folder on another file system than the site's."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def test_readings_that_live_on_another_disk_are_put_back_there(site, tmp_path, other_disk):
    readings = other_disk / "readings.db"
    shutil.move(site.parent / "readings.db", readings)
    site.write_text(f"{SITE}readings: {{store: embedded, path: {readings}}}\n", encoding="utf-8")
    backup(tmp_path / "b.tar.gz", site)
    readings.write_bytes(b"changed since")
    # The archive's own word does not count, the operator's does: the site file that is in place.
    with pytest.raises(UnableToPlaceBackupError, match="put a site file that names it at"):
        restore(tmp_path / "b.tar.gz", tmp_path / "elsewhere" / "dormpower.yaml", force=True)
    assert readings.read_bytes() == b"changed since"
    restore(tmp_path / "b.tar.gz", site, force=True)
    with sqlite3.connect(readings) as connection:
        assert connection.execute("SELECT at FROM readings").fetchall() == [(1,)]
    (aside,) = site.parent.glob("before-restore-*")
    assert (aside / "readings.db").read_bytes() == b"changed since"


def test_a_restore_that_fails_half_way_leaves_everything_as_it_was(site, tmp_path):
    (site.parent / "curves").mkdir()
    shutil.move(site.parent / "readings.db", site.parent / "curves" / "readings.db")
    site.write_text(f"{SITE}readings: {{store: embedded, path: curves/readings.db}}\n", encoding="utf-8")
    backup(tmp_path / "b.tar.gz", site)
    shutil.rmtree(site.parent / "curves")
    (site.parent / "curves").write_text("in the way", encoding="utf-8")
    site.write_text(SITE, encoding="utf-8")
    before = contents(site.parent)
    with pytest.raises(OSError, match="curves"):
        restore(tmp_path / "b.tar.gz", site, force=True)
    assert contents(site.parent) == before


def test_a_running_site_is_not_replaced_even_with_force(site, tmp_path):
    backup(tmp_path / "b.tar.gz", site)
    books = open_books("sqlite:///books.db", base=site.parent)
    assert leases.acquire(books=books, name="gateway", holder="g1", real_now=datetime.now(UTC), for_s=3600)
    books.close()
    with pytest.raises(UnableToRestoreError, match="in use: g1 holds gateway"):
        restore(tmp_path / "b.tar.gz", site, force=True)
    assert not list(site.parent.glob("before-restore-*"))


def repack(source: Path, target: Path, folder: Path, change) -> None:
    folder.mkdir()
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    change(folder)
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(folder.iterdir(), key=lambda path: (path.name != "manifest.json", path.name)):
            archive.add(path, arcname=path.name)


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "books.db").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "books.db").write_bytes(content)


def add_a_file(folder: Path) -> None:
    (folder / "stranger").write_text("x", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [(flip_a_byte, "books.db: damaged"), (add_a_file, "stranger: not named by the manifest")],
)
def test_a_backup_that_was_changed_is_refused_before_anything_is_written(site, tmp_path, change, message):
    backup(tmp_path / "b.tar.gz", site)
    repack(tmp_path / "b.tar.gz", tmp_path / "c.tar.gz", tmp_path / "work", change)
    target = tmp_path / "elsewhere" / "dormpower.yaml"
    with pytest.raises(UnableToReadBackupError, match=message):
        restore(tmp_path / "c.tar.gz", target)
    assert list(target.parent.iterdir()) == []


def forge(**fields):
    """Return a change of the manifest's entry of the clock; {folder} is where the backup is unpacked."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        (entry,) = [file for file in manifest["files"] if file["role"] == "clock"]
        entry |= {name: value.replace("{folder}", str(folder)) for name, value in fields.items()}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    return change


FORGED = {
    "an absolute path": (forge(path="{folder}/evil"), UnableToPlaceBackupError, "evil, outside"),
    "a way up": (forge(path="../evil"), UnableToPlaceBackupError, "evil, outside"),
    "a way down and up again": (forge(path="a/../../evil"), UnableToPlaceBackupError, "evil, outside"),
    "the data folder itself": (forge(path="."), UnableToPlaceBackupError, "outside"),
    "another file's place": (forge(path="x/../dormpower.yaml"), UnableToPlaceBackupError, "two files to"),
    "no path": (forge(path="a\0b"), UnableToReadBackupError, "expected a path"),
    "a name that leads elsewhere": (
        forge(name="../clock.json"),
        UnableToReadBackupError,
        "expected the plain name",
    ),
    "an unknown role": (forge(role="keys"), UnableToReadBackupError, "expected a role of"),
    "a role twice": (forge(role="books"), UnableToReadBackupError, "each role once"),
}


@pytest.mark.parametrize(("change", "refusal", "message"), FORGED.values(), ids=FORGED)
def test_a_manifest_that_leads_out_of_the_data_folder_is_refused_before_anything_is_written(
    site, tmp_path, change, refusal, message
):
    clock = {"campus_epoch": NOW.isoformat(), "real_epoch": NOW.isoformat(), "speed": 2.0}
    (site.parent / "clock.json").write_text(json.dumps(clock), encoding="utf-8")
    backup(tmp_path / "b.tar.gz", site)
    repack(tmp_path / "b.tar.gz", tmp_path / "c.tar.gz", tmp_path / "work", change)
    target = tmp_path / "elsewhere" / "dormpower.yaml"
    for force in (False, True):
        with pytest.raises(refusal, match=message):
            restore(tmp_path / "c.tar.gz", target, force=force)
    assert list(target.parent.iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_what_an_archive_links_to_is_not_followed(site, tmp_path):
    def link(folder: Path) -> None:
        (folder / "books.db").unlink()
        (folder / "books.db").symlink_to(site.parent / "books.db")

    backup(tmp_path / "b.tar.gz", site)
    repack(tmp_path / "b.tar.gz", tmp_path / "c.tar.gz", tmp_path / "work", link)
    target = tmp_path / "elsewhere" / "dormpower.yaml"
    with pytest.raises(UnableToReadBackupError, match=r"books\.db: not named by the manifest"):
        restore(tmp_path / "c.tar.gz", target)
    assert list(target.parent.iterdir()) == []


def test_a_truncated_archive_and_a_foreign_one_are_refused_in_a_sentence(site, tmp_path):
    backup(tmp_path / "b.tar.gz", site)
    content = (tmp_path / "b.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(content[: len(content) // 2])
    with tarfile.open(tmp_path / "foreign.tar.gz", "w:gz") as archive:
        archive.add(site, arcname="dormpower.yaml")
    for name in ("half.tar.gz", "foreign.tar.gz"):
        with pytest.raises(UnableToReadBackupError):
            restore(tmp_path / name, tmp_path / "elsewhere" / "dormpower.yaml")


def test_the_archive_is_for_its_owner_alone_and_holds_no_secret(site, tmp_path):
    (site.parent / "mqtt.password").write_text("hunter2", encoding="utf-8")
    with site.open("a", encoding="utf-8") as file:
        file.write("mqtt: {url: 'mqtt://127.0.0.1:1', username: g, password_file: mqtt.password}\n")
    backup(tmp_path / "b.tar.gz", site)
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o077 == 0
    (tmp_path / "out").mkdir()
    manifest = unpack(tmp_path / "b.tar.gz", tmp_path / "out")
    assert manifest.not_included == ("mqtt.password",)
    assert not [path for path in (tmp_path / "out").iterdir() if b"hunter2" in path.read_bytes()]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["site_id"] == "s"


def test_a_backup_has_any_name_that_is_not_taken(site, tmp_path):
    backup(tmp_path / "books.bak", site)
    restore(tmp_path / "books.bak", tmp_path / "elsewhere" / "dormpower.yaml")
    with pytest.raises(UnableToBackUpError, match="exists already"):
        backup(tmp_path / "books.bak", site)


def test_a_clock_of_a_demo_is_kept_with_the_books(site, tmp_path):
    clock = {"campus_epoch": NOW.isoformat(), "real_epoch": NOW.isoformat(), "speed": 2.0}
    (site.parent / "clock.json").write_text(json.dumps(clock), encoding="utf-8")
    backup(tmp_path / "b.tar.gz", site)
    target = tmp_path / "elsewhere" / "dormpower.yaml"
    restore(tmp_path / "b.tar.gz", target)
    assert json.loads((target.parent / "clock.json").read_text(encoding="utf-8")) == clock
