"""Fair shares of load and warm time, worked by hand and for any history."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.shares import fair_shares
from app.ledger.ring import Charged


def test_shares_are_in_proportion_to_energy_and_rounded_down():
    charged = Charged(load_uj=100, warm_uj=10, request_uj=30)
    assert [fair_shares(charged, energy_uj, 30) for energy_uj in (20, 10)] == [(66, 6), (33, 3)]


def test_without_energy_there_is_nothing_to_go_by():
    charged = Charged(load_uj=100, warm_uj=10, request_uj=0)
    assert fair_shares(charged, 0, 0) == fair_shares(charged, 0, 50) == (0, 0)


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=50), st.integers(0, 2**50), st.integers(0, 2**50))
def test_shares_of_all_requests_never_exceed_what_was_charged_and_lack_less_than_a_microjoule_each(
    energies: list[int], load_uj: int, warm_uj: int
):
    total_uj = sum(energies)
    shares = [fair_shares(Charged(load_uj, warm_uj, total_uj), energy_uj, total_uj) for energy_uj in energies]
    for charged_uj, given_uj in ((load_uj, sum(s.load_uj for s in shares)), (warm_uj, sum(s.warm_uj for s in shares))):
        assert given_uj <= charged_uj
        assert not total_uj or charged_uj - given_uj < len(energies)
