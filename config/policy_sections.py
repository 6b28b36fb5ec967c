"""The site file's sections of control's rules: base values, and overrides for parts of the site.

An override names where it holds (`campus`, `building`, `room`, `kind`; what is left out, everywhere) and only
the values that differ. Overrides are applied in the order in which they stand; a later one has the last word.
"""

from typing import Annotated, Literal

from pydantic import Field

from config.site_values import Hours, Int, Mode, Name, Seconds, Section, Slug

Watts = Annotated[int, Field(strict=True, ge=1, le=1_000_000, description="whole watts, 1–1000000")]
Delay = Annotated[Seconds, Field(description="seconds above 0, at most 86400; null: only maintenance")]
TimesADay = Annotated[int, Field(strict=True, ge=0, le=100, description="0–100 times a campus day")]
ModeValue = Annotated[Mode, Field(description="enforce, shadow or off")]
Samples = Annotated[int, Field(strict=True, ge=2, le=100, description="2–100 samples")]
Nights = Annotated[tuple[Hours, ...], Field(description='campus hours such as "23:00-06:00"')]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, description="a ratio above 0, at most 1")]


class PartOfSite(Section):
    """Where an override holds."""

    campus: Name | None = None
    building: Name | None = None
    room: Slug | None = None
    kind: Literal["lighting", "ac"] | None = Field(default=None, description="lighting or ac")


Energy = Annotated[int, Field(strict=True, ge=0, le=10**9, description="whole Wh, 0 or more")]
Lead = Annotated[int, Field(strict=True, ge=0, le=31 * 86400, description="whole seconds, 0–2678400")]
PaymentWait = Annotated[int, Field(strict=True, ge=0, le=86400, description="whole seconds, 0–86400")]
Courtesy = Annotated[tuple[Hours, ...], Field(description='campus hours such as "23:00-07:00"')]


class ArrearsOverride(PartOfSite):
    """Arrears values for a part of the site."""

    low_wh: Energy = 20000
    critical_wh: Energy = 5000
    overdraft_wh: Energy = 0
    warning_lead_s: Lead = 43200
    payment_wait_s: PaymentWait = 900
    courtesy: Courtesy = ()
    mode: ModeValue = "enforce"


class ArrearsSection(Section):
    """When a circuit is warned and cut, and on which channels it is warned besides the room's status."""

    low_wh: Energy = 20000
    critical_wh: Energy = 5000
    overdraft_wh: Energy = 0
    warning_lead_s: Lead = 43200
    payment_wait_s: PaymentWait = 900
    courtesy: Courtesy = ()
    mode: ModeValue = "enforce"
    channels: tuple[Slug, ...] = Field(default=(), description="a list of channels such as [wechat, sms]")
    overrides: tuple[ArrearsOverride, ...] = Field(default=(), description="a list of overrides")


MinimumOffSeconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False, description="seconds, 0–3600")]


class MinimumOffOverride(PartOfSite):
    """Minimum off times for a part of the site."""

    ac_s: MinimumOffSeconds = 300.0
    lighting_s: MinimumOffSeconds = 0.0


class MinimumOffSection(Section):
    """For how long a relay stays open before it closes again."""

    ac_s: MinimumOffSeconds = 300.0
    lighting_s: MinimumOffSeconds = 0.0
    overrides: tuple[MinimumOffOverride, ...] = Field(default=(), description="a list of overrides")


class TripsOverride(PartOfSite):
    """How a module's own trips end in a part of the site."""

    restores_a_day: TimesADay = 3


class TripsSection(Section):
    """How a module's own trips end; their delay is the profile's."""

    restores_a_day: TimesADay = 3
    overrides: tuple[TripsOverride, ...] = Field(default=(), description="a list of overrides")


class OverloadOverride(PartOfSite):
    """Overload values for a part of the site."""

    limit_w: Watts | None = None
    night_limit_w: Watts | None = None
    night: Nights = ()
    debounce_samples: Samples = 2
    debounce_s: Seconds = Field(default=5.0, description="seconds above 0, at most 86400")
    restore_after_s: Delay | None = None
    restores_a_day: TimesADay = 3
    module_limit: bool = Field(default=True, strict=True, description="true or false")
    mode: ModeValue = "shadow"


class OverloadSection(Section):
    """When a circuit is tripped for its power."""

    limit_w: Watts | None = Field(
        default=None, description="whole watts, 1–1000000; null: rated current × 220 V"
    )
    night_limit_w: Watts | None = None
    night: Nights = ()
    debounce_samples: Samples = 2
    debounce_s: Seconds = Field(default=5.0, description="seconds above 0, at most 86400")
    restore_after_s: Delay | None = 300.0
    restores_a_day: TimesADay = 3
    module_limit: bool = Field(default=True, strict=True, description="true or false")
    mode: ModeValue = "shadow"
    overrides: tuple[OverloadOverride, ...] = Field(default=(), description="a list of overrides")


class BandRow(Section):
    """What a resistive step of so many watts leads to."""

    from_w: Watts
    to_w: Watts | None = None
    action: Literal["off", "alarm", "trip"] = Field(default="trip", description="off, alarm or trip")


class WhitelistRow(Section):
    """An appliance that is allowed for good; what is allowed for a time is a permit."""

    appliance: Name
    from_w: Int = Field(ge=0, le=1_000_000, description="whole watts, 0–1000000")
    to_w: Watts


class ProhibitedOverride(PartOfSite):
    """Prohibited-load values for a part of the site."""

    bands: tuple[BandRow, ...] = Field(default=(), min_length=1, description="a list of bands")
    whitelist: tuple[WhitelistRow, ...] = Field(default=(), description="a list of appliances")
    resistive_from: Ratio = 0.95
    min_samples: Samples = 2
    persist_s: Seconds = Field(default=5.0, description="seconds above 0, at most 86400")
    restore_after_s: Delay | None = None
    restores_a_day: TimesADay = 3
    mode: ModeValue = "shadow"


class ProhibitedSection(Section):
    """Which loads are prohibited, and what a step that looks like one leads to."""

    bands: tuple[BandRow, ...] = Field(
        default=(BandRow(from_w=500),), min_length=1, description="a list of bands"
    )
    whitelist: tuple[WhitelistRow, ...] = Field(default=(), description="a list of appliances")
    resistive_from: Ratio = 0.95
    min_samples: Samples = 2
    persist_s: Seconds = Field(default=5.0, description="seconds above 0, at most 86400")
    restore_after_s: Delay | None = 300.0
    restores_a_day: TimesADay = 3
    mode: ModeValue = "shadow"
    overrides: tuple[ProhibitedOverride, ...] = Field(default=(), description="a list of overrides")
