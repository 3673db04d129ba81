"""What is known of a served model, made into advice on its settings: its config, its replica, its cards, the books.

Knows nothing of Ray but through what it is handed: details of Serve, findings of a replica, a repository, a report.
What is measured is named as such, what is not is said with what to run.

    known = Known(application, deployment, findings, report)
    advise_model(known, wanted, repository, plan_of_place)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from app.cli.stay_config import stay_of
from app.cli.variant_candidates import candidates_of
from app.domain.account import AccountName
from app.domain.decision import Fact
from app.engine.views import Report
from app.errors import InvalidInput, JoulekeeperError, NotFound
from app.models.repository import ModelRepository
from app.policy.advice import ANSWERS, STANDBY, Advice, settled, unknown
from app.policy.advice_serving import Floor, advise_limit, advise_variant
from app.policy.advice_standby import Standby, advise_keep_alive
from app.serving.findings import Findings
from app.units import UJ_PER_J

DEPLOYMENT = "Model"
_GENERATOR = "app.serving.build:generator"


@dataclass(frozen=True, slots=True)
class Objectives:
    """What must be kept. None: nobody said."""

    p95_ms: float | None = None
    gap_p90_ms: float | None = None
    first_token_p95_ms: float | None = None
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Of one application."""

    name: str
    config: Mapping[str, Any]
    """As it was deployed."""
    autoscaling: Mapping[str, Any] | None
    """In force; None: a fixed number of replicas."""
    findings: Findings | None
    findings_from: str
    """Where they are from, for people."""
    report: Report | None
    """Of the books, by model, over the period that counts."""

    @property
    def args(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.config.get("args") or {}
        return found

    @property
    def is_generator(self) -> bool:
        return self.config.get("import_path") == _GENERATOR

    @property
    def model(self) -> str:
        return str(self.args.get("name", ""))

    def parts(self) -> dict[str, float]:
        """Joules by part over the period, from the books; else of the replica's life; empty: neither is known."""
        if self.report is not None:
            version = self.findings.version if self.findings else ""
            rows = [row for row in self.report.rows if row.group.get("model") == self.model]
            rows = [row for row in rows if not version or row.group.get("version") == version]
            request = AccountName.REQUEST.value
            own = {True: 0, False: 0}
            for row in rows:
                own[row.group.get("account") == request] += row.energy_uj
            if sum(own.values()):
                return {ANSWERS: own[True] / UJ_PER_J, STANDBY: own[False] / UJ_PER_J}
        found = self.findings
        if found is None:
            return {}
        return {ANSWERS: found.request_uj / UJ_PER_J, STANDBY: (found.load_uj + found.warm_uj) / UJ_PER_J}

    def facts(self) -> tuple[Fact, ...]:
        """What the record of a change keeps, so that its outcome can be told."""
        from app.cli.applied import LIFE, PER_UNIT, UNITS

        found, parts = self.findings, self.parts()
        facts = [
            Fact(name=f"energy of {part}", value=joules, unit="J", source="the books") for part, joules in parts.items()
        ]
        if found is not None and found.uj_per_answer is not None:
            where = self.findings_from
            facts.append(Fact(name=UNITS, value=float(found.asked), unit="answers", source=where))
            facts.append(Fact(name=LIFE, value=found.seen_s - found.born_s, unit="s", source=where))
            source = f"{where}, loading and staying included"
            facts.append(Fact(name=PER_UNIT, value=found.uj_per_answer / UJ_PER_J, unit="J", source=source))
        return tuple(facts)


def known_of(details: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """Config, deployment and replicas that run of an application of ours in Serve's details. Raises NotFound."""
    applications = details.get("applications", {})
    if name not in applications:
        known = ", ".join(sorted(applications)) or "none"
        raise NotFound(f"no application {name!r} is deployed, nor is it a job file; deployed: {known}")
    application = applications[name]
    config = application.get("deployed_app_config") or {}
    deployment = application.get("deployments", {}).get(DEPLOYMENT)
    if deployment is None or not str(config.get("import_path", "")).startswith("app.serving.build:"):
        raise InvalidInput(f"application {name!r} serves no single model of ours: nothing is known of its settings")
    running = sum(each.get("state") == "RUNNING" for each in deployment.get("replicas", ()))
    return config, deployment.get("deployment_config") or {}, running


def advise_model(known: Known, wanted: Objectives, repository: ModelRepository) -> list[Advice]:
    """Advice on every setting of a served model but its place."""
    return [
        _together(known, wanted),
        _keep_alive(known),
        _variant(known, wanted.floor, repository),
        _precision(known),
        unknown(
            "power cap", "as the node has it", "replicas set none; `joulekeeper tune JOB.yaml` measures caps for a job"
        ),
        settled(
            "hour", "when asked", "who asks waits for the answer; `joulekeeper batch` takes what can wait", basis="set"
        ),
    ]


def _together(known: Known, wanted: Objectives) -> Advice:
    governed = known.findings.governed if known.findings else None
    if known.is_generator:
        limit, now_ms = known.args.get("max_sequences", 32), known.args.get("inter_token_p90_ms")
        now = f"{limit} sequences" if now_ms is None else f"governed, {now_ms:g} ms a token, {limit} at most"
        gap_ms = wanted.gap_p90_ms or now_ms
        change: dict[str, JsonValue] = {"inter_token_p90_ms": gap_ms}
        if wanted.first_token_p95_ms:
            change["ttft_p95_ms"] = wanted.first_token_p95_ms
        is_now = all(known.args.get(key) == value for key, value in change.items())
        asked = "" if gap_ms is None else f"{gap_ms:g} ms a token for 90 %"
        return advise_limit("concurrency", now, governed, asked=asked, is_asked_now=is_now, change={"args": change})
    batching = known.args.get("batching") or {}
    now_ms = batching.get("objective_p95_ms")
    limit = batching.get("max_rows", 64)
    now = f"{limit} rows at most" if now_ms is None else f"governed, {now_ms:g} ms, {limit} rows at most"
    p95_ms = wanted.p95_ms or now_ms
    args: dict[str, JsonValue] = {"batching": {"objective_p95_ms": p95_ms, "max_wait_ms": None}}
    asked = "" if p95_ms is None else f"{p95_ms:g} ms for 95 %"
    return advise_limit("batch", now, governed, asked=asked, is_asked_now=p95_ms == now_ms, change={"args": args})


def _keep_alive(known: Known) -> Advice:
    stay = stay_of(known.config, known.autoscaling, DEPLOYMENT)
    if stay.refusal:
        return unknown("keep-alive", "a policy of your own", stay.refusal, of=STANDBY)
    found = known.findings
    if found is None:
        return advise_keep_alive(stay.now, (), None, stay.change)
    standby = Standby(
        load_j=found.load_uj / UJ_PER_J,
        warm_w=found.warm_uj / UJ_PER_J / found.idle_s if found.idle_s > 0 else 0.0,
        sleeps=0 if stay.now.kind == "always" else 1,
    )
    return advise_keep_alive(stay.now, found.gaps_s, standby, stay.change)


def _variant(known: Known, floor: Floor | None, repository: ModelRepository) -> Advice:
    kind, _, reference = str(known.args.get("source", "")).partition(":")
    if kind != "repository":
        return unknown("variant", reference or "-", f"it comes from a {kind}: variants are versions of the repository")
    name, _, version = reference.partition("@")
    try:
        present = repository.resolve(name, (known.findings.version if known.findings else "") or version)
        candidates = candidates_of(repository, name, present)
    except JoulekeeperError as error:
        return unknown("variant", reference, f"the repository cannot tell: {error}")

    def change(chosen: str) -> dict[str, JsonValue]:
        # Whatever version the config names is that of the source from now on.
        return {"args": {"source": f"repository:{chosen}", "version": None}}

    return advise_variant(f"{name}@{present}", candidates, floor, change)


def _precision(known: Known) -> Advice:
    now = str(known.args.get("dtype", "as published"))
    if known.is_generator:
        todo = "`joulekeeper models quantize` measures int8, int4 and bf16 as variants, which `variant` then weighs"
    else:
        todo = "a job of kind compress measures other precisions as variants, which `variant` then weighs"
    return unknown("precision", now, todo)
