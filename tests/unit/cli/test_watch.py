"""watch: one picture, and power out of two looks."""

import json
from collections.abc import Callable
from typing import Any

from app.cli.rendering import account_flow, status_grids
from app.cli.watch import Watcher
from app.clock import ManualClock
from app.engine.views import Status


def test_one_picture_shows_nodes_devices_accounts_and_warnings(books: Any, call: Callable[..., Any]) -> None:
    result = call("watch", "--once")
    assert result.exit_code == 0
    for words in ("minilm@1, digits", "70.50 W", "50%", "8.0/80.0 GB", "warning: the clock of n2", "75.0%"):
        assert words in result.stdout
    assert f"  {books.device_key.split('/')[2]}  " in result.stdout


def test_one_picture_as_json_is_the_view_on_one_line(books: Any, call: Callable[..., Any]) -> None:
    (line,) = call("watch", "--once", "--json").stdout.splitlines()
    assert Status.model_validate(json.loads(line)) == books.status()


def test_flow_is_energy_between_two_looks_over_time() -> None:
    before = Status(nodes=(), devices=(), by_account_uj={"request": 1_000_000}, warnings=())
    after = Status(nodes=(), devices=(), by_account_uj={"request": 5_000_000, "warm": 500_000}, warnings=())
    # 4 J and 0.5 J in 2 s are 2 W and 0.25 W.
    assert account_flow(before, after, 2_000_000_000) == {"request": 2000.0, "warm": 250.0}


def test_the_first_look_has_no_flow_and_the_second_has(books: Any) -> None:
    clock = ManualClock()
    watcher = Watcher(books, clock)
    assert watcher.look()[1] is None
    clock.advance(1_000_000_000)
    status, flow = watcher.look()
    assert flow == {"request": 0.0, "warm": 0.0}
    assert status_grids(status, flow)[2].rows[0] == ("request", "3 J", "75.0%", "0.00 W")


def test_a_cluster_without_work_has_empty_tables() -> None:
    grids = status_grids(Status(nodes=(), devices=(), by_account_uj={}, warnings=()))
    assert [grid.rows for grid in grids] == [(), (), ()]
    assert grids[1].total is None
