"""The topics between modules and the gateway, as the profiles in use say: templates, filled in for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from config.profiles import MqttProfile
from gateway.drivers.mqtt.profile_messages import for_channel

ROOT = "dormpower"
_UNUSABLE = frozenset("/+#{}\0")


class UnableToUseTopicsError(Exception):
    """The site's modules can't be told apart by their topics; the message names them."""


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
    """The topics of one site's modules. Raises UnableToUseTopicsError."""

    def __init__(self, site_id: str, modules: Mapping[str, MqttProfile]) -> None:
        _check("site.id", site_id)
        self._site_id = site_id
        self._modules = modules
        self._known: dict[str, ModuleTopic] = {}
        filters: dict[str, None] = {}
        for module_id, profile in modules.items():
            _check("modules: id", module_id)
            for kind in Kind:
                template = getattr(profile.topics, kind.value)
                if template is None:
                    continue
                topic = self._fill(template, module_id)
                taken = self._known.setdefault(topic, ModuleTopic(module_id, kind))
                if taken != ModuleTopic(module_id, kind):
                    raise UnableToUseTopicsError(
                        f"modules: {module_id} and {taken.module_id} share the topic {topic}: "
                        "give one of them another id, or its profile other topics"
                    )
                filters[self._filter(template)] = None
        self._filters = tuple(filters)

    def filters(self) -> tuple[str, ...]:
        """Return what the gateway subscribes to: each kind of every module in each profile's place for it."""
        return self._filters

    def parse(self, topic: str) -> ModuleTopic | None:
        """Return whose topic it is, or None for one that is no module's of this site."""
        return self._known.get(topic)

    def command(self, module_id: str, channel: int) -> str | None:
        """Return where a module takes its commands for a channel; None where it takes none."""
        template = self._modules[module_id].topics.command
        return None if template is None else for_channel(self._fill(template, module_id), channel)

    def gateway_status(self, gateway_id: str) -> str:
        """Return where a gateway tells that it is there; one level deeper, so that it is never a module's."""
        return f"{ROOT}/{self._site_id}/gateway/{gateway_id}/status"

    def _fill(self, template: str, module_id: str) -> str:
        return template.replace("{site}", self._site_id).replace("{module}", module_id)

    def _filter(self, template: str) -> str:
        levels = template.replace("{site}", self._site_id).split("/")
        return "/".join("+" if "{module}" in level else level for level in levels)


def _check(key: str, name: str) -> None:
    if not name or _UNUSABLE & set(name):
        raise UnableToUseTopicsError(f"{key}: expected an id without / + # {{ }}, got {name!r}")
