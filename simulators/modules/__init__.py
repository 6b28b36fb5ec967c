"""Simulated modules, one file a make; each encodes its register image by itself, from the public maps."""

from collections.abc import Callable, Sequence

from simulators.modules.acrel import AcrelDdsy1352
from simulators.modules.base import SimulatedModule
from simulators.modules.chint import ChintDdsu666
from simulators.modules.dual import DormpowerDual
from simulators.modules.eastron import EastronSdm230, EastronSdm630
from simulators.modules.hiking import HikingDds238
from simulators.modules.messages import DormpowerMqtt
from simulators.supply import Electric

MODULES: dict[str, Callable[..., SimulatedModule]] = {
    "dormpower-dual": DormpowerDual,
    "dormpower-mqtt": DormpowerMqtt,
    "eastron-sdm120": EastronSdm230,
    "eastron-sdm220": EastronSdm230,
    "eastron-sdm230": EastronSdm230,
    "eastron-sdm630": EastronSdm630,
    "chint-ddsu666": ChintDdsu666,
    "hiking-dds238-zn-sr": HikingDds238,
    "acrel-ddsy1352": AcrelDdsy1352,
}


def make_module(make: str, *, module_id: str, circuits: Sequence[Electric]) -> SimulatedModule:
    """Make a module for its circuits, in the order of channels."""
    return MODULES[make](module_id=module_id, circuits=circuits)
