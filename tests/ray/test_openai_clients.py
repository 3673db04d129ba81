"""The `openai` package, LangChain and LiteLLM, unmodified, against the edge over TLS with a key.

Each runs in an environment of its own. It is beside tests/clients because its cluster asks for keys, which that of
the other clients does not.
"""

import time
from pathlib import Path

import pytest
import yaml

from app.access.desk import KEYS_FILE
from app.access.keys import KeyFile
from app.models.repository import RepositorySettings, open_repository
from tests.fixtures.client_environments import LANGCHAIN, LITELLM, OPENAI, client_python
from tests.fixtures.client_programs import Doors, checks_of, run_program
from tests.fixtures.edge import Edge
from tests.fixtures.language_model import card, write_language_model
from tests.fixtures.ray_cluster import ROOT, RayCluster

pytestmark = [pytest.mark.clients, pytest.mark.ray, pytest.mark.timeout(500)]

PROGRAMS = {
    "openai_chats": ("openai", OPENAI),
    "openai_completions": ("openai", OPENAI),
    "langchain_client": ("langchain", LANGCHAIN),
    "litellm_client": ("litellm", LITELLM),
}


def config():
    """The quickstart, and a tiny language model that stays awake."""
    config = yaml.safe_load((ROOT / "deployments" / "quickstart.yaml").read_text())
    deployment = {"name": "Model", "num_replicas": 1, "autoscaling_config": None, "ray_actor_options": {"num_cpus": 0}}
    minilm = next(application for application in config["applications"] if application["name"] == "minilm")
    minilm["deployments"][0]["autoscaling_config"]["downscale_delay_s"] = 600
    config["applications"].append(
        {
            "name": "tiny",
            "route_prefix": "/v2/models/tiny",
            "import_path": "app.serving.build:generator",
            "args": {"name": "tiny", "source": "repository:tiny", "max_sequences": 4, "max_queued": 16},
            "deployments": [deployment],
        }
    )
    return config


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A client's key, and the state directory of a cluster that knows it and has the model."""
    state_dir = Path(tmp_path_factory.mktemp("guarded"))
    open_repository(RepositorySettings(str(state_dir / "models"))).publish("tiny", write_language_model, card())
    (state_dir / "access").mkdir()
    made = KeyFile(state_dir / "access" / KEYS_FILE).create("acme", ["infer:*"], time.time())[1]
    return made, state_dir


@pytest.fixture(scope="module")
def doors(key, edge: Edge):
    """The edge's, in front of a cluster that serves nobody without a key."""
    with RayCluster(key[1], environment={"JOULEKEEPER_ACCESS": "required"}) as cluster:
        cluster.deploy(config())
        edge.await_models("tiny", "minilm")
        yield Doors(edge.host_and_port, edge.grpc, str(edge.ca), names_application=False)


@pytest.fixture(scope="module")
def outcomes_of(request, key):
    """Runs a program once, when its first check is asked for."""
    known = {}

    def outcomes(program):
        if program not in known:
            python = client_python(*PROGRAMS[program])
            doors = request.getfixturevalue("doors")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OPENAI_API_KEY", key[0])
                known[program] = run_program(python, program, doors)
        return known[program]

    return outcomes


@pytest.mark.parametrize(
    ("program", "check"), [(program, check) for program in PROGRAMS for check in checks_of(program)]
)
def test_an_outside_client_finds_what_it_expects(outcomes_of, program, check):
    outcome = outcomes_of(program)[check]
    assert outcome == "ok", outcome
