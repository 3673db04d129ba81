"""The settings of one process, read once from JOULEKEEPER_* environment variables.

Knows nothing of Ray: the environment set before `ray start` reaches every worker. Settings of one room live
beside their owner; this is only where a variable becomes a value.

    JOULEKEEPER_ZONE=FRA joulekeeper report --by model
"""

import functools
import os
import re
import socket
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.carbon.grid_settings import GridSettings
    from app.models.repository import RepositorySettings

Value = TypeVar("Value")


def _default_state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "joulekeeper"


def _whole(given: object) -> object:
    """A number as an environment variable has it: a choice of numbers takes no text."""
    return int(given) if isinstance(given, str) and given.isdecimal() else given


class Settings(BaseSettings):
    """Everything the environment decides. Frozen; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="JOULEKEEPER_", frozen=True, env_ignore_empty=True, extra="forbid", validate_default=True
    )

    state_dir: Path = Field(default_factory=_default_state_dir)
    """Directory of rings, journals, the ledger's SQLite file and the model repository. Must outlive Ray sessions."""
    machine: str = ""
    """Identity of the host in the books. Empty: /etc/machine-id."""
    node: str = Field(default_factory=socket.gethostname)
    """Name of this node for people, in reports."""
    zone: str = "world"
    """Grid zone of the cluster: an ISO country code or a cloud region such as `aws:eu-west-1`."""
    pue: float = Field(default=1.0, ge=1.0, le=5.0)
    """Power usage effectiveness of the building: total over IT energy."""
    wue: float | None = Field(default=None, ge=0, le=100)
    """Water usage effectiveness of the building: litres for each kWh of IT energy. Empty: that of the cloud of the zone
    where the [table](../carbon/coefficients.md) has it, else not known."""
    tariff: str = ""
    """What electricity costs: a price per kWh such as `0.21 EUR`, or a YAML file with prices by hour, day and month,
    [its page](../carbon/footprint.md). Empty: no costs."""
    coefficients: str = ""
    """CSV file whose rows replace or add to the [table of coefficients](../carbon/coefficients.md)."""
    hardware: str = ""
    """What a node is made of, for embodied carbon: parts such as `gpu-server+8*h100` of that table, or kilograms of
    CO2e. Empty: embodied carbon is left out."""
    sensors: Annotated[tuple[str, ...], NoDecode] = ("nvml", "rapl", "cpu_model")
    """Sensor backends to try, comma separated. Host energy is read by the first host backend that opens."""
    sample_hz: float = Field(default=10.0, gt=0, le=1000)
    """Readings per second and device while work runs."""
    idle_sample_hz: float = Field(default=2.0, gt=0, le=1000)
    """Readings per second and device while no process of ours holds a device."""
    flush_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds between two batches from a meter to journal and accountant; five times as long with nobody at work."""
    settle_lag_s: float = Field(default=2.0, ge=0, le=60)
    """Seconds a meter waits before it books an interval, so that work reported late still finds its energy."""
    bucket_s: Annotated[Literal[1, 5, 10, 30, 60], BeforeValidator(_whole)] = 60
    """Seconds of the finest balances in the store, of which each is priced as one."""
    linger_s: float = Field(default=10.0, ge=0)
    """Seconds a meter stays after the last work has left its node."""
    prepared_workers: int = Field(default=1, ge=0, le=16)
    """Worker processes that wait on every node, at most as many as models sleep, so that waking one starts no process.
    Each holds about 200 MB of host memory and no accelerator. 0: none, a cold start takes seconds longer."""
    metering: bool = True
    """Off: no slices, no meters, no receipts; everything else works as before."""
    access: Literal["open", "required"] = "open"
    """`open`: this machine alone is served, and nobody is asked. `required`: every call needs an API key or a token;
    see [access](../serving/access.md)."""
    access_dir: str = ""
    """Directory, on the head, of the keys, the rules of access and the audit log. Empty: `access` below the state
    directory."""
    models: str = ""
    """Root of the model repository: a directory, or a URL such as `s3://bucket/models`. Empty: `models` below the state
    directory."""
    models_cache: str = ""
    """Directory of local copies of models whose repository is not local. Empty: `model-cache` below the state
    directory."""
    models_cache_gib: float = Field(default=50.0, ge=0)
    """GiB that those copies may take; the version opened longest ago goes first."""
    models_recipients: Annotated[tuple[str, ...], NoDecode] = ()
    """age public keys (`age1...`), comma separated. Set, the files of every version that is published are encrypted for
    them."""
    models_key_file: str = ""
    """File with the age secret key that opens encrypted versions; `joulekeeper models keygen` writes one."""
    models_key: SecretStr = SecretStr("")
    """That key itself, where a file cannot be had."""
    places: str = ""
    """YAML file with what is known of zones beyond the table: source, PUE, latency, [its page](../decisions/places.md).
    Empty: the yearly figures of the zones that nodes are labelled with."""
    batch_requests: int = Field(default=4, ge=1, le=256)
    """Requests of [batches](../decisions/batches.md) that are asked at a time, of all of them together."""
    batch_days: float = Field(default=30.0, gt=0)
    """Days for which batches that are over, their results and the files that clients sent are kept."""
    database_url: SecretStr = SecretStr("")
    """SQLAlchemy URL of the accountant's store; its password is never shown. Empty: `books.sqlite` beside the rings."""
    keep_batches_days: float = Field(default=30.0, ge=1)
    """Days the store keeps batches with their raw readings. Older ones are proven and replaced by seals, whole days at
    once. A batch a second of a node with eight GPUs at 10 Hz needs about 350 MB a day."""
    keep_minutes_days: float = Field(default=7.0, ge=1)
    """Days the store keeps balances by the minute; older ones are joined into hours."""
    keep_hours_days: float = Field(default=400.0, ge=1)
    """Days the store keeps balances by the hour; older ones are joined into days, which stay for ever."""
    ring_records: int = Field(default=65_536, ge=64, le=16_777_216)
    """Slices a process keeps before the oldest receipt is overwritten; 64 bytes each."""
    receipt_hours: float = Field(default=24.0, gt=0)
    """Age at which the receipts of a process that has ended are deleted."""
    edge: str = ""
    """YAML file of `joulekeeper edge`, [its page](../serving/edge.md). Empty: the edge's defaults, on loopback."""
    worker_group: str = ""
    """On Kubernetes: RAYCLUSTER/GROUP or RAYCLUSTER/GROUP/WORKERS, the worker group of KubeRay that jobs with a plan
    size as they go, and the workers that one replica has room for; see [optimise](../decisions/optimise.md). Empty:
    none."""
    intensity: Annotated[tuple[str, ...], NoDecode] = ()
    """Where the grid's average intensity comes from, PROVIDER[:ZONE] in order of fallback, comma separated, such as
    `electricitymaps:FR,entsoe:10YFR-RTE------C`; see [providers](../carbon/providers.md). Empty: the yearly table
    alone, which also comes after the last of them."""
    intensity_marginal: Annotated[tuple[str, ...], NoDecode] = ()
    """The same for the marginal intensity, such as `watttime:CAISO_NORTH`. For decisions; never added to reports."""
    intensity_market: Annotated[tuple[str, ...], NoDecode] = ()
    """The same for the market-based intensity, what contracts attribute: `constant:12.5` or `file:/srv/contracts.csv`.
    Reported beside the location-based figure, never summed."""
    intensity_refresh_s: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds between two looks at the newest data of a source. The forecast is looked at every 4 times as long, the
    last ten days once a day."""
    intensity_stale_hours: float = Field(default=6.0, ge=0, le=168)
    """Hours for which the last known intensity is carried on, graded `stale`, where neither data nor a forecast came;
    then the yearly figure holds."""
    intensity_requests_per_hour: int = Field(default=0, ge=0)
    """Requests that a provider may be sent in an hour, by all processes of this host. 0: each provider's own quota."""
    intensity_electricitymaps_url: str = ""
    """Address of Electricity Maps, for a proxy or a stand-in that speaks its API. Empty: its own."""
    intensity_electricitymaps_key: SecretStr = SecretStr("")
    """Its `auth-token`."""
    intensity_watttime_url: str = ""
    """Address of WattTime. Empty: its own."""
    intensity_watttime_user: str = ""
    """Name of the account there."""
    intensity_watttime_password: SecretStr = SecretStr("")
    """Password of that account."""
    intensity_neso_url: str = ""
    """Address of NESO's Carbon Intensity API. Empty: its own. It needs no key."""
    intensity_entsoe_url: str = ""
    """Address of ENTSO-E's Transparency Platform. Empty: its own."""
    intensity_entsoe_key: SecretStr = SecretStr("")
    """Its security token."""
    intensity_eia_url: str = ""
    """Address of the API of the U.S. Energy Information Administration. Empty: its own."""
    intensity_eia_key: SecretStr = SecretStr("")
    """Its API key."""

    @field_validator(
        "sensors", "models_recipients", "intensity", "intensity_marginal", "intensity_market", mode="before"
    )
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value == "world":
            return value
        from app.carbon.zones import find_zone

        return _checked(lambda: find_zone(value).id)

    @field_validator("sensors")
    @classmethod
    def _known_sensors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("nvml", "rapl", "cpu_model"):
            return value
        from app.sensors.discovery import sensor_settings

        return _checked(lambda: sensor_settings(backends=value).backends)

    @field_validator("tariff")
    @classmethod
    def _known_tariff(cls, value: str) -> str:
        if value:
            from app.carbon.tariff import tariff_of

            _checked(lambda: tariff_of(value))
        return value

    @field_validator("coefficients")
    @classmethod
    def _known_coefficients(cls, value: str) -> str:
        if value:
            from app.carbon.coefficients import coefficients

            _checked(lambda: coefficients(value))
        return value

    @model_validator(mode="after")
    def _hardware_of_known_parts(self) -> "Settings":
        if self.hardware:
            from app.carbon.coefficients import coefficients
            from app.carbon.embodied import hardware_of

            try:
                hardware_of(coefficients(self.coefficients), self.hardware)
            except InvalidInput as error:
                raise ValueError(f"JOULEKEEPER_HARDWARE: {error}") from error
        return self

    @model_validator(mode="after")
    def _sources_that_can_be_asked(self) -> "Settings":
        if self.intensity or self.intensity_marginal or self.intensity_market:
            _checked(lambda: self.grid)
        return self

    @property
    def grid(self) -> "GridSettings":
        """Where the intensity of the grid comes from. Raises InvalidInput naming every fault."""
        from app.carbon.grid_settings import grid_settings
        from app.carbon.providers.registry import PROVIDERS

        return grid_settings(
            zone=self.zone,
            average=self.intensity,
            marginal=self.intensity_marginal,
            market=self.intensity_market,
            access={name: self._access_to(name) for name in PROVIDERS},
            cache=self.state_dir / "intensity.sqlite",
            refresh_s=self.intensity_refresh_s,
            stale_hours=self.intensity_stale_hours,
            requests_per_hour=self.intensity_requests_per_hour,
            coefficients=self.coefficients,
        )

    def _access_to(self, provider: str) -> dict[str, object]:
        """Address and keys of one provider, as far as it has such settings."""
        parts = (("url", "url"), ("user", "user"), ("key", "key"), ("password", "key"))
        found = ((field, getattr(self, f"intensity_{provider}_{end}", None)) for end, field in parts)
        return {field: value for field, value in found if value is not None}

    @property
    def access_directory(self) -> Path:
        """Where keys and rules of access are, with its default resolved."""
        return Path(self.access_dir) if self.access_dir else self.state_dir / "access"

    @property
    def models_root(self) -> str:
        """Root of the model repository with its default resolved."""
        return self.models or str(self.state_dir / "models")

    @property
    def repository(self) -> "RepositorySettings":
        """The model repository with its keys read. Raises InvalidInput for a key file that cannot be read."""
        from app.models.repository import GIB, RepositorySettings

        return RepositorySettings(
            self.models_root,
            self.models_cache or str(self.state_dir / "model-cache"),
            round(self.models_cache_gib * GIB),
            self.models_recipients,
            self.models_key.get_secret_value() or (_secret_key(self.models_key_file) if self.models_key_file else ""),
        )

    @property
    def store_url(self) -> str:
        """URL of the accountant's store with its default resolved."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.state_dir / 'books.sqlite'}"


def _secret_key(path: str) -> str:
    """The age secret key in a file as `age-keygen` writes it: comments, then the key."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"JOULEKEEPER_MODELS_KEY_FILE: {path} cannot be read: {error}") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(keys) != 1:
        raise InvalidInput(f"JOULEKEEPER_MODELS_KEY_FILE: {path} must hold one key, it has {len(keys)}")
    return keys[0]


