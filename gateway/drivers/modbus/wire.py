"""How long frames are on a serial line's wire (MODBUS over Serial Line 1.02); TCP takes no time. Pure."""

from dormpower.domain.site import Line, Transport
from gateway.drivers.modbus.frames import Request

_UNIT_AND_CHECK_SUM_BYTES = 3
_SHORTEST_SILENCE_S = 0.00175  # instead of 3.5 characters above 19200 baud


def silence_s(line: Line) -> float:
    """Return the silence between frames: 3.5 characters' time."""
    if line.transport is not Transport.SERIAL:
        return 0.0
    return _SHORTEST_SILENCE_S if line.baud > 19200 else 3.5 * _bits_a_byte(line) / line.baud


def transfer_s(line: Line, request: Request) -> float:
    """Return how long question and answer are on the wire, besides the module's time to answer."""
    if line.transport is not Transport.SERIAL:
        return 0.0
    frame_bytes = len(request.pdu) + request.answer_bytes + 2 * _UNIT_AND_CHECK_SUM_BYTES
    return frame_bytes * _bits_a_byte(line) / line.baud


def _bits_a_byte(line: Line) -> int:
    return 1 + 8 + (line.parity != "N") + line.stop_bits
