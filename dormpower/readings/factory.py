"""Opening the readings store that the site file names."""

from collections.abc import Mapping
from pathlib import Path

from dormpower.readings.embedded import EmbeddedReadings
from dormpower.readings.influx import InfluxReadings
from dormpower.readings.outbox import DEFAULT_MAX_BYTES, Outbox
from dormpower.readings.port import ReadingTags


def open_embedded(path: Path, *, read_only: bool = False) -> EmbeddedReadings:
    """Open the SQLite store. `read_only` for processes beside the gateway: the file need not exist yet."""
    return EmbeddedReadings(path, read_only=read_only)


def open_influx(
    *,
    url: str,
    org: str,
    bucket: str,
    token: str,
    site: str,
    tags: Mapping[str, ReadingTags],
    outbox_path: Path | None,
    outbox_max_bytes: int = DEFAULT_MAX_BYTES,
) -> InfluxReadings:
    """Open InfluxDB readings and start delivering what the outbox holds.

    `outbox_path` None for processes beside the gateway: they only read. `tags` by circuit id is looked up at
    each reading and may be changed. For InfluxDB 1.8 with sign-in the token is `username:password`. Raises
    UnableToReachReadingsError where the outbox can't be used; an absent server is no error.
    """
    outbox = None if outbox_path is None else Outbox(outbox_path, max_bytes=outbox_max_bytes)
    store = InfluxReadings(url=url, org=org, bucket=bucket, token=token, site=site, tags=tags, outbox=outbox)
    store.start()
    return store
