"""Serve configs merged into what runs."""

from pathlib import Path
from typing import Any

import pytest

from app.cli.serve_config import ConfigFile, merge, read_config
from app.errors import InvalidInput

QUICKSTART = {
    "console": {"name": "console", "route_prefix": "/", "import_path": "app.console.app:build"},
    "minilm": {
        "name": "minilm",
        "route_prefix": "/v2/models/minilm",
        "import_path": "app.serving.build:model",
        "args": {"name": "minilm"},
    },
}


def _details(**changes: Any) -> dict[str, Any]:
    """A running Serve with the quickstart."""
    applications = {
        name: {
            "status": "RUNNING",
            "source": "declarative",
            "route_prefix": config["route_prefix"],
            "deployed_app_config": config,
        }
        for name, config in QUICKSTART.items()
    }
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "grpc_options": {"port": 9000, "grpc_servicer_functions": ["a.b"]},
        "target_capacity": None,
        "applications": applications,
        **changes,
    }


def _file(*applications: dict[str, Any], path: str = "digits.yaml", **options: Any) -> ConfigFile:
    return ConfigFile(path, {**options, "applications": list(applications)})


DIGITS = {"name": "digits", "route_prefix": "/v2/models/digits", "import_path": "app.serving.build:model"}


def test_what_the_file_does_not_name_is_kept_as_it_was_submitted() -> None:
    plan = merge(_details(), [_file(DIGITS)])
    assert plan.config["applications"] == [QUICKSTART["console"], QUICKSTART["minilm"], DIGITS]
    assert (plan.deployed, plan.kept, plan.notes) == (("digits",), ("console", "minilm"), ())


def test_an_application_of_the_same_name_is_replaced() -> None:
    changed = {**QUICKSTART["minilm"], "args": {"name": "minilm", "device": "cuda"}}
    plan = merge(_details(), [_file(changed)])
    assert plan.config["applications"] == [QUICKSTART["console"], changed]
    assert plan.kept == ("console",)


def test_options_of_the_running_serve_are_kept_and_differences_said() -> None:
    plan = merge(_details(), [_file(DIGITS, http_options={"port": 8080, "host": "127.0.0.1"})])
    assert plan.config["http_options"] == {"host": "127.0.0.1", "port": 8000}
    assert plan.config["grpc_options"]["port"] == 9000
    assert plan.config["proxy_location"] == "HeadOnly"
    (note,) = plan.notes
    assert note.startswith("http_options.port stays 8000")


def test_on_a_cluster_without_serve_the_file_decides() -> None:
    plan = merge({"applications": {}}, [_file(DIGITS, proxy_location="HeadOnly", http_options={"port": 8080})])
    assert plan.config == {"proxy_location": "HeadOnly", "http_options": {"port": 8080}, "applications": [DIGITS]}


def test_several_files_become_one() -> None:
    other = {**DIGITS, "name": "seed", "route_prefix": "/v2/models/seed"}
    plan = merge(_details(), [_file(DIGITS), _file(other, path="seed.yaml")])
    assert plan.deployed == ("digits", "seed")
    assert len(plan.config["applications"]) == 4


def test_logging_of_a_file_does_not_spread_to_what_is_kept() -> None:
    plan = merge(_details(), [_file(DIGITS, logging_config={"log_level": "DEBUG"})])
    assert "logging_config" not in plan.config
    assert [each.get("logging_config") for each in plan.config["applications"]] == [
        None,
        None,
        {"log_level": "DEBUG"},
    ]


def test_the_target_capacity_that_runs_is_kept_unless_a_file_says_otherwise() -> None:
    assert "target_capacity" not in merge(_details(), [_file(DIGITS)]).config
    assert merge(_details(target_capacity=50.0), [_file(DIGITS)]).config["target_capacity"] == 50.0
    assert merge(_details(target_capacity=50.0), [_file(DIGITS, target_capacity=100)]).config["target_capacity"] == 100


def test_an_application_that_is_being_deleted_is_neither_kept_nor_in_the_way() -> None:
    details = _details()
    details["applications"]["minilm"]["status"] = "DELETING"
    plan = merge(details, [_file({**DIGITS, "route_prefix": "/v2/models/minilm"})])
    assert plan.kept == ("console",)


def test_a_route_that_another_application_has_is_a_clear_error() -> None:
    with pytest.raises(InvalidInput, match=r"'/v2/models/minilm' of application 'other' is taken .* 'minilm'"):
        merge(_details(), [_file({**DIGITS, "name": "other", "route_prefix": "/v2/models/minilm"})])


def test_a_route_that_is_only_in_a_config_is_taken_too() -> None:
    details = _details()
    details["applications"]["minilm"]["route_prefix"] = None
    with pytest.raises(InvalidInput, match="is taken by the running"):
        merge(details, [_file({**DIGITS, "route_prefix": "/v2/models/minilm"})])


def test_an_application_without_a_route_prefix_claims_the_root() -> None:
    with pytest.raises(InvalidInput, match="'/' of application 'x' is taken by the running application 'console'"):
        merge(_details(), [_file({"name": "x", "import_path": "x:y"})])


def test_applications_that_answer_nowhere_do_not_collide() -> None:
    hidden = [{"name": name, "route_prefix": None, "import_path": "x:y"} for name in "ab"]
    assert merge(_details(), [_file(*hidden)]).deployed == ("a", "b")


def test_an_application_started_by_serve_run_stays_without_being_submitted() -> None:
    details = _details()
    details["applications"]["adhoc"] = {
        "status": "RUNNING",
        "source": "imperative",
        "route_prefix": "/adhoc",
        "deployed_app_config": None,
    }
    plan = merge(details, [_file(DIGITS)])
    assert "adhoc" in plan.kept
    assert "adhoc" not in [each["name"] for each in plan.config["applications"]]


def test_nothing_is_submitted_when_it_would_remove_an_application() -> None:
    details = _details()
    details["applications"]["minilm"]["deployed_app_config"] = None
    with pytest.raises(InvalidInput, match="would remove it"):
        merge(details, [_file(DIGITS)])


def test_all_faults_of_all_files_are_named_at_once() -> None:
    files = [
        _file(DIGITS, {**DIGITS, "name": "twin"}, proxy_location="HeadOnly"),
        _file(DIGITS, path="again.yaml", proxy_location="EveryNode"),
        _file({**DIGITS, "name": "thief", "route_prefix": "/"}, path="thief.yaml"),
    ]
    with pytest.raises(InvalidInput) as raised:
        merge(_details(), files)
    for words in (
        "'digits' is named in digits.yaml and again in again.yaml",
        "'digits' and 'twin' both claim",
        "thief.yaml: route_prefix '/' of application 'thief' is taken",
        "again.yaml: proxy_location differs",
    ):
        assert words in str(raised.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("applications:\n- name: digits\n  import_path: a:b\n")
    assert read_config(path).applications == [{"name": "digits", "import_path": "a:b"}]


@pytest.mark.parametrize("text", ["a: [", "- 1", "applications: 3", "applications: [x]", ""])
def test_a_file_that_is_no_serve_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"x\.yaml is (not YAML|no Serve config)"):
        read_config(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.yaml cannot be read: No such file"):
        read_config(tmp_path / "none.yaml")
