"""Templates with the catalogue's sentences, and numbers and times as the reader's language writes them."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined

from dormpower.messages.catalogue import Language, text, word

_LOCALES = {"zh": "zh_CN", "en": "en"}
_INSTANTS = {"zh": "y年M月d日 HH:mm", "en": "d MMM y, HH:mm"}
_DAYS = {"zh": "y年M月d日", "en": "d MMM y"}
_HTML_LANGUAGES = {"zh": "zh-CN", "en": "en"}

# A sign for each supply state, so that no state is told by its colour alone.
STATE_SIGNS = {
    "normal": "✓",
    "arrears": "¥",
    "load_off": "▲",
    "locked_out": "✕",
    "scheduled_off": "◷",
    "offline": "?",
}

_TEMPLATES = Environment(
    loader=PackageLoader("api.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Wording:
    """What a template says in one language and one zone."""

    def __init__(self, language: Language, zone: ZoneInfo) -> None:
        self.language = language
        self.html_language = _HTML_LANGUAGES[language]
        self._locale = _LOCALES[language]
        self._zone = zone

    def t(self, code: str, **params: object) -> str:
        """Return a sentence of the catalogue."""
        return text(code, params, self.language)

    def word(self, group: str, member: str) -> str:
        """Return the word for one of a group that stands in the books."""
        return word(group, member, self.language)

    def explained(self, code: str, params: dict[str, Any]) -> str:
        """Return a sentence whose code and parameters come from the rules."""
        return text(code, params, self.language, zone=self._zone)

    def kwh(self, energy_wh: int) -> str:
        """Write Wh in kWh with two decimals; the exact figure is in the receipt and the API."""
        return format_decimal(Decimal(energy_wh) / 1000, format="#,##0.00", locale=self._locale)

    def kwh_exact(self, energy_wh: int) -> str:
        """Write Wh in kWh to the Wh."""
        return format_decimal(Decimal(energy_wh) / 1000, format="#,##0.000", locale=self._locale)

    def yuan(self, amount_fen: int) -> str:
        """Write fen as an amount of money."""
        return format_currency(
            Decimal(amount_fen) / 100, "CNY", format="¤#,##0.00", locale=self._locale
        ).replace("CN¥", "¥")

    def number(self, value: float) -> str:
        """Write a figure with at most one decimal."""
        return format_decimal(value, format="#,##0.#", locale=self._locale)

    def instant(self, at: datetime) -> str:
        """Write an instant in the site's zone."""
        return format_datetime(at.astimezone(self._zone), _INSTANTS[self.language], locale=self._locale)

    def day(self, on: date) -> str:
        """Write a campus day."""
        return format_date(on, _DAYS[self.language], locale=self._locale)

    def evidence(self, value: object) -> str:
        """Write a value of an alarm's evidence: text as it is, the rest as JSON."""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def render(self, template: str, **values: object) -> str:
        """Fill a template in; everything in it is escaped."""
        return _TEMPLATES.get_template(template).render(
            values, say=self, t=self.t, explained=self.explained, signs=STATE_SIGNS
        )
