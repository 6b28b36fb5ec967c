"""rooms.csv and rooms.xlsx: reading with every fault by row, writing so that a spreadsheet runs no formula.

A cell that begins with `=`, `+`, `-`, `@` or a tab is written with an apostrophe in front (OWASP: CSV
injection) and read without it, so that what was exported comes back the same.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.faults import Findings, did_you_mean, show_path
from config.site_file import RoomRow
from config.site_parsing import parse_room

COLUMNS = (
    "room_id",
    "campus",
    "building",
    "floor",
    "name",
    "lighting_module",
    "lighting_channel",
    "ac_module",
    "ac_channel",
    "rated_current_a",
    "feeder",
)
_NEEDED = tuple(column for column in COLUMNS if RoomRow.model_fields[column].is_required())
_WHOLE = ("lighting_channel", "ac_channel", "rated_current_a")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
MAX_ROWS = 200_000


class UnableToWriteRoomsError(Exception):
    """The rooms can't be written; the message says where and why."""


@dataclass(frozen=True, slots=True)
class SourcedRoom:
    """A room with the place that describes it: `rooms.csv`, `row 5` or `site.yaml`, `rooms[3]`."""

    row: RoomRow
    file: str
    place: str

    def key(self, column: str) -> str:
        """Return the key under which a fault of a column is told."""
        return f"{self.place}: {column}" if self.place.startswith("row ") else f"{self.place}.{column}"


def read_rooms(path: Path, findings: Findings) -> list[SourcedRoom]:
    """Read a CSV or XLSX file; faults go to `findings` with their row (the header is row 1)."""
    file = show_path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        findings.refuse("", "there is no such file", file=file)
        return []
    except OSError as fault:
        findings.refuse("", f"can't be read: {fault.strerror}", file=file)
        return []
    xlsx = path.suffix.lower() == ".xlsx"
    table = _xlsx_table(content, findings, file) if xlsx else _csv_table(content, findings, file)
    if not table:
        return []
    header = [str(cell).strip() for cell in table[0][1]]
    if not _header_fits(header, findings, file):
        return []
    rooms = []
    for number, cells in table[1:]:
        if len(cells) > len(header) and any(cells[len(header) :]):
            findings.refuse(f"row {number}", f"expected {len(header)} cells, got {len(cells)}", file=file)
            continue
        values = dict(zip(header, (_cell(cell) for cell in cells), strict=False))
        parsed = parse_room(_typed(values))
        if isinstance(parsed, RoomRow):
            rooms.append(SourcedRoom(parsed, file, f"row {number}"))
        else:
            for column, message in parsed:
                findings.refuse(f"row {number}: {column}", message, file=file)
    return rooms


def write_rooms(path: Path, rows: Iterable[RoomRow]) -> None:
    """Write all rooms as CSV or XLSX (by the name), replacing the file in one step."""
    content = _xlsx_bytes(rows) if path.suffix.lower() == ".xlsx" else _csv_bytes(rows)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise UnableToWriteRoomsError(f"{path}: can't be written: {fault.strerror}") from fault


def _header_fits(header: Sequence[str], findings: Findings, file: str) -> bool:
    before = len(findings.faults)
    for column in header:
        if column not in COLUMNS:
            findings.refuse(f"row 1: {column}", f"unknown column{did_you_mean(column, COLUMNS)}", file=file)
        elif header.count(column) > 1:
            findings.refuse(f"row 1: {column}", "the same column twice", file=file)
    for column in _NEEDED:
        if column not in header:
            findings.refuse("row 1", f"expected a column {column}, got none", file=file)
    return len(findings.faults) == before


def _csv_table(content: bytes, findings: Findings, file: str) -> list[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        findings.refuse("", _encoding_advice(content), file=file)
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    table: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            number = reader.line_num
            if any(cell.strip() for cell in cells):
                table.append((number, cells))
    except csv.Error as fault:
        findings.refuse(f"row {reader.line_num}", f"not CSV: {fault}", file=file)
        return []
    return _bounded(table, findings, file)


def _encoding_advice(content: bytes) -> str:
    try:
        content.decode("gb18030")
    except UnicodeDecodeError:
        return "expected UTF-8 text, got another encoding; save it as CSV UTF-8"
    return (
        "expected UTF-8 text, got what looks like GBK (Excel's plain CSV); in Excel choose "
        "“CSV UTF-8 (comma delimited)”, or convert: iconv -f GB18030 -t UTF-8 OLD.csv > NEW.csv"
    )


def _xlsx_table(content: bytes, findings: Findings, file: str) -> list[tuple[int, list[Any]]]:
    import python_calamine  # noqa: PLC0415 - only who reads a workbook pays for it

    try:
        workbook = python_calamine.load_workbook(io.BytesIO(content))
        rows = workbook.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, OSError, ValueError, IndexError) as fault:
        findings.refuse("", f"not an XLSX workbook: {fault}", file=file)
        return []
    table = [
        (number, cells)
        for number, cells in enumerate(rows, start=1)
        if any(str(cell).strip() for cell in cells)
    ]
    return _bounded(table, findings, file)


def _bounded(table: list[tuple[int, list[Any]]], findings: Findings, file: str) -> list[tuple[int, list[Any]]]:
    if not table:
        findings.refuse("row 1", f"expected the columns {','.join(COLUMNS)}, got an empty file", file=file)
    if len(table) > MAX_ROWS + 1:
        findings.refuse("", f"expected at most {MAX_ROWS} rooms, got {len(table) - 1}", file=file)
        return []
    return table


def _cell(cell: Any) -> str:
    """Return a cell as text: workbooks keep whole numbers as floats; our apostrophe is taken off."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell).strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _typed(values: dict[str, str]) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for column, text in values.items():
        if text == "":
            continue
        whole = column in _WHOLE and text.isascii() and text.removeprefix("-").isdigit()
        typed[column] = int(text) if whole else text
    return typed


def _cells(row: RoomRow) -> list[str]:
    cells = []
    for column in COLUMNS:
        value = getattr(row, column)
        text = "" if value is None else str(value)
        cells.append(f"'{text}" if text.startswith(_FORMULA) else text)
    return cells


def _csv_bytes(rows: Iterable[RoomRow]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue().encode()


def _xlsx_bytes(rows: Iterable[RoomRow]) -> bytes:
    import xlsxwriter  # noqa: PLC0415 - only who writes a workbook pays for it

    content = io.BytesIO()
    workbook = xlsxwriter.Workbook(
        content,
        {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    sheet = workbook.add_worksheet("rooms")
    for number, cells in enumerate([list(COLUMNS), *(_cells(row) for row in rows)]):
        for column, text in enumerate(cells):
            if text:
                sheet.write_string(number, column, text)
    sheet.freeze_panes(1, 1)
    sheet.autofit()
    workbook.close()
    return content.getvalue()
