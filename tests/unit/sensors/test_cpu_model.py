"""The modelled CPU over a /proc tree built in a temporary directory. The kernel counts 100 ticks a second here."""

import pytest

from app.clock import ManualClock
from app.domain.reading import CounterReading, DeviceKind, Grade
from app.errors import SensorUnusable
from app.sensors import cpu_model
from app.sensors.cpu_model import CPU_POWER, TYPICAL_CPU, CpuPower, modelled_uj, open_cpu_model, read_busy

POWER = CpuPower(idle_mw=1000, max_mw=5000)


@pytest.fixture(autouse=True)
def hundred_ticks(monkeypatch):
    monkeypatch.setattr(cpu_model.os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])


def write_stat(root, user=0, nice=0, system=0, irq=0, softirq=0, cpus=2):
    first = f"cpu  {user} {nice} {system} 123456 789 {irq} {softirq} 999 555 0\n"
    (root / "stat").write_text(first + "".join(f"cpu{n} 1 2 3 4 5 6 7 8 9 0\n" for n in range(cpus)) + "intr 1 2\n")


def opened(root, clock):
    return open_cpu_model(clock, "machine", "boot", POWER, root).sensor


def test_idle_time_costs_idle_power_and_busy_time_the_rest(tmp_path):
    write_stat(tmp_path, user=200)
    clock = ManualClock(10_000_000_000)
    sensor = opened(tmp_path, clock)
    uuid = sensor.devices[0].uuid
    # 2 CPUs x 1 W x 10 s = 20 J; 200 ticks = 2 CPU seconds x (5 - 1) W = 8 J
    assert sensor.read(uuid) == CounterReading(10_000_000_000, 28_000_000)
    clock.advance(1_000_000_000)
    write_stat(tmp_path, user=300)
    # + 2 CPUs x 1 W x 1 s = 2 J + 1 s x 4 W = 4 J
    assert sensor.read(uuid).counter_uj == 34_000_000


def test_a_second_meter_continues_the_counter_of_a_dead_one(tmp_path):
    write_stat(tmp_path, user=200)
    clock = ManualClock(10_000_000_000)
    first = opened(tmp_path, clock)
    second = opened(tmp_path, clock)
    assert first.devices == second.devices
    assert first.read(first.devices[0].uuid) == second.read(first.devices[0].uuid)


def test_busy_is_user_nice_system_irq_and_softirq_and_nothing_else(tmp_path):
    write_stat(tmp_path, user=1, nice=10, system=100, irq=1000, softirq=10_000, cpus=3)
    assert read_busy(tmp_path / "stat") == (111_110_000_000, 3)  # 11,111 ticks of 10 ms


def test_the_counter_never_falls_when_the_kernel_corrects_itself(tmp_path):
    write_stat(tmp_path, user=200)
    sensor = opened(tmp_path, ManualClock(10_000_000_000))
    uuid = sensor.devices[0].uuid
    before = sensor.read(uuid).counter_uj
    write_stat(tmp_path, user=150)
    assert sensor.read(uuid).counter_uj == before


def test_figures_are_exact_integers_after_a_year():
    year_ns = 31_536_000_000_000_000
    # 256 CPUs x 1 W x 31,536,000 s = 8,073,216,000 J
    assert modelled_uj(POWER, 256, year_ns, 0) == 8_073_216_000_000_000


def test_the_device_says_that_it_is_modelled_and_with_what(tmp_path):
    write_stat(tmp_path)
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: AMD EPYC 7763\n")
    device = opened(tmp_path, ManualClock()).devices[0]
    assert (device.grade, device.kind, device.wraps_at_uj) == (Grade.MODELLED, DeviceKind.CPU, None)
    assert device.uuid == "cpu-model:2x1000-5000mw"
    assert device.name == "AMD EPYC 7763 (2 CPUs, modelled)"


def test_other_coefficients_are_another_counter(tmp_path):
    write_stat(tmp_path)
    other = open_cpu_model(ManualClock(), "machine", "boot", CpuPower(1, 2), tmp_path).sensor
    assert other.devices[0].key != opened(tmp_path, ManualClock()).devices[0].key


def test_every_architecture_uses_more_when_busy_and_the_typical_one_lies_between():
    assert all(0 < power.idle_mw < power.max_mw for power in CPU_POWER.values())
    middle = CpuPower(767, 4063)
    assert middle == TYPICAL_CPU  # ninth of seventeen rows each: Ice Lake, Cascade Lake


def test_no_proc_is_a_reason(tmp_path):
    with pytest.raises(SensorUnusable, match="stat cannot be read: No such file"):
        opened(tmp_path, ManualClock())


@pytest.mark.parametrize("content", ["", "cpu 1 2 3\n", "cpu a b c d e f g\n", "intr 5\n"])
def test_a_stat_that_is_no_stat_is_a_reason(tmp_path, content):
    (tmp_path / "stat").write_text(content)
    with pytest.raises(SensorUnusable, match="must begin with a `cpu` line"):
        opened(tmp_path, ManualClock())
