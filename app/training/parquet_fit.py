"""Whether a prepared data set and a job fit each other: asked of the manifest alone, before any worker starts.

Knows nothing of Ray or torch. contradictions.py knows what the job file says by itself.
"""

import math

from app.errors import InvalidInput
from app.models.blueprint import Network
from app.training.job import TrainJob
from app.training.parquet_files import PreparedData, read_prepared, shown
from app.training.parts import PARQUET


def check_data(job: TrainJob) -> None:
    """Raise InvalidInput, all reasons named, unless the prepared data that `job` names, if any, are there and fit."""
    if not job.data.source.startswith(PARQUET):
        return
    url = job.data.source.removeprefix(PARQUET)
    faults = _misfits(read_prepared(url), job)
    if faults:
        raise InvalidInput(f"{shown(url)} does not fit the job: {'; '.join(faults)}")


def _misfits(data: PreparedData, job: TrainJob) -> list[str]:
    if not isinstance(job.model, Network):
        return [] if data.kind == "texts" else ["it holds rows of numbers, and a language model needs texts"]
    if data.kind != "rows":
        return [f"it holds texts, which a {job.model.architecture} cannot read"]
    columns, outputs = math.prod(job.model.input_shape), job.model.output_size
    needed = "cross_entropy" if data.classes else "mse"
    pairs = [
        (data.columns == columns, f"rows have {data.columns} values, the model takes {columns}"),
        (data.outputs == outputs, f"rows need {data.outputs} outputs, the model gives {outputs}"),
        (job.loss == needed, f"labels are {'classes' if data.classes else 'values'}: loss {needed}, not {job.loss}"),
    ]
    return [sentence for fits, sentence in pairs if not fits]
