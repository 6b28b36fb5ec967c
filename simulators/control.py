"""The control interface: faults, powers and the truth, for tests and the demo, from other processes.

One JSON object a line over a Unix socket in the data folder: `{"do": "fault", "subject": …, "kind": …,
"params": {…}}` is answered by `{"ok": true, "result": …}` or `{"ok": false, "error": sentence}`. The
file's rights keep others out.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from simulators.campus import Campus, UnableToFindError
from simulators.faults import UnableToInjectFaultError
from simulators.supply import UJ_PER_WH

CONTROL_SOCKET = "simulator.sock"
_LONGEST_LINE = 65_536


@runtime_checkable
class Advanceable(Protocol):
    """A clock that tests move."""

    def advance(self, seconds: float) -> None:
        """Move campus time."""


class UnableToControlError(Exception):
    """The simulation refused, or does not run; the message says why."""


class ControlServer:
    """Answers on the control socket."""

    def __init__(self, campus: Campus, path: Path) -> None:
        self._campus = campus
        self._path = path
        self._server: asyncio.Server | None = None
        self._actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "ping": self._ping,
            "fault": self._fault,
            "clear": self._clear,
            "truth": self._truth,
            "set_power": self._set_power,
            "add_power": self._add_power,
            "set_load_factor": self._set_load_factor,
            "set_register": self._set_register,
            "names": self._names,
            "totals": self._totals,
            "advance": self._advance,
        }

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=_LONGEST_LINE)
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the other side has gone, or sent a line beyond all measure
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            action = self._actions.get(str(request["do"]))
            if action is None:
                raise UnableToControlError(f"do: expected one of {', '.join(self._actions)}")
            return {"ok": True, "result": await action(request)}
        except (UnableToControlError, UnableToFindError, UnableToInjectFaultError) as refusal:
            return {"ok": False, "error": str(refusal)}
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as fault:
            return {"ok": False, "error": f"expected a request, got {fault!r}"}

    async def _ping(self, _: dict[str, Any]) -> str:
        return "simulator"

    async def _fault(self, request: dict[str, Any]) -> None:
        await self._campus.fault(request["subject"], request["kind"], **request.get("params", {}))

    async def _clear(self, request: dict[str, Any]) -> None:
        await self._campus.clear(request.get("subject"), request.get("kind"))

    async def _truth(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._campus.truth(request["circuit_id"])

    async def _set_power(self, request: dict[str, Any]) -> None:
        self._campus.set_power(request["circuit_id"], request["power_w"])

    async def _add_power(self, request: dict[str, Any]) -> None:
        self._campus.add_power(request["circuit_id"], float(request["power_w"]))

    async def _set_load_factor(self, request: dict[str, Any]) -> None:
        self._campus.set_load_factor(request["room_id"], float(request["factor"]))

    async def _set_register(self, request: dict[str, Any]) -> None:
        self._campus.set_register(request["circuit_id"], int(request["register_wh"]))

    async def _names(self, _: dict[str, Any]) -> dict[str, list[str]]:
        campus = self._campus
        return {
            "rooms": list(campus.rooms),
            "circuits": list(campus.circuits),
            "modules": list(campus.modules),
            "lines": list(campus.lines),
        }

    async def _totals(self, _: dict[str, Any]) -> dict[str, Any]:
        campus = self._campus
        now_ms = campus.now_ms()
        for circuit in campus.circuits.values():
            circuit.advance(now_ms)
        circuits = campus.circuits.values()
        return {
            "power_w": sum(circuit.power_mw() for circuit in circuits) / 1000,
            "energy_wh": sum(circuit.energy_uj for circuit in circuits) // UJ_PER_WH,
            "closed": sum(circuit.contacts_closed for circuit in circuits),
            "circuits": len(campus.circuits),
            "answers": sum(line.answers for line in campus.lines.values()),
        }

    async def _advance(self, request: dict[str, Any]) -> None:
        if not isinstance(self._campus.clock, Advanceable):
            raise UnableToControlError("advance: this campus's clock runs by itself")
        self._campus.clock.advance(float(request["seconds"]))


class ControlClient:
    """The other end: blocking, a call a request."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as fault:
            self._socket.close()
            raise UnableToControlError(f"{path}: no simulation answers there ({fault})") from fault
        self._file = self._socket.makefile("rwb")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, do: str, **arguments: Any) -> Any:
        """Ask for something by name. Raises UnableToControlError."""
        try:
            self._file.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._file.flush()
            line = self._file.readline()
        except OSError as fault:
            raise UnableToControlError(f"the simulation has gone ({fault})") from fault
        if not line:
            raise UnableToControlError("the simulation has gone")
        answer = json.loads(line)
        if not answer["ok"]:
            raise UnableToControlError(answer["error"])
        return answer["result"]

    def fault(self, subject: str, kind: str, **params: Any) -> None:
        """Let a fault of a module or line begin. Raises UnableToControlError."""
        self.call("fault", subject=subject, kind=kind, params=params)

    def clear(self, subject: str | None = None, kind: str | None = None) -> None:
        """End one fault, or all of a subject, or all there are. Raises UnableToControlError."""
        self.call("clear", subject=subject, kind=kind)

    def truth(self, circuit_id: str) -> dict[str, Any]:
        """Return what really is with a circuit. Raises UnableToControlError."""
        result: dict[str, Any] = self.call("truth", circuit_id=circuit_id)
        return result

    def set_power(self, circuit_id: str, power_w: float | None) -> None:
        """Let a circuit draw exactly so much; None gives it back. Raises UnableToControlError."""
        self.call("set_power", circuit_id=circuit_id, power_w=power_w)
