"""`joulekeeper batch` against a service on paper: what it sends, shows and says."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import batch as batch_module
from app.cli.main import cli
from app.cli.service import service

LINE = json.dumps({"custom_id": "a", "method": "POST", "url": "/v2/models/m/infer", "body": {"inputs": []}})
BATCH = {
    "id": "batch_1",
    "created_at": 1_800_000_000,
    "expires_at": 1_800_086_400,
    "output_file_id": "file-out-1",
    "error_file_id": None,
    "request_counts": {"total": 3, "completed": 1, "failed": 1},
    "joulekeeper": {
        "state": "waiting", "energy_uj": 7_200_000, "carbon_ugco2e": 250, "at_once_ugco2e": 1000, "saved_ugco2e": 750,
        "provisional": True, "grade": "counter", "grid_grade": "actual", "planned": [[1_800_010_000, 1_800_020_000]],
        "expected_saving": 0.5, "reasons": ["it is cleaner then"],
        "decisions": [{"at": 1_800_000_000, "action": "wait", "reasons": ["it is cleaner then"]}],
    },
}  # fmt: skip


class Paper(httpx.MockTransport):
    def __init__(self):
        self.seen, self.refusal = [], None
        super().__init__(self.take)

    def take(self, request):
        request.read()
        self.seen.append(request)
        if self.refusal:
            return self.refusal
        match request.method, request.url.path:
            case "POST", "/v1/files":
                return httpx.Response(200, json={"id": "file-1"})
            case "GET", "/v1/batches":
                return httpx.Response(200, json={"data": [BATCH]})
            case "GET", "/v1/files/file-out-1/content":
                return httpx.Response(200, content=b'{"custom_id": "a"}\n')
        return httpx.Response(200, json=BATCH)


@pytest.fixture
def paper(monkeypatch):
    paper = Paper()
    monkeypatch.setattr(batch_module, "service", lambda *where: service(*where, transport=paper))
    return paper


def run(*words):
    return CliRunner().invoke(cli, ["batch", *words])


def test_submit_sends_the_file_and_names_the_batch_first(paper, tmp_path):
    path, key = tmp_path / "requests.jsonl", tmp_path / "key"
    path.write_text(f"\n{LINE}\n")
    key.write_text("jk_abc\n")
    done = run("submit", str(path), "--window", "6h", "--key-file", str(key))
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == "batch_1"
    upload, create = paper.seen
    assert LINE.encode() in upload.content
    assert upload.headers["authorization"] == "Bearer jk_abc"
    assert json.loads(create.content) == {
        "input_file_id": "file-1", "endpoint": "/v2/models/{model}/infer", "completion_window": "6h",
    }  # fmt: skip


def test_show_has_figures_plan_and_reasons(paper):
    told = run("show", "batch_1").output
    assert "2/3, 1 of them badly" in told
    assert "750 ugCO2e (75.0%)" in told
    assert "7.2 J (counter, provisional)" in told
    assert "50.0% less carbon than at once" in told
    assert "it is cleaner then" in told
    assert json.loads(run("show", "batch_1", "--json").output) == BATCH


def test_list_results_and_cancel(paper):
    assert "batch_1  waiting" in run("list").output
    assert run("results", "batch_1").output == '{"custom_id": "a"}\n'
    assert run("cancel", "batch_1").output == "batch_1 is being cancelled\n"
    assert paper.seen[-1].url.path == "/v1/batches/batch_1/cancel"


def test_results_that_are_not_there_say_how_far_it_is(paper):
    done = run("results", "batch_1", "--errors")
    assert (done.exit_code, "it is waiting, 2/3 answered" in done.output) == (1, True)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, {"error": {"message": "there is no batch"}}, "there is no batch"),
        (403, {"error": "not you"}, "not you"),
        (502, None, "status 502"),
    ],
)
def test_refusals_are_one_line(paper, status, body, told):
    paper.refusal = httpx.Response(status, json=body) if body else httpx.Response(status, text="<html>")
    done = run("show", "batch_1")
    assert (done.exit_code, told in done.output) == (1, True)


def test_files_that_cannot_be_sent(paper, tmp_path):
    assert "cannot be read" in run("submit", str(tmp_path / "nothing")).output
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("{}")
    assert "line 1 is no request" in run("submit", str(wrong)).output
    assert "--key-file" in run("list", "--key-file", str(tmp_path / "nothing")).output
