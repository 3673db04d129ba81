"""The intensity of the hour at a meter: asked when it may change, kept while nobody answers."""

from app.engine.views import PresentPrice
from app.errors import Unavailable
from app.metering.present import PresentIntensity
from app.units import NS_PER_S


class Accountant:
    """Tells hours of an hour; or nothing."""

    def __init__(self) -> None:
        self.asked, self.away = 0, False
        self.g_per_kwh, self.until_s = 100.0, 3600.0

    def __call__(self) -> PresentPrice:
        self.asked += 1
        if self.away:
            raise Unavailable("no accountant")
        return PresentPrice(g_per_kwh=self.g_per_kwh, until_ns=round(self.until_s * NS_PER_S))


def test_the_yearly_figure_holds_until_somebody_answers():
    accountant = Accountant()
    present = PresentIntensity(480.0, accountant)
    assert (present.g_per_kwh, accountant.asked) == (480.0, 0)
    accountant.away = True
    present.renew(0)
    present.renew(NS_PER_S // 2)
    assert (present.g_per_kwh, accountant.asked) == (480.0, 1)
    accountant.away = False
    present.renew(NS_PER_S)
    assert (present.g_per_kwh, accountant.asked) == (100.0, 2)


def test_it_is_asked_every_minute_and_when_the_slot_ends():
    accountant = Accountant()
    present = PresentIntensity(480.0, accountant)
    for second in range(61):
        present.renew(second * NS_PER_S)
    assert accountant.asked == 2
    accountant.until_s, accountant.g_per_kwh = 125.0, 50.0
    for second in range(61, 126):
        present.renew(second * NS_PER_S)
    assert (accountant.asked, present.g_per_kwh) == (4, 50.0)  # at 120 s, and at the end of the slot


def test_a_slot_that_ends_at_once_is_not_asked_for_without_end():
    accountant = Accountant()
    accountant.until_s = 0.0
    present = PresentIntensity(480.0, accountant)
    for tenth in range(20):
        present.renew(tenth * NS_PER_S // 10)
    assert accountant.asked == 2
