"""The energy of your own code: `measure` tells what a block used, `optimize` finds the setting that uses least.

For code outside Serve and Train: a notebook, a Ray task or actor, a Dask-on-Ray graph, a script. The face of
app/metering/blocks.py and app/metering/best_setting.py, which tell the rules and what is raised; docs/measure.md and
docs/decisions/optimise.md show both.

    from app.energy import measure, optimize

    with measure("prepare") as block:
        ...
    block.receipt_id, block.settle(5)          # its energy once the meter has booked it, None without a meter

    @measure("clean")                          # also on `async def`; bare `@measure` takes the function's name
    def clean(rows): ...

    found = optimize(embed, {"batch": (16, 32, 64), "threads": (1, 2)}, at_most_s=2.0)
    found.setting, found.saving
    found.apply(use); found.undo()
"""

from app.engine.slices import SliceEnergy
from app.metering.best_setting import Optimised, optimize
from app.metering.blocks import Block, Measure, measure

__all__ = ["Block", "Measure", "Optimised", "SliceEnergy", "measure", "optimize"]
