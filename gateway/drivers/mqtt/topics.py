"""The topics between modules and the gateway: `dormpower/{site}/{module}/{kind}`."""

from dataclasses import dataclass
from enum import StrEnum

ROOT = "dormpower"
_UNUSABLE = frozenset("/+#\0")


class Kind(StrEnum):
    """What a module publishes."""

    READING = "reading"
    STATUS = "status"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class ModuleTopic:
    """A topic taken apart."""

    module_id: str
    kind: Kind


class Topics:
    """The topics of one site."""

    def __init__(self, site_id: str) -> None:
        if not site_id or _UNUSABLE & set(site_id):
            raise ValueError(f"site.id: expected an id without / + #, got {site_id!r}")
        self._prefix = f"{ROOT}/{site_id}"

    def filters(self) -> tuple[str, ...]:
        """Return what the gateway subscribes to: each kind of every module, nothing else."""
        return tuple(f"{self._prefix}/+/{kind}" for kind in Kind)

    def parse(self, topic: str) -> ModuleTopic | None:
        """Return whose topic it is, or None for one that is no module's."""
        parts = topic.removeprefix(f"{self._prefix}/").split("/")
        if not topic.startswith(f"{self._prefix}/") or len(parts) != 2 or not parts[0]:
            return None
        if parts[1] not in set(Kind):
            return None
        return ModuleTopic(module_id=parts[0], kind=Kind(parts[1]))

    def command(self, module_id: str) -> str:
        """Return where a module takes its commands."""
        return f"{self._prefix}/{module_id}/command"

    def gateway_status(self, gateway_id: str) -> str:
        """Return where a gateway tells that it is there; one level deeper, so that it is never a module's."""
        return f"{self._prefix}/gateway/{gateway_id}/status"
