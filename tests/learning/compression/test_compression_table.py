"""The report of a compression: a version beside its original, and what costs more says so."""

from app.compression.table import lines
from app.models.card import CompressionCard, InferenceCost, ModelCard


def card(variant: str, uj_per_row: float | None, accuracy: float = 0.975) -> ModelCard:
    cost = InferenceCost(
        rows=1, p50_ms=0.25, base_p50_ms=0.5, uj_per_row=uj_per_row, base_uj_per_row=2000.0, hardware="a CPU, 1 thread"
    )
    told = CompressionCard(
        base="digits@1",
        steps=("int8",),
        weights_bytes=25_000,
        base_weights_bytes=100_000,
        base_metrics={"accuracy": 0.98},
        costs=(cost,),
    )
    return ModelCard(
        name="digits",
        variant=variant,
        created="",
        runner="builtin",
        inputs=(),
        outputs=(),
        metrics={"accuracy": accuracy},
        compression=told,
    )


def test_a_row_tells_accuracy_size_time_and_joules_beside_the_original() -> None:
    head, cheap, dear, unknown = lines([card("small", 1000.0), card("slow", 2500.0), card("dark", None)], "accuracy")
    assert head.split()[:3] == ["version", "accuracy", "bytes"]
    assert " ".join(cheap.split()) == "small 0.9750 (-0.5) 25,000 4.0 x 1 0.250 0.500 1 mJ 2 mJ -50%"
    assert dear.endswith("2.5 mJ      2 mJ  +25% COSTS MORE")
    assert unknown.endswith("unknown")


def test_the_ratio_is_what_is_saved_over_what_was() -> None:
    told = card("small", None).compression
    assert told is not None
    assert told.compression_ratio == 0.75