def _checked(ask: Callable[[], Value]) -> Value:
    """What `ask` returns; what it refuses becomes a fault of the field."""
    try:
        return ask()
    except InvalidInput as error:
        raise ValueError(str(error)) from error


_OTHER_VARIABLES = {"JOULEKEEPER_UP", "JOULEKEEPER_DEBUG"}
"""Ours too, but no settings: the mark that scripts/up puts on its processes, and tracebacks for the command."""


_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")
"""What Kubernetes puts into every pod for a service whose name begins with ours."""


def _unknown_variables() -> Iterator[str]:
    """A sentence for every JOULEKEEPER_* variable that means nothing: a misspelt setting must not pass in silence."""
    known = {f"JOULEKEEPER_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("JOULEKEEPER_") and name not in known and not _SERVICE_LINK.search(name):
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it; all are in docs/reference/configuration.md"
            yield f"{name} is unknown: {hint}"


def _sentence(fault: ErrorDetails) -> str:
    told = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:  # of several variables together: it names them, and what was given may hold keys
        return told
    return f"JOULEKEEPER_{'.'.join(map(str, fault['loc'])).upper()}: {told}, got {fault['input']!r}"


@functools.cache
def settings() -> Settings:
    """The settings of this process. Raises InvalidInput naming every variable at fault."""
    faults = list(_unknown_variables())
    try:
        found = Settings()
    except ValidationError as error:
        faults += map(_sentence, error.errors())
    if faults:
        raise InvalidInput(f"settings from the environment: {'; '.join(faults)}")
    return found
