"""The `ray up` files against Ray's own validator, and against the settings and zones they name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.label_utils import validate_node_label_syntax
from ray.autoscaler._private.util import prepare_config, validate_config

from app.carbon.zones import find_zone
from app.config import Settings
from app.engine.places import zone_of_labels

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "deployments/clusters/local.yaml"]
METER_LABEL = "joulekeeper.io/meter"


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A cluster file as `ray up` sees it, defaults filled in."""
    prepared: dict[str, Any] = prepare_config(yaml.safe_load((ROOT / request.param).read_text()))
    return prepared


@pytest.fixture
def cloud() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def start_commands(config: dict[str, Any]) -> list[str]:
    return [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]


def test_ray_accepts_the_file(config: dict[str, Any]) -> None:
    validate_config(config)


def test_head_and_workers_start_ray_in_the_fast_mode_with_books_outside_rays_session(config: dict[str, Any]) -> None:
    commands = start_commands(config)
    assert len(commands) == 2
    for command in commands:
        assert command.index("fast_mode;") < command.index("ray start")
        assert re.search(r"JOULEKEEPER_STATE_DIR=/var/lib/\S+", command)


def test_every_variable_is_a_setting_and_every_zone_is_in_the_table(config: dict[str, Any]) -> None:
    for command in start_commands(config):
        variables = dict(re.findall(r"JOULEKEEPER_([A-Z_]+)=([^\s;]+)", command))
        assert {name.lower() for name in variables} <= set(Settings.model_fields)
        assert find_zone(variables["ZONE"])


def test_the_installation_is_pinned(config: dict[str, Any]) -> None:
    assert any("install_package" in command for command in config["setup_commands"])


def test_nodes_carry_their_zone_and_only_those_that_stay_keep_a_meter(cloud: dict[str, Any]) -> None:
    for name, node_type in cloud["available_node_types"].items():
        stays = name == cloud["head_node_type"] or node_type["min_workers"] > 0
        assert (node_type["labels"].get(METER_LABEL) == "resident") == stays
        assert zone_of_labels(node_type["labels"])
        validate_node_label_syntax(node_type["labels"])


def test_gpu_workers_come_from_nothing_and_go_when_idle(cloud: dict[str, Any]) -> None:
    workers = [each for name, each in cloud["available_node_types"].items() if name != cloud["head_node_type"]]
    assert workers
    assert all(each["min_workers"] == 0 < each["max_workers"] for each in workers)
    assert cloud["idle_timeout_minutes"] > 0


def test_the_quickstart_of_a_cluster_is_the_quickstart_with_replicas_that_other_nodes_can_reach() -> None:
    local, cluster = (
        yaml.safe_load((ROOT / "deployments" / name).read_text())
        for name in ("quickstart.yaml", "quickstart-cluster.yaml")
    )
    for application in local["applications"]:
        application.pop("deployments", None)
    assert cluster.pop("http_options") == {**local.pop("http_options"), "host": "0.0.0.0"}
    assert cluster == local
