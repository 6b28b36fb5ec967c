"""Prometheus metrics of the API process, and gauges read from the books. No label names a room or a person."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()

_CACHE_S = 5.0
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Requests:
    """Counts requests by route template."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "dormpower_http_requests",
            "Requests answered, by route template, method and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "dormpower_http_request_seconds",
            "Time from the request's head to the end of the answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one answered request; an unknown method is counted as OTHER, so that labels stay few."""
        known = method if method in {"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"} else "OTHER"
        self._total.labels(method=known, route=route, status=str(status)).inc()
        self._seconds.labels(route=route).observe(duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One gauge's present values; `values` maps the labels' values (none without labels) to the figure."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: Mapping[tuple[str, ...], float] = field(default_factory=dict)


class BooksCollector(Collector):
    """Reads gauges from the books when scraped, at most every 5 s."""

    def __init__(self, read: Callable[[], list[Gauge]]) -> None:
        self._read = read
        self._lock = Lock()
        self._cached: list[Gauge] = []
        self._cached_until = 0.0
        self._reachable = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; with the books out of reach only `dormpower_books_reachable 0`."""
        gauges = self._present()
        yield GaugeMetricFamily(
            "dormpower_books_reachable", "1 while the books can be read.", value=self._reachable
        )
        for gauge in gauges:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for key, value in sorted(gauge.values.items()):
                family.add_metric(key, value)
            yield family

    def describe(self) -> list[Metric]:
        """Nothing is read when the collector is registered."""
        return []

    def _present(self) -> list[Gauge]:
        with self._lock:
            if time.monotonic() < self._cached_until:
                return self._cached
            try:
                self._cached = self._read()
                self._reachable = 1.0
            except SQLAlchemyError:
                if self._reachable:
                    log.exception("metrics.books_unreachable")
                self._cached = []
                self._reachable = 0.0
            self._cached_until = time.monotonic() + _CACHE_S
            return self._cached
