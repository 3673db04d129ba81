"""Early exits: accuracy against joules as the confidence moves that a row needs to leave.

A convolutional network of three stages on digits of 28 x 28 is trained, given exits, and run with one confidence after
the other, all in turns with the network without exits. Knows nothing of bars.
"""

import tempfile
from pathlib import Path
from typing import Any

CONFIDENCES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
JOB = {
    "name": "digits-deep",
    "kind": "train",
    "model": {
        "architecture": "cnn",
        "image_size": 28,
        "channels": [32, 64, 128],
        "hidden": 0,
        "classes": 10,
        "input_scale": 16,
    },
    "data": {"source": "builtin:digits-28", "test_share": 0.25, "seed": 7},
    "optimiser": {"name": "adam", "lr": 0.002, "schedule": "cosine"},
    "loss": "cross_entropy",
    "batch_size": 32,
    "resources": {"cpu": 0.5},
    "seed": 7,
    "publish": {"name": "digits-deep"},
}
Point = dict[str, Any]


def exit_curve(quick: bool, directory: Path) -> list[Point]:
    """One point for the network without exits, confidence None, and one for each confidence."""
    from app.compression.cost import CostPlan, inference_costs
    from app.compression.job import EarlyExit
    from app.compression.subject import open_runner
    from app.compression.workshop import Workshop
    from app.config import settings
    from app.domain.account import job_account
    from app.energy import measure
    from app.metering.client import WorkClient
    from app.models.repository import open_repository
    from app.training.job import parse_job
    from app.training.phases import Phases
    from app.training.run import run_job

    print("\nearly exits on digits of 28 x 28, three convolutions", flush=True)
    run_job(parse_job(JOB | {"epochs": 2 if quick else 6}, "digits-deep"), tell=lambda _: None)
    account = job_account("bench", "compression-exits", 1, "compress")
    client = WorkClient.open(account)
    phases = Phases(client, account)
    repository = open_repository(settings().repository)
    try:
        with (
            repository.open("digits-deep", repository.latest("digits-deep")) as (card, base),
            tempfile.TemporaryDirectory(dir=directory) as scratch,
        ):
            shop = Workshop(card, base, Path(scratch), phases, tell=lambda _: None, seed=7)
            step = EarlyExit(method="early-exit", epochs=2 if quick else 4, confidence=0.9)
            made = shop.make([step], "earlyexit")
            phases.close()
            shapes = {each: made.card.architecture.model_copy(update={"exit_confidence": each}) for each in CONFIDENCES}
            cards = {each: made.card.model_copy(update={"architecture": shape}) for each, shape in shapes.items()}
            runners = {each: open_runner(card, made.directory, "cpu") for each, card in cards.items()}
            versions = [("digits-deep", shop.base), *((f"exits-{each:g}", runner) for each, runner in runners.items())]
            plan = CostPlan(rounds=2 if quick else 5, round_s=0.2 if quick else 0.5)
            costs = inference_costs(versions, shop.material.questions, plan=plan, measure=measure)
            scores = [shop.base_metrics, *(shop.material.score(runner) for runner in runners.values())]
            early = [0.0, *(_share_leaving(shop.material, runner) for runner in runners.values())]
    finally:
        phases.close()
        client.close()
    return [
        {
            "confidence": confidence,
            "accuracy": score["accuracy"],
            "leaving_early": share,
            "uj_per_row": {cost.rows: cost.uj_per_row for cost in told},
            "p50_ms": {cost.rows: cost.p50_ms for cost in told},
        }
        for confidence, score, share, told in zip([None, *CONFIDENCES], scores, early, costs, strict=True)
    ]


def _share_leaving(material: Any, runner: Any) -> float:
    rows = material.tensors(material.data.test_x, material.data.test_y)[0]
    return float((runner._module.leaving(rows) < len(runner._module.exits)).float().mean())


def print_curve(curve: list[Point]) -> None:
    if not curve:
        return
    sizes = list(curve[0]["uj_per_row"])
    head = "".join(f"{f'mJ/row, {rows}':>14}{f'p50 ms, {rows}':>13}" for rows in sizes)
    print(f"\n{'confidence':>10}{'accuracy':>10}{'early':>8}{head}")
    for point in curve:
        confidence = "no exits" if point["confidence"] is None else f"{point['confidence']:g}"
        cells = "".join(f"{_mj(point, rows):>14}{point['p50_ms'][rows]:>13.3f}" for rows in sizes)
        print(f"{confidence:>10}{point['accuracy']:>10.4f}{point['leaving_early']:>8.0%}{cells}")


def _mj(point: Point, rows: int) -> str:
    energy_uj = point["uj_per_row"][rows]
    return "unknown" if energy_uj is None else f"{energy_uj / 1000:.3f}"


_WIDTH, _HEIGHT, _EDGE = 640, 400, 60


def write_plot(curve: list[Point]) -> str:
    """Accuracy over millijoules of a row in the largest request, as SVG."""
    rows = max(curve[0]["uj_per_row"])
    points = [(point, (point["uj_per_row"][rows] or 0.0) / 1000) for point in curve]
    right, low = 1.05 * max(energy for _, energy in points), min(point["accuracy"] for point, _ in points) - 0.01
    placed = [
        (
            _EDGE + (_WIDTH - 2 * _EDGE) * energy / (right or 1.0),
            _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (point["accuracy"] - low) / (1 - low),
            "no exits" if point["confidence"] is None else f"{point['confidence']:g}",
        )
        for point, energy in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed[1:])
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x + 6:.1f}" y="{y - 6:.1f}">{text}</text>'
        for x, y, text in placed
    )
    bottom = _HEIGHT - _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><polyline points="{line}" fill="none" stroke="black"/>{marks}'
        f'<path d="M{_EDGE} {_EDGE}V{bottom}H{_WIDTH - _EDGE}" fill="none" stroke="grey"/>'
        f'<text x="{_EDGE}" y="{_HEIGHT - 20}">mJ per row, {rows} rows at once: 0 to {right:.3f}</text>'
        f'<text x="10" y="{_EDGE - 20}">accuracy, {low:.3f} to 1, by the confidence that a row needs to leave</text>'
        "</svg>\n"
    )
