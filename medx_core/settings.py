"""Every setting of MedX, read in one place.

Settings come from `MEDX_*` variables, and from `DATABASE_URL` and `REDIS_URL`; `deploy/env.example` lists them all.
"""

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from medx_core.errors import SettingsFault

ROOT_PATH = re.compile(r"(?!/(?:app|login|logout|link|assets|jobs|evaluations)(?:/|$))(?:/[A-Za-z0-9._~-]+)+")
CHECKOUT = Path(__file__).resolve().parent.parent


class PatientDataRule(StrEnum):
    """What is done with what may identify a patient, before it is stored."""

    MASK = "mask"
    WARN = "warn"
    REFUSE = "refuse"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _root_path(text: str) -> str:
    """Take a path such as /medx, without a slash at its end; MedX's own pages may not be taken for it."""
    path = text.rstrip("/")
    if path and not ROOT_PATH.fullmatch(path):
        raise ValueError("write a path such as /medx, and no page of MedX itself (/app, /login)")
    return path


def _addresses(text: str) -> str:
    """Take addresses and networks alone: uvicorn would take anything else for a name that no peer ever has."""
    for part in _listed(text):
        try:
            ipaddress.ip_network(part)
        except ValueError:
            raise ValueError(f"{part} is neither an address nor a network such as 10.0.0.0/24") from None
    return ",".join(_listed(text))


def _host_names(text: str) -> str:
    for name in _listed(text):
        if "*" in name.removeprefix("*.") or "/" in name or ":" in name:
            raise ValueError(f"{name} is no host name; write names without a port, or *.example.org")
    return ",".join(_listed(text))


class Settings(BaseSettings):
    """The settings of one process. Seconds, rows, bytes and tokens are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="MEDX_", frozen=True, extra="ignore", protected_namespaces=()
    )

    home: Path = CHECKOUT / "var"
    database_url: str = Field("", validation_alias=AliasChoices("DATABASE_URL", "MEDX_DATABASE_URL"))
    redis_url: str = Field("", validation_alias=AliasChoices("REDIS_URL", "MEDX_REDIS_URL"))

    model: str = "smollm2-135m"
    router_encoder: str = "minilm-l6-v2"
    device: str = "auto"
    dtype: str = "auto"
    threads: int = Field(0, ge=0)

    max_batch_rows: int = Field(32, ge=1)
    max_wait_seconds: float = Field(0.02, ge=0)
    patient_data: PatientDataRule = PatientDataRule.MASK
    max_new_tokens: int = Field(160, ge=1)
    max_question_characters: int = Field(4_000, ge=1)
    uncertain_margin: float = Field(0.05, ge=0, lt=0.5)
    gated_text: bool = False
    max_dose: float = Field(1.0, gt=0)
    route_threshold: float = Field(0.0, ge=0, le=1)

    max_file_rows: int = Field(100_000, ge=1)
    max_file_bytes: int = Field(50_000_000, ge=1)
    max_cell_characters: int = Field(100_000, ge=1)
    upload_bytes_per_person: int = Field(250_000_000, ge=1)
    upload_bytes_in_all: int = Field(2_000_000_000, ge=1)
    upload_hours: float = Field(24.0, gt=0)

    worker_threads: int = Field(4, ge=1)
    interactive_threads: int = Field(8, ge=1)
    stall_seconds: float = Field(300.0, gt=0)
    chunk_rows: int = Field(32, ge=1)
    lease_seconds: float = Field(30.0, gt=0)
    max_attempts: int = Field(3, ge=1)
    publish_every_seconds: float = Field(0.05, gt=0)
    reconcile_every_seconds: float = Field(2.0, gt=0)
    resend_after_seconds: float = Field(5.0, gt=0)
    visibility_seconds: int = Field(3600, ge=1)

    host: str = "127.0.0.1"
    port: int = Field(7860, ge=0, le=65_535)
    public_url: str = ""
    root_path: Annotated[str, AfterValidator(_root_path)] = ""
    trusted_proxies: Annotated[str, AfterValidator(_addresses)] = ""
    allowed_hosts: Annotated[str, AfterValidator(_host_names)] = ""
    session_hours: float = Field(12.0, gt=0)
    session_idle_minutes: float = Field(120.0, gt=0)
    link_hours: float = Field(24.0, gt=0)
    session_secret: str = Field("", repr=False)
    sign_in_attempts_a_minute: int = Field(10, ge=1)
    sign_in_attempts_a_minute_per_address: int = Field(100, ge=1)
    questions_a_minute: int = Field(30, ge=1)
    batches_an_hour: int = Field(60, ge=1)
    worker_seen_seconds: float = Field(15.0, gt=0)
    metrics_open: bool = False

    @property
    def database(self) -> str:
        """The database URL in use: `DATABASE_URL`, else an SQLite file under `home`."""
        return self.database_url or f"sqlite:///{self.home / 'medx.sqlite3'}"

    def link(self, key: str) -> str:
        """Return the address of a one-time link, as people outside reach it."""
        begin = self.public_url.rstrip("/") or f"http://{self.host}:{self.port}{self.root_path}"
        return f"{begin}/link?key={key}"

    @property
    def models_folder(self) -> Path:
        """Where converted language models lie, one folder each."""
        return self.home / "models"

    @property
    def vectors_folder(self) -> Path:
        """Where steering-vector files lie."""
        return self.home / "vectors"

    @property
    def evaluations_folder(self) -> Path:
        """Where files lie that an evaluation was asked for on a page."""
        return self.home / "evaluations"

    @property
    def anchors_folder(self) -> Path:
        """Where the file lies that says where the audit log ended."""
        return self.home / "audit"

    @property
    def routers_folder(self) -> Path:
        """Where trained router heads lie."""
        return self.home / "routers"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the process's settings, read from the environment at first use.

    Raises:
        SettingsFault: a variable holds a value that cannot be used; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsFault(f"The setting {name} cannot be used: {first['msg']}.") from error
