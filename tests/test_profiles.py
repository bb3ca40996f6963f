"""The profiles of docker-compose.yml: what they start fits together, though no engine is here to start it."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
import yaml

from shared.settings import Settings
from shared.settings.redis_url import RedisUrl
from tests.support.paths import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SCRAPES: dict[str, Any] = {
    scrape["job_name"]: scrape["dns_sd_configs"][0]
    for scrape in yaml.safe_load((ROOT / "shared/observability/prometheus.yml").read_text())["scrape_configs"]
}
NODES = [f"redis-{number}" for number in range(1, 7)]


def of_profile(profile: str) -> set[str]:
    return {name for name, service in SERVICES.items() if service.get("profiles") == [profile]}


def mounted(service: str) -> dict[str, str]:
    """Files of ours, by where they are inside."""
    mounts = [mount.split(":") for mount in SERVICES[service]["volumes"] if mount.startswith("./")]
    assert all(options == ["ro"] for _, _, *options in mounts)
    return {target: source for source, target, _ in mounts}


def settings_of(service: str) -> Settings:
    """What our processes would make of its environment."""
    environment = {name: value for name, value in SERVICES[service]["environment"].items() if value is not None}
    environment["DAEGI_TOKEN_SECRETS"] = ["a secret that only tests sign with, long enough"]
    return Settings.model_validate({name.removeprefix("DAEGI_").lower(): value for name, value in environment.items()})


def test_each_service_is_in_one_profile_or_in_the_core() -> None:
    assert of_profile("observability") == {"prometheus", "grafana"}
    cluster = {"api-cluster", "worker-cluster", "redis-jobs", "redis-cluster", *NODES}
    assert of_profile("cluster") == cluster
    assert set(SERVICES) == {"redis", "api", "worker", "prometheus", "grafana"} | cluster


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"redis-cluster"}))
def test_what_stays_up_says_how_it_is_and_comes_back(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert "stop_grace_period" in SERVICES[service]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_images_are_pinned_and_ports_are_on_this_machine_only(service: str) -> None:
    image = SERVICES[service]["image"]
    assert image == "daegi:local" or re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", image)
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", ()))


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_a_service_needs_is_started_with_it(service: str) -> None:
    mine = SERVICES[service].get("profiles")
    for needed, how in SERVICES[service].get("depends_on", {}).items():
        assert SERVICES[needed].get("profiles") in (None, mine)
        finished = how["condition"] == "service_completed_successfully"
        assert finished == (SERVICES[needed]["restart"] == "no")
        assert finished or how["condition"] == "service_healthy"
    volumes = [mount.split(":")[0] for mount in SERVICES[service].get("volumes", ())]
    assert {name for name in volumes if not name.startswith("./")} <= set(COMPOSE["volumes"])


def test_prometheus_finds_each_process_where_it_answers() -> None:
    assert set(SCRAPES["daegi-api"]["names"]) == {"api", "api-cluster"}
    assert set(SCRAPES["daegi-worker"]["names"]) == {"worker", "worker-cluster"}
    for name in ("api", "api-cluster"):
        assert settings_of(name).port == SCRAPES["daegi-api"]["port"]
    for name in ("worker", "worker-cluster"):
        assert settings_of(name).worker_metrics_port == SCRAPES["daegi-worker"]["port"]
    for name in ("api", "api-cluster", "worker", "worker-cluster"):
        assert settings_of(name).host == "0.0.0.0"
        assert "default" in SERVICES[name].get("networks", ["default"])


def test_prometheus_and_grafana_are_given_what_is_shipped() -> None:
    files = mounted("prometheus")
    config = files["/etc/prometheus/prometheus.yml"]
    for rules in yaml.safe_load((ROOT / config).read_text())["rule_files"]:
        assert (ROOT / files[f"/etc/prometheus/{rules}"]).samefile(ROOT / "shared/observability/alerts.yml")
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]

    files = mounted("grafana")
    (datasource,) = yaml.safe_load((ROOT / files["/etc/grafana/provisioning/datasources/daegi.yml"]).read_text())[
        "datasources"
    ]
    assert datasource["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((ROOT / files["/etc/grafana/provisioning/dashboards/daegi.yml"]).read_text())[
        "providers"
    ]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(provider["options"]["path"] + "/")
    assert files[home] == "./shared/observability/dashboard.json"
    assert all((ROOT / source).is_file() for source in files.values())


def test_the_cluster_is_made_of_all_its_nodes_and_ours_know_some() -> None:
    (network,) = COMPOSE["networks"]["cluster"]["ipam"]["config"]
    subnet = ipaddress.ip_network(network["subnet"])
    addresses = [SERVICES[node]["networks"]["cluster"]["ipv4_address"] for node in NODES]
    assert len(set(addresses)) == 6
    assert all(ipaddress.ip_address(address) in subnet for address in addresses)
    assert set(SERVICES["redis-cluster"]["depends_on"]) == set(NODES)
    script = SERVICES["redis-cluster"]["command"][-1].replace("$$first", addresses[0])
    assert re.findall(r"([\d.]+):6379", script) == addresses
    for service in ("api-cluster", "worker-cluster"):
        assert "cluster" in SERVICES[service]["networks"]
        made = settings_of(service)
        url = RedisUrl.parse(SERVICES[service]["environment"]["DAEGI_REDIS_URL"])
        assert url.kind == "cluster"
        assert {server.removeprefix("redis://").partition(":")[0] for server in url.servers} <= set(addresses)
        assert made.jobs_url == "redis://redis-jobs:6379/0"
        assert made.min_replicas_ack == 1
        assert made.environment == "production"


@pytest.mark.parametrize("service", ["redis", "redis-jobs", *NODES])
def test_every_redis_keeps_what_it_has(service: str) -> None:
    command = SERVICES[service]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options.get("--cluster-enabled") == "yes") == (service in NODES)
    (volume,) = SERVICES[service]["volumes"]
    assert volume.endswith(":/data")
    assert sum(volume in other.get("volumes", ()) for other in SERVICES.values()) == 1
