"""Figures of the books in the shape that is shown and exported, for the cluster and for a single node alike."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from app.domain.account import Account
from app.engine.views import DeviceStatus
from app.ledger import store
from app.telemetry.snapshot import Balance, DeviceFigures


def exported_balance(
    account: Account, node: str, grade: str, energy_uj: int, uncertainty_uj: int, carbon_ugco2e: int
) -> Balance:
    """One account of one device or node."""
    labels = {name: str(value) for name, value in account.labels().items() if name != "name"}
    return Balance(
        labels=labels | {"account": account.name.value, "node": node},
        energy_uj=energy_uj,
        carbon_ugco2e=carbon_ugco2e,
        grade=grade,
        uncertainty_uj=uncertainty_uj,
    )


def energy_by_device(totals: Iterable[store.Balance]) -> dict[str, int]:
    """On the books of each device by its key, of all boots of its machine."""
    by_component: dict[tuple[str, str], int] = defaultdict(int)
    for balance in totals:
        by_component[_component(balance.device)] += balance.energy_uj
    return {balance.device: by_component[_component(balance.device)] for balance in totals}


def _component(device_key: str) -> tuple[str, str]:
    """Machine and UUID: a device of another boot is another counter, but the same thing."""
    machine, _, rest = device_key.partition("/")
    return machine, rest.partition("/")[2]


def device_statuses(
    bodies: Iterable[dict[str, Any]], energy_uj: dict[str, int], devices: Sequence[store.StoredDevice]
) -> Iterator[DeviceStatus]:
    """Devices as the newest batch of each meter shows them."""
    known = {device.key: device for device in devices}
    for body in bodies:
        for uuid, vitals in body["vitals"].items():
            key = f"{body['machine']}/{body['boot']}/{uuid}"
            if key in known:
                device, condition = known[key], body.get("conditions", {}).get(uuid, {})
                failed = uuid in body.get("failures", {})
                yield DeviceStatus(
                    node=device.node,
                    device_key=key,
                    kind=device.kind,
                    name=device.name,
                    grade=device.grade,
                    energy_uj=energy_uj.get(key, 0),
                    state="failed" if failed else "degraded" if condition.get("disputed") else "ok",
                    **vitals,
                    **condition,
                )


def exported_device(device: DeviceStatus) -> DeviceFigures:
    """One device now."""
    return DeviceFigures(
        uuid=device.device_key.rpartition("/")[2],
        kind=device.kind,
        name=device.name,
        node=device.node,
        grade=device.grade,
        energy_uj=device.energy_uj,
        power_mw=device.power_mw,
        utilization=device.utilization,
        memory_used_bytes=device.memory_used_bytes,
        memory_total_bytes=device.memory_total_bytes,
        temperature_c=device.temperature_c,
        state=device.state,
        update_period_ns=device.update_period_ns,
        counter_to_power=device.counter_to_power,
        disputed=device.disputed,
    )
