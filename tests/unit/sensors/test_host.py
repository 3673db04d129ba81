"""Who the host is."""

import pytest

from app.errors import SensorUnusable
from app.sensors.host import boot_id, machine_id


def test_the_machine_id_is_what_the_system_wrote(tmp_path):
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    assert machine_id(path) == "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("content", [None, "", "\n", "uninitialized\n"])
def test_without_a_machine_id_the_host_name_makes_one(tmp_path, content):
    path = tmp_path / "machine-id"
    if content is not None:
        path.write_text(content)
    first = machine_id(path, lambda: "alpha")
    assert len(first) == 32
    assert first == machine_id(path, lambda: "alpha")
    assert first != machine_id(path, lambda: "beta")


def test_the_boot_id_is_what_the_kernel_wrote(tmp_path):
    path = tmp_path / "boot_id"
    path.write_text("b9f0a4ee-0000-4000-8000-000000000000\n")
    assert boot_id(path) == "b9f0a4ee-0000-4000-8000-000000000000"


def test_no_boot_id_is_a_reason_naming_the_file(tmp_path):
    with pytest.raises(SensorUnusable, match="boot_id must hold the id of this boot"):
        boot_id(tmp_path / "boot_id")
