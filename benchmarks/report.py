"""What every benchmark prints and keeps: the machine, the versions, one table, one JSON file."""

import argparse
import importlib.metadata
import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("pymodbus", "uvloop", "sqlalchemy", "fastapi", "starlette", "uvicorn", "pydantic", "orjson")


@dataclass(slots=True, kw_only=True)
class Report:
    """One run's figures. `rows` are (what, figure, note) for people, `figures` the same as JSON.

    `checks` are conditions without which no figure is worth anything; `bounds` are how fast it has to be.
    """

    name: str
    assumptions: Mapping[str, Any]
    load_before: tuple[float, float, float] = field(default_factory=os.getloadavg)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    bounds: dict[str, bool] = field(default_factory=dict)

    def row(self, what: str, figure: str, note: str = "") -> None:
        """Add a line to the table."""
        self.rows.append((what, figure, note))

    def check(self, what: str, passed: bool) -> None:
        """Note whether a condition of the measurement held."""
        self.checks[what] = passed

    def bound(self, what: str, passed: bool) -> None:
        """Note whether it was fast enough."""
        self.bounds[what] = passed

    def exit_code(self, *, quick: bool) -> int:
        """Return 1 where a condition failed, or a bound of a full run; a quick run says nothing of speed."""
        held = [*self.checks.values(), *(() if quick else self.bounds.values())]
        return 0 if all(held) else 1

    def document(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return {
            "benchmark": self.name,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(self.load_before),
            "versions": versions(),
            "assumptions": dict(self.assumptions),
            "figures": self.figures,
            "checks": self.checks,
            "bounds": self.bounds,
        }

    def publish(self, folder: Path = RESULTS) -> Path:
        """Print the table and write the JSON; returns its path."""
        document = self.document()
        console = Console(width=None if Console().is_terminal else 120)
        what = document["machine"]
        console.print(
            f"{what['cpu']}, {what['cores']} cores, {what['memory_gb']} GB, {what['system']}; load average "
            f"{what['load_before'][0]:.1f} before, {what['load_after'][0]:.1f} after",
            highlight=False,
        )
        console.print(
            ", ".join(f"{key} {value}" for key, value in document["versions"].items()), highlight=False
        )
        console.print(", ".join(f"{key}: {value}" for key, value in self.assumptions.items()), highlight=False)
        table = Table(title=self.name, title_justify="left")
        table.add_column("what")
        table.add_column("figure", justify="right")
        table.add_column("note")
        for row in self.rows:
            table.add_row(*row)
        for check, passed in {**self.checks, **self.bounds}.items():
            table.add_row(check, "yes" if passed else "NO", "")
        console.print(table)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        console.print(f"written to {path}", highlight=False)
        return path


def machine(load_before: Sequence[float]) -> dict[str, Any]:
    """Describe the machine as far as it bears on the figures."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": [round(one, 2) for one in load_before],
        "load_after": [round(one, 2) for one in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the versions that the figures depend on."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values doesn't exceed (nearest rank)."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))
    return ordered[rank - 1]


def median(values: Sequence[float]) -> float:
    """Return the median of the rounds."""
    return float(statistics.median(values))


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a command line with what all benchmarks share."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--quick", action="store_true", help="small and short: shows that it works, not how fast")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    return made


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()
