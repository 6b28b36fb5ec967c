"""Line protocol and InfluxQL as text: pure, so that escaping can be proved.

A reading's tags are written once for each circuit and kept (a prepared prefix), so that a line costs one
formatting of its fields.
"""

from collections.abc import Mapping

from dormpower.readings.instants import check_relay, known, to_ms
from dormpower.readings.port import Reading, ReadingTags

MEASUREMENT = "reading"
_FLOAT_FIELDS = ("power_w", "voltage_v", "current_a", "power_factor")
_SELECT_ROWS = (
    'SELECT "register_wh", "power_w", "voltage_v", "current_a", "power_factor", "relay" FROM "reading"'
)
_SELECT_STEPS = (
    'SELECT last("register_wh") AS "register_wh", mean("power_w") AS "power_w", '
    'mean("voltage_v") AS "voltage_v", mean("current_a") AS "current_a", '
    'mean("power_factor") AS "power_factor", last("relay") AS "relay" FROM "reading"'
)
_TAG_ESCAPES = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ ", "\n": "_", "\r": "_", "\\": "/"})
_STORED = str.maketrans({"\n": "_", "\r": "_", "\\": "/"})
_QUERY_ESCAPES = str.maketrans({"'": "\\'", "\\": "\\\\", "\n": "\\n"})


class Lines:
    """Writes the readings of one site as line protocol with millisecond timestamps.

    `tags` is looked up for each reading, so that a replaced module shows from the next reading on. A circuit
    without tags is still written, with its site and its own id: a reading is never lost to a gap in the site.
    """

    def __init__(self, *, site: str, tags: Mapping[str, ReadingTags]) -> None:
        self._site = site
        self._tags = tags
        self._prefixes: dict[str, tuple[ReadingTags | None, str]] = {}

    def line(self, reading: Reading) -> bytes:
        """Return one reading as one line, without its line end."""
        check_relay(reading.relay)
        fields = [f"register_wh={reading.register_wh:d}i"]
        for name in _FLOAT_FIELDS:
            value = known(getattr(reading, name))
            if value is not None:
                fields.append(f"{name}={float(value)!r}")
        if reading.relay is not None:
            fields.append(f'relay="{reading.relay}"')
        prefix = self._prefix(reading.circuit_id)
        return f"{prefix} {','.join(fields)} {to_ms(reading.at)}".encode()

    def _prefix(self, circuit_id: str) -> str:
        tags = self._tags.get(circuit_id)
        kept = self._prefixes.get(circuit_id)
        if kept is not None and kept[0] is tags:
            return kept[1]
        named = {"site": self._site, "circuit": circuit_id}
        if tags is not None:
            named |= {
                "campus": tags.campus,
                "building": tags.building,
                "room": tags.room,
                "kind": tags.kind,
                "module": tags.module,
            }
        # Sorted by name, as the server wants it for speed; the protocol has no empty tag values.
        prefix = ",".join(
            [MEASUREMENT, *(f"{name}={escape_tag(named[name])}" for name in sorted(named) if named[name])]
        )
        self._prefixes[circuit_id] = (tags, prefix)
        return prefix


def escape_tag(value: str) -> str:
    """Escape a tag's value.

    The protocol has no way to write a line end or a backslash before a comma in it: they become "_" and "/".
    """
    return value.translate(_TAG_ESCAPES)


def quote(value: str) -> str:
    """Write a string literal of InfluxQL; nothing in `value` can end it."""
    return f"'{value.translate(_QUERY_ESCAPES)}'"


def between_query(*, site: str, circuit_id: str, start_ms: int, end_ms: int, limit: int) -> str:
    """Return the InfluxQL for the readings of `[start_ms, end_ms)`."""
    return (
        f"{_SELECT_ROWS} WHERE {_where(site, circuit_id, start_ms, end_ms)} ORDER BY time ASC LIMIT {limit:d}"
    )


def every_query(*, site: str, circuit_id: str, start_ms: int, end_ms: int, every_s: int, limit: int) -> str:
    """Return the InfluxQL for steps of `every_s` seconds, aligned to the epoch, empty ones left out."""
    return (
        f"{_SELECT_STEPS} WHERE {_where(site, circuit_id, start_ms, end_ms)} "
        f"GROUP BY time({every_s:d}s) fill(none) ORDER BY time ASC LIMIT {limit:d}"
    )


def _where(site: str, circuit_id: str, start_ms: int, end_ms: int) -> str:
    return (
        f'"site" = {quote(escape_stored(site))} AND "circuit" = {quote(escape_stored(circuit_id))} '
        f"AND time >= {start_ms:d}ms AND time < {end_ms:d}ms"
    )


def escape_stored(value: str) -> str:
    """Return a tag's value as the server keeps it: what could not be written was replaced."""
    return value.translate(_STORED)
