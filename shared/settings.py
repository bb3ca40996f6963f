"""Every DAEGI_ setting, with its type, default and meaning."""

import re
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError
from sentry_sdk.utils import BadDsn, Dsn

from shared.redis_url import RedisUrl

DEVELOPMENT_SECRET = "daegi-development-secret-do-not-deploy"  # noqa: S105 - not a secret: it says so

_MIN_SECRET = 32
_TOO_WEAK = (
    f"in production each has to be your own and have {_MIN_SECRET} characters or more; "
    'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
)


class Settings(BaseSettings):
    """The settings of one process, frozen. Lists are JSON; times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="DAEGI_", frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True
    )

    environment: Literal["development", "production"] = Field(
        "development", description="In production a default or short secret keeps a process from starting"
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis with the lines: redis://, redis+cluster:// or redis+sentinel:// (rediss for TLS)",
    )
    jobs_redis_url: str | None = Field(None, description="Redis with the job queue; by default the one with the lines")
    redis_ca_file: str | None = Field(None, description="CA certificate for rediss://")
    key_prefix: str = Field("", description="Precedes every key (tenancy)")
    min_replicas_ack: int = Field(0, ge=0, le=16, description="Replicas that must have a join before its answer")
    max_events: int = Field(10_000, ge=1, description="From this many events on nobody's first join opens another")
    host: str = Field("127.0.0.1", description="Address the api listens on")
    port: int = Field(8000, ge=1, le=65_535, description="Port the api listens on")
    processes: int = Field(1, ge=1, le=256, description="Api processes on that port")
    drain_seconds: float = Field(
        0, ge=0, le=300, description="On SIGTERM /readyz says no for this long, and all else goes on, before the end"
    )
    token_secrets: list[SecretStr] = Field(
        default_factory=lambda: [SecretStr(DEVELOPMENT_SECRET)],
        min_length=1,
        description="Sign the tokens: the first signs, all verify",
    )
    admin_keys: list[SecretStr] = Field(
        default_factory=list, description="Bearer keys of the admin API; none disables it"
    )
    trusted_user_header: str | None = Field(None, description="Header in which your gateway names the verified user")
    heartbeat_ttl: float = Field(300, gt=0, description="Silence after which someone has left the line")
    line_ttl: float = Field(3600, gt=0, description="How long an empty declared event is kept")
    dedupe_ttl: float = Field(300, gt=0, description="An Idempotency-Key is good for this long, at most twice as long")
    pass_ttl: float = Field(30, gt=0, description="Life of a reservation")
    ready_ttl: float = Field(90, gt=0, description="Silence after which someone whose turn it is steps aside")
    call_fresh: float = Field(6, gt=0, description="How long a call holds up the next ones")
    admit_rate: float = Field(50, ge=0, le=1_000_000, description="People let in per second, per event")
    admit_burst: float = Field(500, ge=0, le=10_000_000, description="People let in at once after a quiet time")
    max_batch: int = Field(256, ge=1, le=256, description="Requests in one script call")
    max_pending: int = Field(8000, ge=1, description="Requests that may wait to be served in one process")
    joins_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Joins a minute from one address (an IPv6 /64), in each process; 0 is any number",
    )
    trusted_address_header: str | None = Field(
        None,
        description="Header in which your proxy names the client's address (of a list the last counts); "
        "without one joins are counted by the connection's peer, which behind a proxy is everybody",
    )
    open_events: bool = Field(True, description="A first join creates an event; false: events must be declared")
    cors_origins: list[str] = Field(default_factory=list, description='Origins whose pages may call the api, or ["*"]')
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged")
    sentry_dsn: SecretStr | None = Field(None, description="Where unexpected errors are reported")

    @field_validator("redis_url", "jobs_redis_url")
    @classmethod
    def _check_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if not url and info.field_name == "jobs_redis_url":
            return None
        kind = RedisUrl.parse(url or "").kind
        if info.field_name == "jobs_redis_url" and kind != "server":
            raise ValueError("arq needs one server for its queue: redis://host:6379/0 or rediss://host:6379/0")
        return url

    @field_validator("redis_ca_file")
    @classmethod
    def _check_ca_file(cls, path: str | None) -> str | None:
        if path and not Path(path).is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @field_validator("sentry_dsn")
    @classmethod
    def _check_dsn(cls, dsn: SecretStr | None) -> SecretStr | None:
        if dsn and dsn.get_secret_value():
            try:
                Dsn(dsn.get_secret_value())
            except BadDsn as error:
                raise ValueError(str(error)) from error
        return dsn

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for name, secrets in (("DAEGI_TOKEN_SECRETS", self.token_secrets), ("DAEGI_ADMIN_KEYS", self.admin_keys)):
            values = [secret.get_secret_value() for secret in secrets]
            if not all(values):
                problems.append(f"{name}: one of them is empty")
            elif self.environment == "production" and not all(map(_is_strong, values)):
                problems.append(f"{name}: {_TOO_WEAK}")
        if not self.jobs_redis_url and RedisUrl.parse(self.redis_url).kind != "server":
            problems.append("DAEGI_JOBS_REDIS_URL: the job queue needs a Redis of its own, arq knows no cluster")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @cached_property
    def jobs_url(self) -> str:
        """Where the job queue lives."""
        return self.jobs_redis_url or self.redis_url

    @cached_property
    def sweep_seconds(self) -> int:
        """Time between two sweeps: 5 s, less where a short heartbeat life (a test's) asks for it."""
        return max(1, min(5, int(self.heartbeat_ttl / 30)))

    def warnings(self) -> list[str]:
        """What an operator should know about these settings, a sentence each."""
        found = []
        if any(secret.get_secret_value() == DEVELOPMENT_SECRET for secret in self.token_secrets):
            found.append("DAEGI_TOKEN_SECRETS is not set: tokens are signed with the public development secret")
        if self.heartbeat_ttl < 180:
            found.append("DAEGI_HEARTBEAT_TTL under 180 s is for tests: people lose their place too easily")
        if self.ready_ttl > 0.3 * self.heartbeat_ttl:
            found.append("DAEGI_READY_TTL over 0.3 of DAEGI_HEARTBEAT_TTL is for tests")
        if self.pass_ttl > self.heartbeat_ttl:
            found.append("DAEGI_PASS_TTL is cut to DAEGI_HEARTBEAT_TTL")
        return found


def _is_strong(secret: str) -> bool:
    return len(secret) >= _MIN_SECRET and secret != DEVELOPMENT_SECRET


class SettingsError(Exception):
    """A setting is wrong; one readable line for each that is."""


def load_settings() -> Settings:
    """The settings of the environment; raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"][:1]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"DAEGI_{name}: {message}" if name else message)
        raise SettingsError("\n".join(lines)) from error
    except UnreadableError as error:
        # It names the field and keeps the value, which may be a secret, to itself.
        found = re.search(r'field "(\w+)"', str(error))
        name = found[1].upper() if found else "*"
        raise SettingsError(f'DAEGI_{name}: a JSON list is needed, like ["one", "two"]') from error
