"""The `openai` package, LangChain and LiteLLM, unmodified, against the edge over TLS with a key.

Each runs in an environment of its own. It is beside tests/clients because its cluster asks for keys, which that of
the other clients does not.
"""

import time
from pathlib import Path

import pytest

from app.access.desk import KEYS_FILE
from app.access.keys import KeyFile
from tests.fixtures.client_environments import client_python
from tests.fixtures.client_programs import Doors, checks_of, run_program
from tests.fixtures.edge import Edge
from tests.fixtures.quickstart import awake_model, quickstart

pytestmark = [pytest.mark.clients, pytest.mark.ray, pytest.mark.timeout(500)]

PROGRAMS = {
    "openai_chats": "openai",
    "openai_completions": "openai",
    "openai_batches": "openai",
    "langchain_client": "langchain",
    "litellm_client": "litellm",
}


@pytest.fixture(scope="module")
def key(state):
    """A client's."""
    return KeyFile(state / "access" / KEYS_FILE).create("acme", ["infer:*"], time.time())[1]


@pytest.fixture(scope="module")
def doors(running, tmp_path_factory):
    """The edge's, in front of the quickstart and a tiny language model that stay awake."""
    config = quickstart(downscale_delay_s=600)
    config["applications"].append(
        awake_model("tiny", "generator", source="repository:tiny", max_sequences=4, max_queued=16)
    )
    running.deploy(config)
    with Edge(Path(tmp_path_factory.mktemp("edge"))) as edge:
        edge.await_models("tiny", "minilm")
        yield Doors(edge.host_and_port, edge.grpc, str(edge.ca), names_application=False)


@pytest.fixture(scope="module")
def outcomes_of(request, key):
    """Runs a program once, when its first check is asked for."""
    known = {}

    def outcomes(program):
        if program not in known:
            python = client_python(PROGRAMS[program])
            doors = request.getfixturevalue("doors")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OPENAI_API_KEY", key)
                known[program] = run_program(python, program, doors)
        return known[program]

    return outcomes


@pytest.mark.parametrize(
    ("program", "check"), [(program, check) for program in PROGRAMS for check in checks_of(program)]
)
def test_an_outside_client_finds_what_it_expects(outcomes_of, program, check):
    outcome = outcomes_of(program)[check]
    assert outcome == "ok", outcome
