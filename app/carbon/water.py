"""Water: what the site evaporates, and what the power stations did for its electricity.

    W = E x (WUE + PUE x EWIF)

E: energy of the IT equipment in kWh; WUE (The Green Grid, white paper 35, 2011; ISO/IEC 30134-9): litres that the site
uses for each of them; PUE x EWIF: the electricity of the whole building times the electricity water intensity factor,
litres that are consumed at the power stations for each kWh (World Resources Institute, 2020). The two are told apart:
site water is drawn where the servers are, source water elsewhere. Pure; knows nothing of accounts or grids' hours.
"""

from dataclasses import dataclass

from app.carbon.coefficients import Coefficients
from app.carbon.zones import WORLD
from app.units import UJ_PER_KWH

UL_PER_L = 1_000_000


@dataclass(frozen=True, slots=True)
class Water:
    """Litres for each kWh of IT energy (site) and of electricity (source), >= 0; None: not known."""

    wue_l_per_kwh: float | None = None
    ewif_l_per_kwh: float | None = None

    def site_ul(self, energy_uj: int) -> int | None:
        """Microlitres used at the site for `energy_uj` of the IT equipment; None where its WUE is not known."""
        return None if self.wue_l_per_kwh is None else _microlitres(energy_uj, self.wue_l_per_kwh)

    def source_ul(self, energy_uj: int, pue: float) -> int | None:
        """Microlitres consumed at the power stations for it; None where that is not known."""
        return None if self.ewif_l_per_kwh is None else _microlitres(energy_uj, self.ewif_l_per_kwh * pue)


def _microlitres(energy_uj: int, l_per_kwh: float) -> int:
    return round(energy_uj * l_per_kwh * UL_PER_L / UJ_PER_KWH)


def water_of_zone(table: Coefficients, zone: str, country: str = "", wue_l_per_kwh: float | None = None) -> Water:
    """What the table knows of a zone: its own figure, else its country's, else the world's; WUE of its cloud.

    `wue_l_per_kwh` is the building's own figure where it is known.
    """
    source = table.find(f"ewif:{zone}") or table.find(f"ewif:{country}") or table.row(f"ewif:{WORLD}")
    site = table.find(f"wue:{zone}") or table.find(f"wue:{zone.partition(':')[0]}")
    if wue_l_per_kwh is None and site is not None:
        wue_l_per_kwh = site.value
    return Water(wue_l_per_kwh, source.value)
