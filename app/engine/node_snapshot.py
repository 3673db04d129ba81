"""What one node exports of itself: its running totals and its devices as its last batch shows them. Pure."""

import orjson

from app.domain.reading import Grade
from app.engine.exported import device_statuses, energy_by_device, exported_balance, exported_device
from app.engine.node_totals import NodeTotals
from app.ledger.account_tables import account_of_labels
from app.ledger.batch import Body
from app.ledger.store import Balance, StoredDevice
from app.telemetry.snapshot import LedgerSnapshot, MeterHealth


def node_snapshot(totals: NodeTotals, body: Body, waiting: int) -> LedgerSnapshot:
    """`body` of the newest batch, `waiting` batches that were not acknowledged."""
    node = body["node"]
    balances, carbon_ug = [], []
    for (device, labels, grade), sums in totals.lines.items():
        account = account_of_labels(orjson.loads(labels))
        balances.append(Balance(0, device, node, Grade(grade), account, sums.energy_uj, sums.uncertainty_uj))
        carbon_ug.append(round(sums.carbon_ugco2e))
    devices = [StoredDevice(key=key, tag="", node=node, **known) for key, known in totals.devices.items()]
    return LedgerSnapshot(
        balances=tuple(
            exported_balance(
                balance.account,
                node,
                balance.grade.value,
                balance.energy_uj,
                balance.uncertainty_uj,
                carbon_ugco2e,
            )
            for balance, carbon_ugco2e in zip(balances, carbon_ug, strict=True)
        ),
        devices=tuple(map(exported_device, device_statuses([body], energy_by_device(balances), devices))),
        meters=(MeterHealth(node, present=True, last_heard_s=0.0, waiting=waiting),),
    )
