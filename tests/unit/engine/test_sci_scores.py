"""SCI worked by hand: one request, one job, one model with its training spread over its life."""

import pytest

from app.carbon.basis import PriceBasis
from app.carbon.embodied import Hardware
from app.carbon.intensity import IntensityGrade, LocationAverage, Slot
from app.carbon.pricing import Prices, Terms
from app.carbon.series import GridSeries
from app.engine.job_prices import repriced, with_embodied
from app.engine.sci_scores import (
    Making,
    Reservation,
    consumer_score,
    job_score,
    model_scores,
    provider_score,
    request_score,
)
from app.errors import InvalidInput, NotFound
from tests.fixtures.footprints import HOUR_S, KWH, T0_S, job, model_report, receipt

SERVER = Hardware(making_kgco2e=1461, lifetime_years=4)
"""A kilogram a day: four years have 1461 days."""
WHOLE, EIGHTH = Reservation(SERVER), Reservation(SERVER, share=1 / 8)
GRAM = 1_000_000


def test_one_request():
    # E: 2.4 J of its own + 0.9 of loading + 0.3 of waiting = 3.6 J = 1e-6 kWh; x PUE 1.25 x 400 g/kWh = 500 ug.
    # M: 10^9 ug / 86400 s x 0.5 s x 1/8 = 723 ug.
    score = request_score(receipt(), EIGHTH)
    assert (score.energy_uj, score.operational_ugco2e, score.embodied_ugco2e) == (3_600_000, 500, 723)
    assert (score.unit, score.score_ugco2e) == ("request", 1_223.0)
    # 50 tokens: 1223 ug / 0.05 thousand
    assert request_score(receipt(), EIGHTH, tokens=50).score_ugco2e == pytest.approx(24_460)
    assert request_score(receipt(), Reservation()).score_ugco2e == 500.0
    assert "embodied: left out" in request_score(receipt(), Reservation()).boundary[1]


def test_one_job():
    # 2 kWh in an hour at 100, 1 kWh in one at 400 g/kWh; x PUE 1.2: (200 + 400) x 1.2 = 720 g, not 3 x 250 x 1.2 = 900.
    # M: two hours of a kilogram a day = 83.333333 g. Three epochs: 803.333333 / 3 g each.
    score = job_score(priced_job(), "epoch", 3, WHOLE)
    assert (score.operational_ugco2e, score.embodied_ugco2e) == (720 * GRAM, 83_333_333)
    assert score.score_ugco2e == pytest.approx(803_333_333 / 3)
    assert score.g_per_kwh == pytest.approx(200)  # of 3 kWh: the mean by energy
    assert job_score(priced_job(), "model", 1, WHOLE, servers=2).embodied_ugco2e == 166_666_667


def test_one_model_with_its_training_spread_over_its_life():
    # In service: 4 kWh on request, load and warm at 250 g/kWh = 1000 g; a day of the server = 1000 g; 10,000 requests.
    consumer = consumer_score(model_report(), "minilm", "1", "request", 10_000, WHOLE, reserved_s=24 * HOUR_S)
    assert (consumer.operational_ugco2e, consumer.embodied_ugco2e) == (1_000 * GRAM, 1_000 * GRAM)
    assert consumer.score_ugco2e == 200_000.0
    # Making it: the job above, for 22.6 million parameters.
    run = priced_job()
    making = Making(
        run=run.run,
        energy_uj=run.energy_uj,
        carbon_ugco2e=run.carbon_ugco2e,
        embodied_ugco2e=WHOLE.embodied_ug(run.seconds),
        pue=run.pue,
        priced="now",
    )
    provider = provider_score("minilm@1", [making], "10^9 parameters", 0.0226)
    assert provider.score_ugco2e == pytest.approx(803_333_333 / 0.0226)
    # A million requests in its life carry 803 ug each of it: 200,000 + 803.333333.
    scores = model_scores(consumer, provider, [making], life_units=1_000_000)
    assert scores.amortised_ugco2e == pytest.approx(200_803.333333)
    assert model_scores(consumer, None, [], None).amortised_ugco2e is None


def priced_job():
    slots = tuple(
        Slot((T0_S + i * HOUR_S) * 10**9, (T0_S + (i + 1) * HOUR_S) * 10**9, g, IntensityGrade.ACTUAL, "grid")
        for i, g in enumerate((100, 400))
    )
    series = GridSeries("FRA", LocationAverage(56.0, "FRA", "a table", 2023), slots, revision=1)
    return repriced(job(), Prices(Terms("FRA", series, pue=1.2)), now_ns=0)


def test_a_report_that_was_kept_is_priced_again_and_says_what_it_was():
    kept, now = job(), priced_job()
    assert (kept.carbon_ugco2e, now.carbon_ugco2e, now.energy_uj) == (700 * GRAM, 720 * GRAM, kept.energy_uj)
    assert now.basis is not None
    assert "when the job ended it was 700 gCO2e" in now.basis.notes[-1]
    assert (now.sci_per_epoch_ugco2e, now.sci_per_model_ugco2e) == (240 * GRAM, 720 * GRAM)
    assert (now.zone, now.pue) == ("FRA", 1.2)
    more = with_embodied(now, 30 * GRAM)
    assert (more.sci_per_epoch_ugco2e, more.sci_per_model_ugco2e) == (250 * GRAM, 750 * GRAM)


def test_a_report_whose_hours_are_not_known_stays():
    kept = job().model_copy(update={"hours": ()})
    assert repriced(kept, Prices(Terms("FRA", GridSeries("FRA", LocationAverage(1, "FRA", "t")))), 0) is kept


def test_what_was_not_metered_has_no_score():
    unmetered = job().model_copy(update={"source": "none"})
    assert with_embodied(unmetered, 5) is unmetered
    with pytest.raises(InvalidInput, match="was not metered"):
        job_score(unmetered, "epoch", 3, WHOLE)
    with pytest.raises(InvalidInput, match="units must be > 0, got 0 of epoch"):
        job_score(priced_job(), "epoch", 0, WHOLE)
    with pytest.raises(NotFound, match="nothing of bert"):
        consumer_score(model_report(), "bert", "", "request", 1, WHOLE, 0)
    with pytest.raises(InvalidInput, match="nothing is known of the making"):
        provider_score("minilm", [], "model", 1)
    with pytest.raises(InvalidInput, match="has no price"):
        request_score(receipt().model_copy(update={"basis": None}), WHOLE)


def test_the_kept_price_basis_can_be_read_again():
    basis = priced_job().basis
    assert basis is not None
    assert PriceBasis.model_validate_json(basis.model_dump_json()) == basis
    assert priced_job().energy_uj == 3 * KWH
