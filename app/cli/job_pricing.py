"""Reports of jobs as the commands show them: read from where they are kept, priced by the grid data that are here now.

Knows nothing of Ray: the grid data of this host are read, never fetched.
"""

from app.engine.job_report import JobReport


def priced_report(storage: str, run: str) -> JobReport:
    """One run. Raises NotFound, InvalidInput."""
    from app.carbon.pricing import Prices
    from app.clock import SystemClock
    from app.config import settings
    from app.engine.job_prices import repriced
    from app.metering.price_terms import PriceTerms
    from app.training.reports import read_report

    report = read_report(storage or str(settings().state_dir / "jobs"), run)
    clock = SystemClock()
    terms = PriceTerms(settings(), clock)
    try:
        return repriced(report, Prices(terms.now()), clock.wall_ns())
    finally:
        terms.close()
