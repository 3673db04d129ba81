"""A worker of a Ray Train run: what binds it to the others, to the run's storage and to who asks something of it.

Knows nothing of models, data or energy. The newest checkpoint is what lies in the storage, complete and with the right
digests, whether Ray Train came to hear of it or not. The first worker has a thread beside the training: it hears
whether the run is to stop or a node is about to be taken away, and tells how far the run came.

Written against Ray 2.60, `ray.train.v2._internal.execution.context`.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.training import board
from app.training.attempts import Attempt, Seen
from app.training.fabric import Fabric, gather
from app.training.manifest import faults_of, read_manifest
from app.training.notices import ASKED_FOR, OF_THIS_WORKER
from app.training.position import Position
from app.training.run_files import RunFiles, checkpoint_name
from app.training.state import TrainState

_LOOK_EVERY_S = 0.25
_FIRST_STEP_WITHIN_S = 0.05
_LAST_SAVE_S = 5.0
"""Before a node is taken away: then a second checkpoint is asked for, the first was left when the notice came."""
_log = logging.getLogger(__name__)


class RayFabric:
    """`Fabric` of a worker of a ray.train.torch.TorchTrainer. To be closed when training has ended."""

    notices = OF_THIS_WORKER

    def __init__(self) -> None:
        from ray import train
        from ray.train.torch import get_device

        _quieten_ray()
        self._begun_s = time.time()
        context = train.get_context()
        self.rank: int = context.get_world_rank()
        self.world: int = context.get_world_size()
        self.device = get_device()
        self._run: str = context.get_experiment_name()
        storage = context.get_storage()
        self._files = RunFiles(storage.storage_filesystem, storage.experiment_fs_path)
        self._attempt = 0
        self._liaison: Liaison | None = None

    def gather(self, value: Any) -> list[Any]:
        return gather(self.world, value)

    def report(self, metrics: dict[str, Any], directory: Path | None) -> None:
        from ray import train

        if directory is None or not any(directory.iterdir()):
            train.report(metrics)
            return
        asked, hold_s = self.notices.save_reason, self.notices.hold_s
        # The first worker's name counts for all.
        name = self._name_of(directory) if self.rank == 0 else None
        checkpoint = train.Checkpoint.from_directory(directory)
        train.report({**metrics, ASKED_FOR: asked}, checkpoint=checkpoint, checkpoint_dir_name=name)
        if self.rank == 0:
            time.sleep(hold_s)  # the others wait for this one at the next step

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        with newest_sound(self._files, self) as directory:
            yield directory
        if self.rank == 0:
            self._files.sweep(_train_context().train_run_context.run_config.checkpoint_config.num_to_keep)

    def next_attempt(self) -> int:
        self._attempt = int(self.gather(self._files.claim_attempt() if self.rank == 0 else 0)[0])
        if self.rank == 0:
            self._liaison = Liaison(self._run, self._attempt, self._files)
            self._liaison.start()
        return self._attempt

    def follow(self, state: TrainState, epoch_steps: int) -> None:
        if self._liaison is not None:
            self._liaison.follow(state, Attempt(world=self.world, begun_s=self._begun_s, epoch_steps=epoch_steps))

    def close(self) -> None:
        """Training has ended."""
        if self._liaison is not None:
            self._liaison.close()

    def _name_of(self, directory: Path) -> str:
        facts = read_manifest(directory).facts
        return checkpoint_name(self._attempt, Position(facts["epoch"], facts["step"]))


@contextmanager
def newest_sound(files: RunFiles, fabric: Fabric) -> Iterator[Path | None]:
    """A local copy of the newest checkpoint whose digests are right, or None. All workers must call it.

    Each worker checks a part of the files; what one finds wrong, all pass over.
    """
    from ray.train import Checkpoint

    names = fabric.gather(files.checkpoints() if fabric.rank == 0 else [])[0]
    with contextlib.ExitStack() as stack:
        for name in names:
            checkpoint = Checkpoint(files.path(name), filesystem=files.files)
            directory = Path(stack.enter_context(checkpoint.as_directory()))
            manifest = read_manifest(directory)
            mine = sorted(manifest.files)[fabric.rank :: fabric.world]
            faults = [fault for part in fabric.gather(faults_of(directory, manifest, mine)) for fault in part]
            if not faults:
                yield directory
                return
            if fabric.rank == 0:
                _log.warning("%s is passed over: %s", name, "; ".join(faults[:3]))
        yield None


class Liaison:
    """What is asked of the run, and what it tells of itself: a thread of the first worker, once started."""

    def __init__(self, run: str, attempt: int, files: RunFiles) -> None:
        self._run, self._attempt, self._files = run, attempt, files
        told = board.progress_of(run)
        self._before = Seen.model_validate_json(told) if told else None
        self._state: TrainState | None = None
        self._record: Attempt | None = None
        self._warned_of: Any = None
        self._warned_again = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="joulekeeper-liaison", daemon=True)

    def start(self) -> None:
        """Listen and tell from now on."""
        self._thread.start()

    def follow(self, state: TrainState, record: Attempt) -> None:
        """The state is restored, training begins."""
        came_from = {"epoch": state.position.epoch, "step": state.position.step, "before": self._before}
        self._record = record.model_copy(update=came_from)
        self._files.write_attempt(self._attempt, self._record.model_dump_json())
        self._state = state

    def close(self) -> None:
        """Training has ended; the thread, which was started, ends too."""
        self._ended.set()
        self._thread.join(timeout=10)
        with _told_of_trouble():
            last = self.tell()
            if self._record is not None:
                self._record = self._record.model_copy(update={"last": last})
                self._files.write_attempt(self._attempt, self._record.model_dump_json())

    def _watch(self) -> None:
        while not self._ended.wait(self._pause_s()):
            with _told_of_trouble():
                self.listen()
                self.tell()

    def _pause_s(self) -> float:
        waits = self._record is not None and self._record.first_step_s is None
        return _FIRST_STEP_WITHIN_S if waits else _LOOK_EVERY_S

    def listen(self) -> None:
        """Pass on what is asked of this run."""
        reason = board.reason_to_stop(self._run)
        if reason:
            OF_THIS_WORKER.ask_stop(reason)
        info = _train_context().preemption_context.preemption_info
        if info is None:
            return
        if info != self._warned_of:
            self._warned_of, self._warned_again = info, False
            OF_THIS_WORKER.ask_save("a node is about to be taken away")
        elif not self._warned_again and info.deadline_ms and time.time() > info.deadline_ms / 1e3 - _LAST_SAVE_S:
            self._warned_again = True
            OF_THIS_WORKER.ask_save("a node is taken away")

    def tell(self) -> Seen | None:
        """Say how far the run is."""
        state, record = self._state, self._record
        if state is None or record is None:
            return None
        position, now_s = state.position, time.time()
        if record.first_step_s is None and position != Position(record.epoch, record.step):
            self._record = record.model_copy(update={"first_step_s": now_s})
            self._files.write_attempt(self._attempt, self._record.model_dump_json())
        seen = Seen(attempt=self._attempt, epoch=position.epoch, step=position.step, at_s=now_s)
        board.tell_progress(self._run, seen.model_dump_json())
        return seen


@contextmanager
def _told_of_trouble() -> Iterator[None]:
    """A run goes on without being heard or seen."""
    try:
        yield
    except Exception as error:
        _log.warning("this run may not hear that it is to stop, or not be seen: %s", error)


def _train_context() -> Any:
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context()


def _quieten_ray() -> None:
    """Ray 2.60 announces every report() on a logger named after its file, which LoggingConfig does not reach."""
    module = sys.modules.get("ray.train.v2._internal.execution.context")
    if module is not None and module.__file__:
        logging.getLogger(module.__file__).setLevel(logging.WARNING)
