"""What electricity costs: a flat price, or prices by hour, weekday and month in the time zone of the contract.

Pure; time comes in as an argument. The energy that is paid for is the building's: the devices' times the PUE. Charges
for peak power and fixed ones are no price per kWh and are left out.

    tariff = flat_tariff("0.21 EUR")
    tariff.mean_price(start_ns, end_ns)                # per kWh, over an interval

Raises InvalidInput for what cannot be meant, with all faults.
"""

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.errors import InvalidInput
from app.units import MICROS, NS_PER_S, UJ_PER_KWH

_STEP_S = 900
"""Prices change on quarter hours at most: every offset of a time zone in use today is a multiple of one."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Price = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Period(_Part):
    """Hours with a price of their own."""

    name: str = ""
    price: Price
    """Per kWh; may be below zero."""
    hours: tuple[float, float] = (0, 24)
    """From, to, in quarter hours of local time: (7, 23), (22.5, 6) over midnight."""
    days: tuple[Day, ...] = _DAYS
    """Days on which a period begins."""
    months: tuple[Annotated[int, Field(ge=1, le=12)], ...] = ()
    """None named: all."""

    @field_validator("hours")
    @classmethod
    def _quarters(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= hour <= 24 and hour * 4 == int(hour * 4) for hour in value) or value[0] == value[1]:
            raise ValueError(f"hours are two different quarter hours from 0 to 24, got {value}")
        return value

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at a local time."""
        hour, (begin, end) = at.hour + at.minute / 60, self.hours
        if begin < end:
            return begin <= hour < end and self._on(at)
        return self._on(at) if hour >= begin else hour < end and self._on(at - timedelta(days=1))

    def _on(self, day: datetime) -> bool:
        return _DAYS[day.weekday()] in self.days and (not self.months or day.month in self.months)


class Tariff(_Part):
    """Prices per kWh of electricity."""

    currency: str = Field(min_length=1, max_length=8)
    price: Price
    """Where no period holds."""
    timezone: str = "UTC"
    """IANA name; hours are local ones, also over the change to summer time."""
    periods: tuple[Period, ...] = ()
    """The first that holds counts."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"timezone must be an IANA name such as Europe/Paris, got {value!r}") from error
        return value

    @model_validator(mode="after")
    def _utc_is_enough(self) -> "Tariff":
        if self.periods and "timezone" not in self.model_fields_set:
            raise ValueError("periods need a timezone, such as Europe/Paris: hours of which place?")
        return self

    def price_at(self, wall_ns: int) -> float:
        """Per kWh at an instant."""
        at = datetime.fromtimestamp(wall_ns / NS_PER_S, UTC).astimezone(ZoneInfo(self.timezone))
        return next((period.price for period in self.periods if period.holds(at)), self.price)

    def mean_price(self, start_ns: int, end_ns: int) -> float:
        """Per kWh over an interval, every moment weighing the same; of an empty one at its beginning."""
        if not self.periods or end_ns <= start_ns:
            return self.price_at(start_ns)
        step_ns, total, at_ns = _STEP_S * NS_PER_S, 0.0, start_ns
        while at_ns < end_ns:
            next_ns = min(end_ns, at_ns - at_ns % step_ns + step_ns)
            total += _quarter_price(self, at_ns - at_ns % step_ns) * (next_ns - at_ns)
            at_ns = next_ns
        return total / (end_ns - start_ns)


@functools.lru_cache(maxsize=100_000)
def _quarter_price(tariff: Tariff, quarter_ns: int) -> float:
    return tariff.price_at(quarter_ns)


def cost_micros(energy_uj: int, price_per_kwh: float, pue: float) -> float:
    """Millionths of the currency for `energy_uj` of the devices, to be added up."""
    return energy_uj * pue * price_per_kwh * MICROS / UJ_PER_KWH


def tariff_of(text: str) -> Tariff | None:
    """`0.21 EUR`, or the path of a YAML file with the fields of `Tariff`; None for nothing. Raises InvalidInput."""
    text = text.strip()
    if not text:
        return None
    price, _, currency = text.partition(" ")
    try:
        return _checked({"price": float(price), "currency": currency.strip()}, repr(text))
    except ValueError:
        pass
    try:
        values = yaml.safe_load(Path(text).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"a tariff is a price such as '0.21 EUR' or a YAML file, got {text!r}, which cannot be read: {error}"
        ) from error
    return _checked(values, text)


def _checked(values: object, where: str) -> Tariff:
    try:
        return Tariff.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'all'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise InvalidInput(f"tariff {where}: {faults}") from error
