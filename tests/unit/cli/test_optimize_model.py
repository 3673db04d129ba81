"""optimize on a served model: what is proposed, what applying submits, what undoing restores, what is on record."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.cli import deploy, optimize_live
from app.config import settings
from app.domain.tensor import TensorSpec
from app.engine.decision_files import choices_in, directory_of
from app.models.card import CompressionCard, InferenceCost, ModelCard
from app.serving.findings import Findings, keep_findings
from tests.unit.cli.conftest import FakeBooks

Call = Callable[..., Any]
AUTOSCALING = {
    "min_replicas": 0,
    "max_replicas": 2,
    "downscale_delay_s": 60.0,
    "downscale_to_zero_delay_s": None,
    "policy": {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"},
}


class FakeServe:
    """One application, `digits`, which becomes what is submitted."""

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {
            "name": "digits",
            "route_prefix": "/v2/models/digits",
            "import_path": "app.serving.build:model",
            "args": {"name": "digits", "source": "repository:digits"},
        }
        self.submitted = 0

    def details(self) -> Mapping[str, Any]:
        deployment = {"deployment_config": {"autoscaling_config": AUTOSCALING}, "replicas": []}
        application = {"status": "RUNNING", "deployed_app_config": self.config, "deployments": {"Model": deployment}}
        return {"applications": {"digits": application}, "http_options": {}}

    def submit(self, config: Mapping[str, Any]) -> None:
        (self.config,) = config["applications"]
        self.submitted += 1


def card(version: str, **more: Any) -> ModelCard:
    spec = TensorSpec(name="image", datatype="FP32", shape=(-1, 64))
    return ModelCard(
        name="digits", version=version, created="2026-11-23T00:00:00Z", runner="builtin", inputs=(spec,),
        outputs=(spec,), **more,
    )  # fmt: skip


SMALL = CompressionCard(
    base="digits@1",
    steps=("quantize int8",),
    weights_bytes=25,
    base_weights_bytes=100,
    base_metrics={"accuracy": 0.98},
    costs=(
        InferenceCost(rows=1, p50_ms=1, base_p50_ms=1, uj_per_row=700, base_uj_per_row=1000, hardware="one CPU"),
        InferenceCost(rows=8, p50_ms=1, base_p50_ms=1, uj_per_row=500, base_uj_per_row=1000, hardware="one CPU"),
    ),
)


CARDS = {
    "1": card("1", metrics={"accuracy": 0.98}),
    "1-int8": card("1-int8", variant="int8", metrics={"accuracy": 0.979}, compression=SMALL),
}


class FakeRepository:
    """Version 1 and its variant int8."""

    def names(self) -> list[str]:
        return ["digits"]

    def variants(self, name: str) -> list[str]:
        return ["1-int8"]

    def latest(self, name: str) -> str:
        return "1"

    def resolve(self, name: str, wanted: str = "") -> str:
        return wanted or "1"

    def card(self, name: str, version: str) -> ModelCard:
        return CARDS[version]


def findings(**more: Any) -> Findings:
    told = {
        "model": "digits", "version": "1", "born_s": 1_000.0, "seen_s": 2_000.0, "asked": 100, "request_uj": 40_000_000,
        "load_uj": 20_000_000, "warm_uj": 40_000_000, "idle_s": 20.0, "gaps_s": (1.0,) * 20,
    }  # fmt: skip
    return Findings.model_validate(told | more)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: FakeBooks) -> Iterator[FakeServe]:
    """digits at version 1; its last replica left what it found on this host."""
    fake = FakeServe()
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    monkeypatch.setattr(deploy, "connect", lambda address: fake)
    monkeypatch.setattr("app.models.repository.open_repository", lambda _: FakeRepository())
    keep_findings(tmp_path, findings())
    yield fake
    settings.cache_clear()


def advice(call: Call, *options: str) -> dict[str, Any]:
    result = call("optimize", "digits", "--json", *options)
    assert result.exit_code == 0, result.output
    return {each["setting"]: each for each in json.loads(result.stdout)["advice"]}


def test_every_setting_says_what_it_is_what_it_should_be_and_how_that_is_known(serve: FakeServe, call: Call) -> None:
    known = advice(call)
    assert list(known) == ["batch", "keep-alive", "variant", "precision", "power cap", "hour", "zone"]
    # The worse of 0.7 and 0.5: what holds for rows that come alone is promised.
    assert known["variant"]["proposed"] == "digits@1-int8"
    assert known["variant"]["saving"]["share"] == pytest.approx(0.3)
    # 20 J a load, 40 J in 20 s: break-even 10 s; twenty gaps of a second ask for little more than one.
    assert known["keep-alive"]["now"] == "60 s"
    assert known["keep-alive"]["saving"]["basis"] == "modelled"
    assert [known[name]["saving"]["basis"] for name in ("batch", "precision", "power cap", "zone")] == ["not known"] * 4
    assert "--p95-ms" in known["batch"]["saving"]["note"]


def test_a_table_names_what_is_not_known_and_changes_nothing(serve: FakeServe, call: Call) -> None:
    result = call("optimize", "digits")
    assert "settings of digits" in result.stdout
    assert "batch: give the latency" in result.stdout
    assert "nothing is changed: --apply does what pays" in result.stdout
    assert serve.submitted == 0


def test_applying_deploys_what_pays_and_undoing_restores_it_to_the_letter(
    serve: FakeServe, call: Call, tmp_path: Path
) -> None:
    before = serve.config
    view = json.loads(call("optimize", "digits", "--floor", "accuracy=0.97", "--apply", "--json").stdout)
    assert serve.config["args"]["source"] == "repository:digits@1-int8"
    (deployment,) = serve.config["deployments"]
    policy = deployment["autoscaling_config"]["policy"]
    assert policy["policy_function"] == "app.serving.autoscale:KeepAlivePolicy"
    record = choices_in(directory_of(tmp_path, "digits"))[view["applied"]]
    assert record.chosen.startswith("keep-alive learnt, about")
    assert record.chosen.endswith("variant digits@1-int8")
    # Answers 40 J of 100 J save 0.3, loading and staying 60 J the share of keep-alive.
    share = next(each for each in view["advice"] if each["setting"] == "keep-alive")["saving"]["share"]
    assert view["expected"]["share"] == pytest.approx(1 - (0.4 * 0.7 + 0.6 * (1 - share)))

    assert "is as it was" in call("optimize", "digits", "--undo").stdout
    assert serve.config == before
    assert [each.action for each in choices_in(directory_of(tmp_path, "digits")).values()] == ["applied", "undone"]
    assert "nothing that was applied" in call("optimize", "digits", "--undo").stderr


def test_what_is_not_known_is_applied_only_by_name(serve: FakeServe, call: Call) -> None:
    call("optimize", "digits", "--p95-ms", "50", "--apply", "--only", "batch")
    assert serve.config["args"]["batching"] == {"objective_p95_ms": 50.0}
    assert "source" in serve.config["args"]
    assert serve.config["args"]["source"] == "repository:digits"
    result = call("optimize", "digits", "--apply", "--only", "zone")
    assert (result.exit_code, "nothing to change about zone" in result.stderr) == (2, True)


def test_undoing_what_was_deployed_anew_since_is_refused(serve: FakeServe, call: Call) -> None:
    call("optimize", "digits", "--apply", "--only", "variant")
    serve.config = {**serve.config, "args": {"name": "digits", "source": "repository:digits@2"}}
    result = call("optimize", "digits", "--undo")
    assert (result.exit_code, "was deployed anew since record 1" in result.stderr) == (1, True)


def test_what_came_of_it_is_told_once_by_the_next_replicas_answers(
    serve: FakeServe, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("optimize", "digits", "--apply", "--only", "variant")
    later = choices_in(directory_of(tmp_path, "digits"))[1].at_s + 60
    # Before: 100 J over 100 answers. Since: 70 J over 100.
    new = findings(version="1-int8", born_s=later, seen_s=later + 400, request_uj=10_000_000)
    monkeypatch.setattr(optimize_live, "_findings", lambda *_: (new, "its replica"))
    assert "what was applied before" not in call("optimize", "digits").stdout  # half of the 1000 s before it is enough
    new = new.model_copy(update={"seen_s": later + 600})
    assert "what was applied before saved 30.0 %" in call("optimize", "digits").stdout
    assert "what was applied before" not in call("optimize", "digits").stdout
    came = list(choices_in(directory_of(tmp_path, "digits")).values())[-1]
    assert (came.action, came.about, came.realised and came.realised.share) == ("came of it", 1, pytest.approx(0.3))


def test_a_language_model_has_a_governor_of_sequences(serve: FakeServe, call: Call, tmp_path: Path) -> None:
    serve.config = {**serve.config, "import_path": "app.serving.build:generator"}
    serve.config["args"] = {"name": "digits", "source": "repository:digits", "inter_token_p90_ms": 100.0}
    tried = ({"name": "8 sequences", "uj": 900.0, "meets": True}, {"name": "32 sequences", "uj": 600.0, "meets": True})
    governed = {
        "unit": "token", "objective": "100 ms", "first": "8 sequences", "best": "32 sequences", "tried": tried,
    }  # fmt: skip
    keep_findings(tmp_path, findings(governed=governed))
    concurrency = advice(call)["concurrency"]
    assert concurrency["now"] == "governed, 100 ms a token, 32 at most"
    assert "33.3 % less energy a token than at 8 sequences" in concurrency["reasons"][0]
    other = advice(call, "--gap-p90-ms", "50", "--first-token-p95-ms", "1000")["concurrency"]
    assert other["change"] == {"args": {"inter_token_p90_ms": 50.0, "ttft_p95_ms": 1000.0}}
    assert len(other["courses"]) == 2


def test_a_model_that_is_not_there_or_none_of_ours_is_refused(serve: FakeServe, call: Call) -> None:
    assert (
        "no application 'none' is deployed, nor is it a job file; deployed: digits" in call("optimize", "none").stderr
    )
    serve.config = {**serve.config, "import_path": "somebody:else"}
    assert "serves no single model of ours" in call("optimize", "digits").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--apply", "--undo"), "not both"),
        (("--floor", "accuracy"), "METRIC=VALUE"),
        (("--raycluster", "x"), "worker group"),
        (("--raycluster", "x", "--group", "y"), "are sized for jobs"),
    ],
)
def test_options_that_mean_nothing_are_wrong_usage(
    serve: FakeServe, call: Call, options: tuple[str, ...], message: str
) -> None:
    result = call("optimize", "digits", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_zone_is_weighed_by_a_day_at_its_own_power_and_moved_by_somebody_else(serve: FakeServe, call: Call) -> None:
    zone = advice(call, "--zone", "SWE")["zone"]
    assert (zone["proposed"], zone["change"]) == ("SWE", {})
    assert zone["reasons"][-1] == "`joulekeeper deploy FILE --place` moves it"
    home = next(course for course in zone["courses"] if course["name"] == "zone world")
    intensity = next(fact["value"] for fact in zone["facts"] if fact["name"] == "intensity of world")
    # 100 J in 1,000 s: 0.1 W for a day are 0.0024 kWh.
    assert home["carbon_g"] == pytest.approx(0.0024 * intensity)
