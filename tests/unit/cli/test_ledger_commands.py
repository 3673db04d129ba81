"""report, receipt, ledger audit: what they ask, what they print, how they end."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from app.cli import cluster
from app.engine.views import Audit, GapAudit, Receipt, Report
from app.errors import Unavailable

Call = Callable[..., Any]


def test_a_report_states_its_figures_and_the_terms_of_the_price(books: Any, call: Call) -> None:
    result = call("report", "--by", "model")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["model", "version", "energy", "J", "kWh", "gCO2e", "share", "grade", "±", "J"]
    # 3,000,000 uJ are 3 J; / 3.6e12 that is 0.00000083 kWh.
    assert lines[2].split() == ["minilm", "1", "3.000", "0.000001", "0.000030", "75.0", "%", "counter", "0.001"]
    assert lines[3].split()[:2] == ["-", "-"]
    assert "counter+modelled" in lines[3]
    assert lines[4].split()[:3] == ["total", "-", "4.000"]
    assert "zone FRA: 36 gCO2e/kWh (a table, 2024), PUE 1.25" in result.stdout
    assert "charged to work: 75.0%" in result.stdout


def test_a_report_as_json_is_the_view(books: Any, call: Call) -> None:
    for words in (("--json",), ("--format", "json")):
        assert Report.model_validate_json(call("report", *words).stdout) == books.report("account")


def test_a_report_as_csv_has_a_row_a_group_and_raw_figures(books: Any, call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(call("report", "--format", "csv").stdout)))
    assert [int(row["energy_uj"]) for row in rows] == [3_000_000, 1_000_000]
    assert rows[0]["zone"] == "FRA"


def test_a_period_reaches_the_books_in_unix_seconds(books: Any, call: Call) -> None:
    since, until = "2026-11-22T00:00:00Z", "2026-11-22T01:00:00Z"
    assert call("report", "--since", since, "--until", until).exit_code == 0
    midnight = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    assert books.asked == [("account", midnight, midnight + 3600)]


@pytest.mark.parametrize(
    "words", [("--by", "colour"), ("--since", "soon"), ("--format", "xml"), ("--since", "1h", "--until", "2h")]
)
def test_a_wrong_option_is_wrong_usage(books: Any, call: Call, words: tuple[str, ...]) -> None:
    result = call("report", *words)
    assert (result.exit_code, result.stdout, books.asked) == (2, "", [])


def test_a_receipt_is_never_wrapped_where_there_is_no_terminal(books: Any, call: Call) -> None:
    result = call("receipt", books.receipt_id, "--wait", "3")
    assert result.exit_code == 0
    assert f"Receipt {books.receipt_id}" in result.stdout.splitlines()
    assert "1234567 uJ (1.23 J)" in result.stdout
    assert "12.500 ms" in result.stdout
    assert "provisional" in result.stdout
    assert "tenant" not in result.stdout
    assert books.asked == [(books.receipt_id, 3.0)]


def test_a_receipt_as_json_is_the_view(books: Any, call: Call) -> None:
    assert Receipt.model_validate_json(call("receipt", books.receipt_id, "--json").stdout).energy_uj == 1_234_567


def test_an_unknown_receipt_is_one_line_on_stderr(books: Any, call: Call) -> None:
    result = call("receipt", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no receipt 'nope': it is unknown or older than 24 h\n"


def test_the_traceback_is_shown_when_asked_for(books: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULEKEEPER_DEBUG", "1")
    result = call("receipt", "nope")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: no receipt 'nope': it is unknown or older than 24 h\n")


def test_an_audit_of_good_books_ends_well(books: Any, call: Call) -> None:
    result = call("ledger", "audit")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[2].split() == [
        "n1",
        "H100",
        books.device_key,
        "counter",
        "4000000",
        "4000000",
        "0",
        "0",
        "12",
    ]
    assert "the books balance" in result.stdout


def test_an_audit_explains_its_gaps_and_says_what_it_could_not_see(books: Any, call: Call) -> None:
    books.notes = ("meter m (node n2) was not heard, its journal is not compared",)
    books.gaps = (
        GapAudit(
            node="n1",
            device_key=books.device_key,
            meter="m",
            energy_uj=4_000,
            since_s=1_790_000_000.0,
            duration_s=2.5,
            reason="the meter died",
        ),
    )
    result = call("ledger", "audit")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "note: meter m (node n2) was not heard" in result.stdout
    assert result.stdout.splitlines()[-1].split()[-5:] == ["2.5", "4000", "the", "meter", "died"]


def test_an_audit_with_faults_names_each_and_ends_with_one(books: Any, call: Call) -> None:
    books.faults = ("batch 3 of n1 was altered", "GPU-1 differs by 7 uJ")
    result = call("ledger", "audit")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["fault: batch 3 of n1 was altered", "fault: GPU-1 differs by 7 uJ"]
    as_json = call("ledger", "audit", "--json")
    assert as_json.exit_code == 1
    assert Audit.model_validate(json.loads(as_json.stdout)).faults == books.faults


def test_no_cluster_is_one_line_that_says_what_to_do(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise Unavailable("no Ray cluster answers at 10.0.0.1:6379: start one with scripts/up or set RAY_ADDRESS")

    monkeypatch.setattr(cluster, "books", gone)
    for words in (("report",), ("receipt", "x"), ("ledger", "audit"), ("watch", "--once")):
        result = call(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert "scripts/up" in result.stderr


def test_parts_are_those_of_jobs(books: Any, call: Call) -> None:
    result = call("report", "--by", "job", "--format", "parts")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("tenant,job,attempt,kind,worker,epoch,energy_uj")
    assert call("report", "--format", "parts").exit_code == 2
