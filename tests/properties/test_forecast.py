"""Forecasts from the past alone: what they know, how sure they are, and what a provider's word adds."""

import numpy as np
import pytest

from app.carbon.forecast import IntensityModel, filled, forecast_intensity
from app.carbon.forecast_provider import ProviderJoint
from app.carbon.forecast_seasonal import LEADS, SeasonalModel
from app.errors import InvalidInput

DAY = 24
NAN = float("nan")


def solar(days, seed=1, noise=20.0):
    """A grid with a clean noon, weather that lasts days and noise."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * DAY)
    weather = np.repeat(np.convolve(rng.normal(0, 40, days + 3), np.ones(4) / 4, "valid"), DAY)
    return 300 - 120 * np.cos((hours % DAY - 12) / DAY * 2 * np.pi) + weather + rng.normal(0, noise, len(hours))


def test_below_a_day_the_last_value_stays():
    forecast = forecast_intensity([400, 380], horizon=3)
    assert forecast.mean == (380, 380, 380)
    assert forecast.model == "last value"
    assert forecast.error is None
    assert forecast.low[0] < 380 < forecast.high[0]


def test_a_few_days_repeat_themselves():
    pattern = [100.0] * 12 + [300.0] * 12
    forecast = forecast_intensity(pattern * 5, horizon=48)
    assert forecast.mean == pytest.approx(pattern * 2)
    assert forecast.model == "days before"


def test_weeks_are_learned_from():
    past = solar(60)
    forecast = forecast_intensity(past[:-DAY].tolist(), horizon=DAY)
    assert forecast.model == "seasonal regression"
    assert np.abs(np.array(forecast.mean) - past[-DAY:]).mean() < np.abs(past[-2 * DAY : -DAY] - past[-DAY:]).mean()


def test_the_percentiles_hold_eight_tenths_of_what_comes():
    past = solar(140)
    inside = []
    model = IntensityModel(past[: 90 * DAY])
    for at in range(90 * DAY, 138 * DAY, 37):
        forecast = model.forecast(past[:at], DAY)
        inside.append(np.mean((past[at : at + DAY] >= forecast.low) & (past[at : at + DAY] <= forecast.high)))
    assert 0.7 < np.mean(inside) < 0.9


def test_what_comes_later_changes_no_forecast():
    past = solar(40)
    now = 35 * DAY + 5
    changed = past.copy()
    changed[now:] = 1.0
    model = SeasonalModel(past[: 30 * DAY])
    assert np.array_equal(model.predict(past, np.array([now])), model.predict(changed, np.array([now])))
    issues = np.arange(22 * DAY, 30 * DAY)
    joint = ProviderJoint(past[: 32 * DAY], past[: 32 * DAY] + 5, issues, model.predict(past, issues))
    coming = past[now : now + LEADS] + 5
    said, later = (each + 5 for each in (past, changed))
    ours = model.predict(past, np.array([now]))[0]
    assert np.array_equal(
        joint.predict(past, said, coming, ours, now), joint.predict(changed, later, coming, ours, now)
    )


def test_a_provider_that_was_right_is_followed():
    past = solar(60)
    told = past + np.random.default_rng(2).normal(0, 5, len(past))
    now = 58 * DAY
    arguments = past[:now].tolist(), DAY
    own = forecast_intensity(*arguments)
    joint = forecast_intensity(
        *arguments, provider=told[now : now + DAY].tolist(), provider_history=told[:now].tolist()
    )
    actual = past[now : now + DAY]
    assert "joined with the provider's" in joint.model
    assert np.abs(np.array(joint.mean) - actual).mean() < 0.7 * np.abs(np.array(own.mean) - actual).mean()
    assert joint.error < own.error


def test_a_provider_that_says_noise_is_not_believed():
    past = solar(60)
    told = np.random.default_rng(3).uniform(0, 900, len(past))
    now = 58 * DAY
    own = forecast_intensity(past[:now].tolist(), DAY)
    joint = forecast_intensity(
        past[:now].tolist(), DAY, provider=told[now : now + DAY].tolist(), provider_history=told[:now].tolist()
    )
    assert np.abs(np.array(joint.mean) - np.array(own.mean)).mean() < 30  # it differs from ours by 250 on average


def test_a_provider_nobody_can_judge_yet_is_believed():
    said = [90.0, 80.0, NAN, NAN]
    forecast = forecast_intensity([100.0] * 72, horizon=4, provider=said)
    assert forecast.mean == pytest.approx((90, 80, 100, 100))


def test_a_provider_biased_at_night_is_corrected():
    past = np.tile([200.0] * 12 + [400.0] * 12, 20)
    told = past + np.tile([50.0] * 12 + [0.0] * 12, 20)
    forecast = forecast_intensity(past.tolist(), DAY, provider=told[:DAY].tolist(), provider_history=told.tolist())
    assert forecast.mean == pytest.approx(past[:DAY], abs=10)


def test_missing_hours_are_as_the_day_before():
    hours = np.arange(50.0)
    hours[[0, 30, 31]] = NAN
    assert filled(hours)[[0, 30, 31]].tolist() == [1.0, 6.0, 7.0]


def test_quarters_get_what_their_hour_gets():
    past = np.repeat([100.0] * 12 + [300.0] * 12, 4).tolist() * 3
    forecast = forecast_intensity(past, horizon=6, slots_per_day=96)
    assert forecast.mean == pytest.approx((100,) * 6)


def test_the_horizon_may_go_beyond_two_days():
    forecast = forecast_intensity(solar(30).tolist(), horizon=100)
    assert len(forecast.mean) == len(forecast.low) == len(forecast.high) == 100
    assert min(forecast.low) >= 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (([], 4), "at least one known value"),
        (([NAN, NAN], 4), "at least one known value"),
        (([1.0], 0), "horizon must be >= 1"),
        (([1.0], 4, 7), "multiple of 24"),
        (([1.0, 2.0], 4, 24, [3.0], [1.0]), "one value for each of history"),
    ],
)
def test_what_cannot_be_forecast_says_why(arguments, fault):
    with pytest.raises(InvalidInput, match=fault):
        forecast_intensity(*arguments)
