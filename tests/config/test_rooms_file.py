"""rooms.csv and rooms.xlsx: round trips, faults by row, no formula in a spreadsheet."""

import csv

import pytest

from config.faults import Findings
from config.rooms_file import COLUMNS, read_rooms, write_rooms
from config.site_file import RoomRow

HEADER = ",".join(COLUMNS)
ROW = "south-03-412,south,south-03,4,412,m1,0,m1,1,32,"


def room(room_id: str, name: str) -> RoomRow:
    return RoomRow(
        room_id=room_id,
        campus="南校区",
        building="03",
        floor="4",
        name=name,
        lighting_module="m1",
        lighting_channel=0,
        rated_current_a=32,
    )


ROOMS = [
    room("a-1", "412"),
    room("a-2", "=HYPERLINK(1)"),
    room("a-3", "-3"),
    room("a-4", "宿管,“A”"),
    room("a-5", "@x"),
]


def read(path):
    findings = Findings("site.yaml")
    return [found.row for found in read_rooms(path, findings)], [str(fault) for fault in findings]


@pytest.mark.parametrize("name", ["rooms.csv", "rooms.xlsx"])
def test_what_is_written_is_read_back_identical(tmp_path, name):
    write_rooms(tmp_path / name, ROOMS)
    assert read(tmp_path / name) == (ROOMS, [])
    first = (tmp_path / "rooms.csv").read_bytes() if name == "rooms.csv" else None
    write_rooms(tmp_path / name, read(tmp_path / name)[0])
    assert read(tmp_path / name) == (ROOMS, [])
    if first:
        assert (tmp_path / name).read_bytes() == first


def test_no_cell_begins_like_a_formula(tmp_path):
    write_rooms(tmp_path / "rooms.csv", ROOMS)
    lines = (tmp_path / "rooms.csv").read_text(encoding="utf-8").splitlines()
    cells = [cell for row in csv.reader(lines) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{HEADER}\n{ROW.replace('32', 'x')}",
            "row 2: rated_current_a: expected whole amperes, 1–1000, got 'x'",
        ),
        (
            f"{HEADER}\n\n{ROW.replace('south-03-412', 'South 412')}",
            "row 3: room_id: expected a slug of a–z, 0–9, - and _ (at most 64), got 'South 412'",
        ),
        (f"{HEADER},colour\n{ROW},red", f"row 1: colour: unknown column; known: {', '.join(sorted(COLUMNS))}"),
        (f"{HEADER.replace('floor', 'flor')}\n{ROW}", "row 1: flor: unknown column, did you mean floor?"),
        (f"{HEADER}\n{ROW},extra", "row 2: expected 11 cells, got 12"),
        (f'{HEADER}\n"{ROW}', "row 2: not CSV: unexpected end of data"),
        ("", f"row 1: expected the columns {HEADER}, got an empty file"),
    ],
)
def test_a_fault_names_row_and_column(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rooms.csv").write_text(text, encoding="utf-8")
    assert f"rooms.csv: {expected}" in read(tmp_path / "rooms.csv")[1]


def test_a_byte_order_mark_is_tolerated(tmp_path):
    (tmp_path / "rooms.csv").write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8-sig")
    rooms, faults = read(tmp_path / "rooms.csv")
    assert faults == []
    assert rooms[0].room_id == "south-03-412"


def test_gbk_is_recognised_and_the_remedy_named(tmp_path):
    (tmp_path / "rooms.csv").write_text(f"{HEADER}\n{ROW.replace(',south,', ',南校区,')}\n", encoding="gbk")
    rooms, faults = read(tmp_path / "rooms.csv")
    assert rooms == []
    assert "looks like GBK" in faults[0]
    assert "CSV UTF-8" in faults[0]


def test_a_file_that_is_no_workbook_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "rooms.xlsx").write_bytes(b"not a workbook")
    assert "not an XLSX workbook" in read(tmp_path / "rooms.xlsx")[1][0]
