"""What a gateway has counted since it started, as the numbers that `/metrics` tells."""

from collections.abc import Sequence

from dormpower.readings.influx import InfluxReadings
from dormpower.readings.port import ReadingsStore
from gateway.drivers.mqtt.link import MqttLink
from gateway.intake import Intake
from gateway.poll import LinePoller

_POLLED = ("polls", "probes", "timeouts", "unusable", "refused", "line_downs", "cycles")
_HEARD = (
    "readings",
    "acknowledged",
    "foreign",
    "retained",
    "missed",
    "repeated",
    "unmatched_results",
    "overflowed",
)


def counted(
    *, intake: Intake, pollers: Sequence[LinePoller], link: MqttLink | None, readings: ReadingsStore
) -> dict[str, float]:
    """Return the counters of a gateway's parts, by name."""
    taken = intake.counters
    figures = {f"intake_{name}": float(getattr(taken, name)) for name in taken.__slots__}
    polled = [poller.counters for poller in pollers]
    for name in _POLLED:
        figures[f"poll_{name}"] = float(sum(getattr(one, name) for one in polled))
    figures["poll_longest_cycle_s"] = max((one.cycle_s for one in polled), default=0.0)
    if link is not None:
        for name in _HEARD:
            figures[f"mqtt_{name}"] = float(getattr(link.counts, name))
        figures["mqtt_refused"] = float(sum(link.counts.refused.values()))
    outbox = readings.counts() if isinstance(readings, InfluxReadings) else None
    if outbox is not None:
        figures |= {
            "outbox_pending": float(outbox.pending_lines),
            "outbox_pending_bytes": float(outbox.pending_bytes),
            "outbox_delivered": float(outbox.delivered_lines),
            "outbox_dropped": float(outbox.dropped_lines),
            "outbox_rejected": float(outbox.rejected_lines),
        }
    return figures
