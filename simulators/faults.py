"""What can go wrong in the field, by name: the words of the control interface."""

from enum import StrEnum


class FaultKind(StrEnum):
    """A fault of a module or a line. Those marked *event* happen once; the others last until cleared."""

    DEAD = "dead"  # the module answers nothing
    SLOW = "slow"  # delay_s: every answer comes so much later, and the line waits for it; MQTT: every result
    LATE_ANSWER = (
        "late_answer"  # delay_s: the answer comes while the line is on with the next request; MQTT: as slow
    )
    HANG_UP = "hang_up"  # the converter drops the connection when this module is asked; a serial port: silence
    WRONG_UNIT = "wrong_unit"  # answers under the next unit number
    CRC_ERROR = "crc_error"  # RTU: a wrong check sum; Modbus TCP: a transaction number that nobody asked with
    HALF_FRAME = "half_frame"  # only the first half of each answer
    EXCEPTION = "exception"  # code: every request is refused with it
    STUCK_RELAY = "stuck_relay"  # commands are accepted, the relay stays as it is
    WELDED_RELAY = "welded_relay"  # reports: what it says; current flows all the same
    SWITCHED_LOCALLY = "switched_locally"  # event; relay: someone presses the button at the meter
    REGISTER_RESET = "register_reset"  # event: registers fall to zero
    ROLLOVER_SOON = "rollover_soon"  # event; in_wh: so little is left until the register starts over
    REBOOT = "reboot"  # event: a new boot, registers keep their value; relay: how it comes back
    REBOOT_TO_ZEROS = "reboot_to_zeros"  # event: a new boot, and registers start from zero
    FLAG = "flag"  # event; flag: the module reports a condition until cleared; a trip opens its relay and stays
    # until that closes: by a command, or by itself where its profile has a self_restore_s
    LINE_DOWN = "line_down"  # a line: not listening, connections dropped
    BROKER_GONE = "broker_gone"  # an MQTT module: its connection is gone, it buffers
    CLOCK_UNSET = "clock_unset"  # an MQTT module: does not know the time


EVENTS = frozenset(
    {
        FaultKind.SWITCHED_LOCALLY,
        FaultKind.REGISTER_RESET,
        FaultKind.ROLLOVER_SOON,
        FaultKind.REBOOT,
        FaultKind.REBOOT_TO_ZEROS,
        FaultKind.FLAG,
    }
)
LINE_FAULTS = frozenset({FaultKind.LINE_DOWN})
BROKER_FAULTS = frozenset({FaultKind.BROKER_GONE})
_FRAME_FAULTS = frozenset({FaultKind.HANG_UP, FaultKind.WRONG_UNIT, FaultKind.CRC_ERROR, FaultKind.HALF_FRAME})
_MESSAGE_FAULTS = frozenset({FaultKind.BROKER_GONE, FaultKind.CLOCK_UNSET})
_RELAY_FAULTS = frozenset(
    {FaultKind.STUCK_RELAY, FaultKind.WELDED_RELAY, FaultKind.SWITCHED_LOCALLY, FaultKind.FLAG}
)
MODBUS_FAULTS = frozenset(FaultKind) - LINE_FAULTS - _MESSAGE_FAULTS
METER_FAULTS = MODBUS_FAULTS - _RELAY_FAULTS
"""Of a Modbus meter without a relay and without flags."""
MQTT_FAULTS = frozenset(FaultKind) - LINE_FAULTS - _FRAME_FAULTS


class UnableToInjectFaultError(Exception):
    """The fault does not exist, or not for what was named; the message says which."""
