"""Settings: a wrong one is told in one line that names the variable and never shows a secret."""

import json
import secrets

import pytest

from shared.settings import DEVELOPMENT_SECRET, Settings, SettingsError, load_settings
from shared.settings.__main__ import rows
from tests.support.pass_keys import new_key


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DAEGI_{name.upper()}", raising=False)


WRONG = [
    ("DAEGI_PORT", "eighty"),
    ("DAEGI_PORT", "65536"),
    ("DAEGI_PROCESSES", "0"),
    ("DAEGI_REDIS_URL", "localhost:6379"),
    ("DAEGI_REDIS_URL", "http://localhost:6379"),
    ("DAEGI_REDIS_URL", "redis://localhost:port/0"),
    ("DAEGI_REDIS_URL", "redis://[::1/0"),
    ("DAEGI_REDIS_URL", "redis+sharded://a:6379"),
    ("DAEGI_REDIS_URL", "redis+cluster://a:6379,b:0"),
    ("DAEGI_REDIS_URL", "redis+cluster://a:6379/1"),
    ("DAEGI_REDIS_URL", "redis+cluster://a:6379,"),
    ("DAEGI_REDIS_URL", "redis+sentinel://a:26379"),
    ("DAEGI_REDIS_URL", "redis://a:6379/lines"),
    ("DAEGI_REDIS_URL", "redis://a:6379/0?db=one"),
    ("DAEGI_REDIS_URL", "redis+cluster://a:6379?timeout=1"),
    ("DAEGI_REDIS_URL", ""),
    ("DAEGI_JOBS_REDIS_URL", "amqp://localhost"),
    ("DAEGI_JOBS_REDIS_URL", "redis+cluster://a:6379"),
    ("DAEGI_REDIS_CA_FILE", "/no/such/file.pem"),
    ("DAEGI_REDIS_CA_FILE", __file__),
    ("DAEGI_KEY_PREFIX", "{shop}:"),
    ("DAEGI_KEY_PREFIX", "two words:"),
    ("DAEGI_MIN_REPLICAS_ACK", "17"),
    ("DAEGI_MAX_EVENTS", "0"),
    ("DAEGI_HOST", ""),
    ("DAEGI_HOST", "localhost"),
    ("DAEGI_WORKER_METRICS_PORT", "-1"),
    ("DAEGI_METRICS_EVENTS", '["two words"]'),
    ("DAEGI_METRICS_DIR", "/no/such/directory"),
    ("DAEGI_METRICS_DIR", __file__),
    ("DAEGI_TRUSTED_USER_HEADER", "X-User-Id:"),
    ("DAEGI_TRUSTED_USER_HEADER", "\uc0ac\uc6a9\uc790"),
    ("DAEGI_TRUSTED_ADDRESS_HEADER", "X Forwarded For"),
    ("DAEGI_JOINS_PER_MINUTE", "-1"),
    ("DAEGI_TOKEN_SECRETS", "a secret without brackets"),
    ("DAEGI_TOKEN_SECRETS", "[]"),
    ("DAEGI_TOKEN_SECRETS", '["good", ""]'),
    ("DAEGI_TOKEN_SECRETS", "[17]"),
    ("DAEGI_PASS_KEYS", "a key without brackets"),
    ("DAEGI_PASS_KEYS", '["no key"]'),
    ("DAEGI_PASS_KEYS", json.dumps([new_key()])),
    ("DAEGI_PUBLIC_URL", "queue.example"),
    ("DAEGI_PUBLIC_URL", "ftp://queue.example"),
    ("DAEGI_PUBLIC_URL", "https://"),
    ("DAEGI_PUBLIC_URL", "https://queue.example:port"),
    ("DAEGI_PUBLIC_URL", "https://queue.example:0"),
    ("DAEGI_PUBLIC_URL", "https://user@queue.example"),
    ("DAEGI_PUBLIC_URL", "https://queue.example/?a=1"),
    ("DAEGI_PUBLIC_URL", "https://queue.example/#a"),
    ("DAEGI_PUBLIC_URL", "https://queue.example\\a"),
    ("DAEGI_PUBLIC_URL", "https://queue.example/two words"),
    ("DAEGI_PUBLIC_URL", "https://대기.example"),
    ("DAEGI_ADMIN_KEYS", "a key without brackets"),
    ("DAEGI_ADMIN_KEYS", '[""]'),
    ("DAEGI_CORS_ORIGINS", "https://shop.example"),
    ("DAEGI_CORS_ORIGINS", '["shop.example"]'),
    ("DAEGI_CORS_ORIGINS", '["*", "https://shop.example/"]'),
    ("DAEGI_ADMIT_RATE", "-1"),
    ("DAEGI_ADMIT_RATE", "nan"),
    ("DAEGI_ADMIT_BURST", "1e8"),
    ("DAEGI_PASS_TTL", "inf"),
    ("DAEGI_HEARTBEAT_TTL", "0"),
    ("DAEGI_LINE_TTL", "1e9"),
    ("DAEGI_DEDUPE_TTL", "-300"),
    ("DAEGI_READY_TTL", "1e9"),
    ("DAEGI_CALL_FRESH", "0.0001"),
    ("DAEGI_DRAIN_SECONDS", "-1"),
    ("DAEGI_MAX_PENDING", "0"),
    ("DAEGI_LISTEN_SECONDS", "0"),
    ("DAEGI_MAX_LISTENERS", "-1"),
    ("DAEGI_MAX_BATCH", "257"),
    ("DAEGI_OPEN_EVENTS", "perhaps"),
    ("DAEGI_COOKIE_SECURE", "perhaps"),
    ("DAEGI_COOKIE_DOMAIN", "shop.example; Secure"),
    ("DAEGI_FAIL_OPEN_SECONDS", "-1"),
    ("DAEGI_CONNECTOR_SECRET", "a secret without a customer"),
    ("DAEGI_CONNECTOR_CUSTOMER", "acme/europe"),
    ("DAEGI_CONNECTOR_BIND_IP", "perhaps"),
    ("DAEGI_LOG_LEVEL", "loud"),
    ("DAEGI_LOG_FORMAT", "xml"),
    ("DAEGI_SENTRY_DSN", "not a dsn"),
    ("DAEGI_ENVIRONMENT", "staging"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_told_in_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    message = str(failure.value)
    assert message.startswith("DAEGI_PUBLIC_URL" if name == "DAEGI_PASS_KEYS" and "BEGIN" in value else name)
    assert "\n" not in message
    assert len(message) > len(name) + 10


def test_no_setting_takes_everything() -> None:
    assert {name for name, _ in WRONG} == {row.name for row in rows()}


def test_every_wrong_setting_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEGI_PORT", "eighty")
    monkeypatch.setenv("DAEGI_LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert [line.partition(":")[0] for line in str(failure.value).splitlines()] == ["DAEGI_PORT", "DAEGI_LOG_LEVEL"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAEGI_TOKEN_SECRETS", "hush-hush"),
        ("DAEGI_TOKEN_SECRETS", '{"hush-hush": 1}'),
        ("DAEGI_PASS_KEYS", '["hush-hush"]'),
        ("DAEGI_PASS_KEYS", '{"hush-hush": 1}'),
        ("DAEGI_ADMIN_KEYS", '["hush-hush", ""]'),
        ("DAEGI_CONNECTOR_SECRET", "hush-hush"),
        ("DAEGI_REDIS_URL", "redis://:hush-hush/@localhost:6379"),
        ("DAEGI_REDIS_URL", "redis+cluster://user:hush-hush/more@a:6379,b:6379"),
        ("DAEGI_JOBS_REDIS_URL", "redis://user:hush-hush/more@localhost:6379"),
    ],
)
def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert "hush" not in str(failure.value)


