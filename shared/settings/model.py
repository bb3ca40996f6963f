"""Every DAEGI_ setting, with its type, default and meaning; ``python -m shared.settings`` prints them."""

import re
import ssl
from functools import cached_property
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError
from sentry_sdk.utils import BadDsn, Dsn

from shared.event_id import EVENT_ID
from shared.redaction import mask_url
from shared.settings.redis_url import RedisUrl
from shared.tokens.jwt import read_keys

DEVELOPMENT_SECRET = "daegi-development-secret-do-not-deploy"  # noqa: S105 - not a secret: it says so

_MIN_SECRET = 32
_TOO_WEAK = (
    f"in production each has to be your own and have {_MIN_SECRET} characters or more; "
    'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
)

_MAKE_A_KEY = (
    "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | "
    'python -c "import json, sys; print(json.dumps([sys.stdin.read()]))"'
)

_DAY, _YEAR = 86_400, 31_536_000

_Seconds = Annotated[float, Field(ge=0.001, le=_DAY)]
_EventId = Annotated[str, Field(pattern=f"^{EVENT_ID.pattern}$")]
_HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")]

_VISIBLE = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#]+", re.IGNORECASE | re.ASCII)


class SecretUrl(SecretStr):
    """A URL that may hold a password; only the password is hidden when it is shown."""

    def _display(self) -> str:
        return mask_url(self.get_secret_value())


