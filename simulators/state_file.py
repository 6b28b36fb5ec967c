"""What a simulated campus keeps on disk, so that it goes on where it was.

Theory of operation. The file is written each two seconds and after each switching, atomically. With it goes a
*reserve* for each circuit under power: the most that its counter can reach before the next writing. After a
clean end counters go on from their values, after kill -9 from the reserve, so that no register ever falls below
what it has told somebody. To make that hold, nothing is answered once the reserve's time is over until it is
written anew, and nothing between a switching and its writing. While the program does not run, the campus has no
supply. A loss of power to the machine is not covered: this is a simulation.
"""

import json
import os
from pathlib import Path
from typing import Any

from simulators.campus import Campus
from simulators.modules.messages import DormpowerMqtt

STATE_FILE = "simulator.json"
SAVE_EVERY_S = 2.0
RESERVE_S = 4.0
_VERSION = 1


class UnableToReadStateError(Exception):
    """The state file is damaged; the message names it."""


class StateFile:
    """The campus's memory, in its data folder."""

    def __init__(self, *, folder: Path, campus: Campus) -> None:
        self.path = folder / STATE_FILE
        self._campus = campus
        self._saved_at_s = float("-inf")
        self._dirty = False

    def attach(self) -> None:
        """Restore what there is, and write from now on before anything is told."""
        self._restore()
        self.save(clean=False)
        self._campus.on_change = self._note_change
        self._campus.before_answer = self._before_answer

    def _note_change(self) -> None:
        self._dirty = True

    def _before_answer(self) -> None:
        age_s = self._campus.clock.monotonic() - self._saved_at_s
        if self._dirty or age_s > RESERVE_S - 0.5:
            self.save(clean=False)

    def save(self, *, clean: bool) -> None:
        """Write the file. Raises OSError."""
        campus = self._campus
        now_ms = campus.now_ms()
        for room in campus.rooms.values():
            room.advance(now_ms)
        reserve_ms = round(RESERVE_S * campus.clock.speed * 1000)
        record = {
            "version": _VERSION,
            "clean": clean,
            "seed": campus.seed,
            "at_ms": now_ms,
            "circuits": {circuit_id: self._circuit(circuit_id, reserve_ms) for circuit_id in campus.circuits},
            "rooms": {room_id: room.state() for room_id, room in campus.rooms.items()},
            "modules": {module_id: module.state() for module_id, module in campus.modules.items()},
        }
        temporary = self.path.with_name(f"{STATE_FILE}.{os.getpid()}")
        temporary.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
        temporary.replace(self.path)
        self._saved_at_s = campus.clock.monotonic()
        self._dirty = False

    def _circuit(self, circuit_id: str, reserve_ms: int) -> dict[str, Any]:
        circuit = self._campus.circuits[circuit_id]
        room_id, _, kind = circuit_id.rpartition("-")
        flows = circuit.conducts() or circuit.closes_in_ms is not None
        coming_uj = self._campus.rooms[room_id].coming_uj(kind, reserve_ms) if flows else 0
        return {
            "energy_uj": circuit.energy_uj,
            "reserve_uj": circuit.energy_uj + coming_uj,
            "contacts_closed": circuit.contacts_closed,
            "limit_w": circuit.limit_w,
            "trips": circuit.trips,
            "flags": sorted(circuit.flags),
            "closes_in_ms": circuit.closes_in_ms,
        }

    def _restore(self) -> None:
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']}")
            self._apply(record)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise UnableToReadStateError(
                f"{self.path}: expected the state of a simulated campus (version {_VERSION}), got {fault!r}; "
                "move it away to start the simulation anew"
            ) from fault

    def _apply(self, record: dict[str, Any]) -> None:
        campus = self._campus
        counter = "energy_uj" if record["clean"] else "reserve_uj"
        for circuit_id, kept in record["circuits"].items():
            circuit = campus.circuits.get(circuit_id)
            if circuit is not None:
                circuit.energy_uj = int(kept[counter])
                circuit.contacts_closed = bool(kept["contacts_closed"])
                circuit.limit_w = int(kept["limit_w"])
                circuit.trips = int(kept["trips"])
                circuit.flags = set(kept["flags"])
                circuit.closes_in_ms = kept.get("closes_in_ms")
        for module_id, kept in record["modules"].items():
            module = campus.modules.get(module_id)
            if module is not None and len(kept["offsets_uj"]) == len(module.channels):
                module.restore(kept)
                if isinstance(module, DormpowerMqtt):
                    module.reboot()  # its sequence numbers start over, so it is another boot
        for room_id, kept in record["rooms"].items():
            if room_id in campus.rooms:
                campus.rooms[room_id].restore(kept)
        now_ms = campus.now_ms()
        for room in campus.rooms.values():
            room.hold(now_ms)
        for load in campus.spare_loads:
            load.hold(now_ms)
