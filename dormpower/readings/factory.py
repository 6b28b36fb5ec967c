"""Opening the readings store that the site file names."""

from pathlib import Path

from dormpower.readings.embedded import EmbeddedReadings


def open_embedded(path: Path, *, keep_days: int | None = None, read_only: bool = False) -> EmbeddedReadings:
    """Open the SQLite store. `read_only` for processes beside the gateway: the file need not exist yet.

    `keep_days` is kept for the job that calls `drop_before`; None keeps everything.
    """
    return EmbeddedReadings(path, keep_days=keep_days, read_only=read_only)