class Settings(BaseSettings):
    """The settings of one process, frozen. Lists are JSON; times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="DAEGI_", frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True
    )

    environment: Literal["development", "production"] = Field(
        "development", description="In production, a process refuses to start with a default or short secret"
    )
    redis_url: SecretUrl = Field(
        SecretUrl("redis://127.0.0.1:6379/0"),
        description="Redis that holds the lines: redis://, redis+cluster:// or redis+sentinel:// (rediss for TLS)",
    )
    jobs_redis_url: SecretUrl | None = Field(
        None, description="Redis that holds the job queue; by default the one with the lines"
    )
    redis_ca_file: str | None = Field(None, description="CA certificate for rediss://")
    key_prefix: str = Field("", pattern=r"^[^\s{}]*$", description="Prefix of every key (tenancy)")
    min_replicas_ack: int = Field(0, ge=0, le=16, description="Replicas that must have a join before it is answered")
    max_events: int = Field(
        10_000, ge=1, description="Number of events from which a first join no longer creates another"
    )
    host: str = Field("127.0.0.1", description="IP address the api listens on")
    port: int = Field(8000, ge=1, le=65_535, description="Port the api listens on")
    processes: int = Field(1, ge=1, le=256, description="Api processes on that port")
    drain_seconds: float = Field(
        0,
        ge=0,
        le=300,
        description="Seconds after SIGTERM in which /readyz answers 503 and everything else is still served",
    )
    worker_metrics_port: int = Field(
        9464, ge=0, le=65_535, description="Port on DAEGI_HOST where a worker answers /metrics; 0 turns it off"
    )
    metrics_events: list[_EventId] = Field(
        default_factory=list, description="Events with metrics of their own; by default the 20 longest lines"
    )
    metrics_dir: DirectoryPath | None = Field(
        None,
        description="Directory in which the api processes of one port add up their metrics; python -m api creates one",
    )
    token_secrets: list[SecretStr] = Field(
        default_factory=lambda: [SecretStr(DEVELOPMENT_SECRET)],
        min_length=1,
        description="Secrets of the tokens: the first signs, all verify",
    )
    pass_keys: list[SecretStr] = Field(
        default_factory=list,
        description="EC private keys (P-256, PEM) of the passes for sites without a gate, which get none without any: "
        "the first signs, all are published",
    )
    public_url: str | None = Field(
        None, description="URL by which people know this waiting room: the issuer of those passes"
    )
    admin_keys: list[SecretStr] = Field(
        default_factory=list, description="Bearer keys of the admin API, which is off without any"
    )
    trusted_user_header: _HeaderName | None = Field(
        None, description="Header in which your gateway names the verified user"
    )
    heartbeat_ttl: _Seconds = Field(300, description="Seconds of silence after which a person is expired")
    line_ttl: float = Field(3600, ge=0.001, le=_YEAR, description="Seconds for which an empty declared event is kept")
    dedupe_ttl: _Seconds = Field(
        300, description="Seconds for which an Idempotency-Key is remembered at least; at most twice as long"
    )
    pass_ttl: _Seconds = Field(30, description="Seconds for which a reservation is good")
    ready_ttl: _Seconds = Field(90, description="Seconds of silence after which a person whose turn comes steps aside")
    call_fresh: _Seconds = Field(
        4, description="Seconds for which a called person who does not enter holds up the next calls, at most"
    )
    admit_rate: float = Field(50, ge=0, le=1_000_000, description="People let in per second, per event")
    admit_burst: float = Field(500, ge=0, le=10_000_000, description="People let in at once after a quiet time")
    max_batch: int = Field(256, ge=1, le=256, description="Most requests in one script call")
    max_pending: int = Field(8000, ge=1, description="Requests that may wait to be served in one process")
    listen_seconds: float = Field(
        600,
        ge=1,
        le=86_400,
        description="Seconds after which a stream of live updates ends, to be opened again: clients that vanished are "
        "noticed then, and others may come to another process",
    )
    max_listeners: int = Field(
        20_000,
        ge=0,
        description="Streams of live updates in one process, and at most 3/4 of the files that it may open; "
        "the excess gets 503, and polls",
    )
    fail_open_seconds: float = Field(
        300,
        ge=0,
        le=_DAY,
        description='Seconds of an outage for which a gate with on_outage "open" lets people through',
    )
    cookie_secure: bool | None = Field(
        None, description="Whether visitors' cookies are Secure; by default on requests that came over https"
    )
    cookie_domain: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]*$", description="Domain of visitors' cookies; by default the very host"
    )
    connector_secret: SecretStr | None = Field(
        None, description="Secret that the sites' Queue-it connectors check our tokens with; without it they are off"
    )
    connector_customer: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]*$", description="Customer id that the sites' Queue-it connectors name"
    )
    connector_bind_ip: bool = Field(
        False,
        description="Whether a connector's token is good for the visitor's address alone, as "
        "DAEGI_TRUSTED_ADDRESS_HEADER names it",
    )
    joins_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Joins per minute from one address (an IPv6 /64) in each process; 0: no limit",
    )
    trusted_address_header: _HeaderName | None = Field(
        None,
        description="Header in which your proxy names the client's address (in a list, the last counts); without it, "
        "joins are counted by the connection's peer, which behind a proxy is the same for everybody",
    )
    open_events: bool = Field(
        True, description="Whether a first join creates an event; if not, events must be declared"
    )
    cors_origins: list[str] = Field(default_factory=list, description='Origins whose pages may call the api, or ["*"]')
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Form of the logs; auto: text in a terminal outside production, otherwise JSON"
    )
    sentry_dsn: SecretStr | None = Field(None, description="Sentry project that unexpected errors are reported to")

    @field_validator("redis_url", "jobs_redis_url")
    @classmethod
    def _check_url(cls, url: SecretUrl | None, info: ValidationInfo) -> SecretUrl | None:
        if not url and info.field_name == "jobs_redis_url":
            return None
        kind = RedisUrl.parse(url.get_secret_value() if url else "").kind
        if info.field_name == "jobs_redis_url" and kind != "server":
            raise ValueError("arq needs one server for its queue: redis://host:6379/0 or rediss://host:6379/0")
        return url

    @field_validator("redis_ca_file")
    @classmethod
    def _check_ca_file(cls, path: str | None) -> str | None:
        if path:
            try:
                ssl.create_default_context(cafile=path)
            except ssl.SSLError as error:
                raise ValueError(f"{path} holds no certificate in PEM") from error
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error.strerror}") from error
        return path

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        try:
            ip_address(host)
        except ValueError as error:
            raise ValueError("an IP address is needed, like 127.0.0.1, or 0.0.0.0 for all of them") from error
        return host

    @field_validator("metrics_dir", mode="before")
    @classmethod
    def _check_metrics_dir(cls, path: object) -> object:
        return path or None

    @field_validator("pass_keys")
    @classmethod
    def _check_pass_keys(cls, keys: list[SecretStr]) -> list[SecretStr]:
        try:
            read_keys([key.get_secret_value() for key in keys])
        except ValueError as error:
            raise ValueError(f"{error}; make a list with one: {_MAKE_A_KEY}") from None
        return keys

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str | None) -> str | None:
        if url and not _is_public_url(url):
            raise ValueError("a URL like https://queue.example is needed, without user, query and fragment")
        return url or None

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f'{origin!r} is no origin like https://shop.example, without a path, or "*"')
        return origins

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
        if self.pass_keys and not self.public_url:
            problems.append("DAEGI_PUBLIC_URL: DAEGI_PASS_KEYS need it, for passes name their issuer")
        if bool(self.connector_secret and self.connector_secret.get_secret_value()) != bool(self.connector_customer):
            problems.append("DAEGI_CONNECTOR_SECRET and DAEGI_CONNECTOR_CUSTOMER: both are needed, or neither")
        elif self.connector and self.environment == "production" and not _is_strong(self.connector[1]):
            problems.append(f"DAEGI_CONNECTOR_SECRET: {_TOO_WEAK}")
        if not self.jobs_redis_url and RedisUrl.parse(self.lines_url).kind != "server":
            problems.append("DAEGI_JOBS_REDIS_URL: the job queue needs a single Redis server of its own")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def lines_url(self) -> str:
        """The URL of the Redis with the lines, password included."""
        return self.redis_url.get_secret_value()

    @property
    def jobs_url(self) -> str:
        """The URL of the Redis with the job queue, password included."""
        return (self.jobs_redis_url or self.redis_url).get_secret_value()

    @property
    def connector(self) -> tuple[str, str] | None:
        """Customer id and secret of the sites with a Queue-it connector; None if there are none."""
        if not self.connector_customer or self.connector_secret is None:
            return None
        return self.connector_customer, self.connector_secret.get_secret_value()

    @cached_property
    def sweep_seconds(self) -> int:
        """Time between two sweeps: 5 s, or less if the heartbeat TTL is as short as in tests."""
        return max(1, min(5, int(self.heartbeat_ttl / 30)))

    def warnings(self) -> list[str]:
        """Warnings about these settings for the operator, one sentence each."""
        found = []
        if any(secret.get_secret_value() == DEVELOPMENT_SECRET for secret in self.token_secrets):
            found.append("DAEGI_TOKEN_SECRETS is not set: tokens are signed with the public development secret")
        if self.connector and self.connector_bind_ip and not self.trusted_address_header:
            found.append(
                "DAEGI_CONNECTOR_BIND_IP without DAEGI_TRUSTED_ADDRESS_HEADER: behind a proxy its own address is bound"
            )
        if self.heartbeat_ttl < 180:
            found.append("DAEGI_HEARTBEAT_TTL under 180 s is for tests: people lose their place too easily")
        if self.ready_ttl <= self.heartbeat_ttl / 8:
            found.append(
                "DAEGI_READY_TTL is not longer than DAEGI_HEARTBEAT_TTL / 8, the longest pause between two polls: "
                "people who ask as told step aside"
            )
        if self.ready_ttl > 0.3 * self.heartbeat_ttl:
            found.append("DAEGI_READY_TTL over 0.3 of DAEGI_HEARTBEAT_TTL is for tests")
        if self.pass_ttl > self.heartbeat_ttl:
            found.append("DAEGI_PASS_TTL is cut to DAEGI_HEARTBEAT_TTL")
        return found


def _is_public_url(url: str) -> bool:
    if not _VISIBLE.fullmatch(url) or set("?#@\\") & set(url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _is_strong(secret: str) -> bool:
    return len(secret) >= _MIN_SECRET and secret != DEVELOPMENT_SECRET


class SettingsError(Exception):
    """Invalid settings: one readable line for each of them."""


def load_settings() -> Settings:
    """Reads the settings from the environment; raises SettingsError."""
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
        # The message names the field, but not the value, which may be a secret.
        found = re.search(r'field "(\w+)"', str(error))
        name = found[1].upper() if found else "*"
        raise SettingsError(f'DAEGI_{name}: a JSON list is needed, like ["one", "two"]') from error
