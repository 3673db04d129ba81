"""tritonclient, KServe's clients, health probes and reflection, unmodified, each in its own environment."""

import pytest

from tests.fixtures.client_environments import client_python
from tests.fixtures.client_programs import checks_of, run_program

pytestmark = [pytest.mark.clients, pytest.mark.ray, pytest.mark.timeout(600)]

PROGRAMS = {
    "triton_http": "triton",
    "triton_grpc": "triton",
    "kserve_clients": "kserve",
}


@pytest.fixture(scope="module")
def outcomes_of(doors):
    """Runs a program once, when its first check is asked for."""
    known = {}

    def outcomes(program):
        if program not in known:
            python = client_python(PROGRAMS[program])
            known[program] = run_program(python, program, doors)
        return known[program]

    return outcomes


@pytest.mark.parametrize(
    ("program", "check"), [(program, check) for program in PROGRAMS for check in checks_of(program)]
)
def test_an_outside_client_finds_what_it_expects(outcomes_of, program, check):
    outcome = outcomes_of(program)[check]
    assert outcome == "ok", outcome