def test_the_settings_themselves_do_not_print_secrets() -> None:
    urls = {
        "redis_url": "redis+cluster://daegi:hush-hush@a:6379,b:6379",
        "jobs_redis_url": "redis://:hush@hush@jobs:6379/3",
        "sentry_dsn": "https://hush-hush@sentry.example/1",
    }
    key = new_key()
    passes = {"pass_keys": [key], "public_url": "https://queue.example"}
    keys = {"admin_keys": ["hush-hush"], "connector_secret": "hush-hush", "connector_customer": "acme"}
    settings = Settings.model_validate({"token_secrets": ["hush-hush"], **keys, **urls, **passes})
    for printed in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hush" not in printed
        assert "PRIVATE" not in printed
        assert key.splitlines()[1] not in printed
    # Which Redis it is may be told.
    assert "redis+cluster://daegi:***@a:6379,b:6379" in repr(settings)
    assert settings.lines_url == urls["redis_url"]
    assert settings.jobs_url == urls["jobs_redis_url"]
    assert settings.connector == ("acme", "hush-hush")


def test_without_an_environment_the_defaults_are_sound_and_one_warning_is_due() -> None:
    settings = load_settings()
    assert settings.jobs_url == settings.lines_url
    assert [secret.get_secret_value() for secret in settings.token_secrets] == [DEVELOPMENT_SECRET]
    assert ["DAEGI_TOKEN_SECRETS" in warning for warning in settings.warnings()] == [True]


def test_an_empty_jobs_url_means_the_redis_with_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    # A compose file passes on what is not set as an empty text.
    monkeypatch.setenv("DAEGI_REDIS_URL", "redis://data:6379/1")
    monkeypatch.setenv("DAEGI_JOBS_REDIS_URL", "")
    assert load_settings().jobs_url == "redis://data:6379/1"


@pytest.mark.parametrize("url", ["redis+cluster://a:6379,b:6379", "redis+sentinel://a:26379,b:26379/lines"])
def test_jobs_need_a_redis_of_their_own_where_the_lines_are_not_on_one_server(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DAEGI_REDIS_URL", url)
    with pytest.raises(SettingsError, match="DAEGI_JOBS_REDIS_URL"):
        load_settings()
    monkeypatch.setenv("DAEGI_JOBS_REDIS_URL", "redis://jobs:6379")
    assert load_settings().jobs_url == "redis://jobs:6379"


_CONNECTOR = {"connector_secret": "a secret", "connector_customer": "acme", "connector_bind_ip": True}


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"heartbeat_ttl": 60, "ready_ttl": 10}, ["DAEGI_HEARTBEAT_TTL"]),
        ({"ready_ttl": 91}, ["DAEGI_READY_TTL"]),
        ({"ready_ttl": 37.5}, ["DAEGI_READY_TTL"]),
        ({"pass_ttl": 301}, ["DAEGI_PASS_TTL"]),
        (_CONNECTOR, ["DAEGI_CONNECTOR_BIND_IP"]),
        ({**_CONNECTOR, "trusted_address_header": "X-Forwarded-For"}, []),
        ({"connector_bind_ip": True}, []),
        ({}, []),
    ],
)
def test_settings_that_few_can_want_say_so(settings: dict[str, object], warned: list[str]) -> None:
    warnings = Settings.model_validate({"token_secrets": ["a secret"], **settings}).warnings()
    assert [warning.split()[0] for warning in warnings] == warned


LONG = "0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize("keys", [None, f'["{LONG}", "{LONG[:31]}"]'])
@pytest.mark.parametrize("token_secrets", [None, f'["{LONG}", "{DEVELOPMENT_SECRET}"]', f'["{LONG[:31]}"]'])
def test_production_does_not_start_with_a_secret_that_is_known_or_short(
    monkeypatch: pytest.MonkeyPatch, token_secrets: str | None, keys: str | None
) -> None:
    given = {"DAEGI_TOKEN_SECRETS": token_secrets, "DAEGI_ADMIN_KEYS": keys}
    for name, value in given.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    load_settings()
    monkeypatch.setenv("DAEGI_ENVIRONMENT", "production")
    with pytest.raises(SettingsError) as failure:
        load_settings()
    lines = str(failure.value).splitlines()
    named = ["DAEGI_TOKEN_SECRETS", "DAEGI_ADMIN_KEYS"] if keys else ["DAEGI_TOKEN_SECRETS"]
    assert [line.partition(":")[0] for line in lines] == named
    assert all('python -c "import secrets; print(secrets.token_urlsafe(32))"' in line for line in lines)
    assert LONG[:31] not in str(failure.value)


def test_production_takes_no_short_secret_of_a_connector_either(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DAEGI_ENVIRONMENT": "production",
        "DAEGI_TOKEN_SECRETS": f'["{LONG}"]',
        "DAEGI_CONNECTOR_CUSTOMER": "acme",
        "DAEGI_CONNECTOR_SECRET": LONG[:31],
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"^DAEGI_CONNECTOR_SECRET: "):
        load_settings()
    monkeypatch.setenv("DAEGI_CONNECTOR_SECRET", LONG)
    assert load_settings().connector == ("acme", LONG)


@pytest.mark.parametrize(("customer", "secret"), [("acme", ""), ("", LONG)])
def test_a_connector_needs_both_its_customer_and_its_secret(
    monkeypatch: pytest.MonkeyPatch, customer: str, secret: str
) -> None:
    monkeypatch.setenv("DAEGI_CONNECTOR_CUSTOMER", customer)
    monkeypatch.setenv("DAEGI_CONNECTOR_SECRET", secret)
    with pytest.raises(SettingsError, match="both are needed, or neither"):
        load_settings()
    # A compose file passes on what is not set as an empty text.
    monkeypatch.setenv("DAEGI_CONNECTOR_CUSTOMER", "")
    monkeypatch.setenv("DAEGI_CONNECTOR_SECRET", "")
    assert load_settings().connector is None


@pytest.mark.parametrize("keys", ["[]", f'["{LONG}"]'])
def test_production_starts_with_secrets_made_as_it_says(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("DAEGI_ENVIRONMENT", "production")
    monkeypatch.setenv("DAEGI_TOKEN_SECRETS", f'["{secrets.token_urlsafe(32)}", "{LONG}"]')
    monkeypatch.setenv("DAEGI_ADMIN_KEYS", keys)
    assert load_settings().warnings() == []
