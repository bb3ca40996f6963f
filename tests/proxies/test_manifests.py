"""The recipes that no proxy here can run: their structure, and the published schemas where a package has them.

`make test-proxies` installs the packages with schemas (group `recipes`); without them those tests are skipped. Nothing
checks Traefik's file, and the kinds of Gateway API and Envoy Gateway, but their structure.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.contract.routes import OPERATIONS
from shared.settings import Settings
from tests.proxies.conftest import cookie_name
from tests.proxies.proxy import RECIPES

NOT_THE_VISITORS = {"x-daegi-ticket", "x-daegi-event", "x-daegi-entered", "x-daegi-mode", "x-daegi-location"}
"""Headers that a proxy has to remove from what visitors send."""

NEEDED = {"cookie", "accept", "sec-fetch-mode", "sec-purpose", "purpose", "access-control-request-method"}
"""Headers that the gate goes by."""

FILES = sorted(path.relative_to(RECIPES).as_posix() for path in RECIPES.rglob("*") if path.is_file())


def documents(file: str) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((RECIPES / file).read_text()))


def of_kind(kind: str) -> list[Any]:
    """The Kubernetes objects of a kind, of all files."""
    paths = sorted((RECIPES / "kubernetes").glob("*.yaml"))
    return [one for path in paths for one in documents(f"kubernetes/{path.name}") if one["kind"] == kind]


def containers() -> list[Any]:
    """Those of all deployments."""
    return [one for deployment in of_kind("Deployment") for one in deployment["spec"]["template"]["spec"]["containers"]]


@pytest.mark.parametrize("file", FILES)
def test_every_path_of_ours_exists_in_the_dialect_of_the_proxy(file: str) -> None:
    text = (RECIPES / file).read_text()
    asked = set(re.findall(r"/api/v1/gate/checkout/\w+/authorize", text))
    served = {
        one.path.partition("/authorize")[0].format(event_id="checkout") for one in OPERATIONS if one.tag == "gate"
    }
    assert {path.removesuffix("/authorize") for path in asked} <= served
    dialects = {path.split("/")[5] for path in asked}
    expected = {"nginx.conf": {"nginx"}, "envoy.yaml": {"envoy"}, "kubernetes/gateway.yaml": {"envoy"}}
    assert dialects <= expected.get(file, {"forwarded"})


@pytest.mark.parametrize(
    "file", ["nginx.conf", "Caddyfile", "haproxy.cfg", "daegi-apache.lua", "traefik.yml", "envoy.yaml"]
)
def test_the_event_stands_in_one_line(file: str) -> None:
    lines = [line for line in (RECIPES / file).read_text().splitlines() if not line.lstrip().startswith(("#", "--"))]
    assert sum("checkout" in line for line in lines) == 1


def test_traefik_asks_the_gate_for_everything_but_the_room() -> None:
    (file,) = documents("traefik.yml")
    http = file["http"]
    gate, words = http["middlewares"]["daegi-gate"]["forwardAuth"], http["middlewares"]["visitors-words"]["headers"]

    assert "middlewares" not in http["routers"]["waiting-room"]
    # In this order: what the gate says is not removed.
    assert http["routers"]["shop"]["middlewares"] == ["visitors-words", "daegi-gate"]
    assert {name.lower() for name in words["customRequestHeaders"]} >= NOT_THE_VISITORS
    assert set(words["customRequestHeaders"].values()) == {""}
    assert {name.lower() for name in gate["authRequestHeaders"]} >= NEEDED
    assert {name.lower() for name in gate["authResponseHeaders"]} == NOT_THE_VISITORS - {"x-daegi-location"}
    assert gate["trustForwardHeader"] is False
    name = cookie_name("checkout")
    assert gate["addAuthCookiesToResponse"] == [name, f"__Host-{name}"]
    assert {router["service"] for router in http["routers"].values()} == set(http["services"])


def test_envoy_asks_the_gate_for_everything_but_the_room() -> None:
    (file,) = documents("envoy.yaml")
    manager = file["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    room, rest = manager["route_config"]["virtual_hosts"][0]["routes"]
    gate = manager["http_filters"][0]["typed_config"]
    (early,) = manager["early_header_mutation_extensions"]

    assert room["match"] == {"prefix": "/waiting-room/"}
    assert room["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["disabled"] is True
    assert "typed_per_filter_config" not in rest
    assert gate["failure_mode_allow"] is False
    assert {one["exact"] for one in gate["allowed_headers"]["patterns"]} >= NEEDED
    assert {one["remove"] for one in early["typed_config"]["mutations"]} >= NOT_THE_VISITORS
    clusters = {one["name"] for one in file["static_resources"]["clusters"]}
    assert {
        room["route"]["cluster"],
        rest["route"]["cluster"],
        gate["http_service"]["server_uri"]["cluster"],
    } == clusters


def test_envoy_gateway_asks_the_gate_for_all_of_the_shops_route() -> None:
    (policy,), (words,) = of_kind("SecurityPolicy"), of_kind("ClientTrafficPolicy")
    gate = policy["spec"]["extAuth"]
    routes = {route["metadata"]["name"]: route["spec"] for route in of_kind("HTTPRoute")}

    assert [target["name"] for target in policy["spec"]["targetRefs"]] == ["shop"]
    assert gate["failOpen"] is False
    assert set(gate["headersToExtAuth"]) >= NEEDED
    assert set(gate["http"]["headersToBackend"]) == NOT_THE_VISITORS - {"x-daegi-location"}
    assert set(words["spec"]["headers"]["earlyRequestHeaders"]["remove"]) >= NOT_THE_VISITORS
    assert routes["waiting-room"]["hostnames"] == routes["shop"]["hostnames"]
    (room,), (shop,) = routes["waiting-room"]["rules"], routes["shop"]["rules"]
    assert [match["path"]["value"] for match in room["matches"]] == ["/waiting-room/"]
    assert [backend["name"] for backend in shop["backendRefs"]] == ["shop"]
    # Both name a Service of Daegi's namespace, and are allowed to.
    (grant,) = of_kind("ReferenceGrant")
    assert {one["kind"] for one in grant["spec"]["from"]} == {"HTTPRoute", "SecurityPolicy"}
    assert (
        grant["metadata"]["namespace"]
        == room["backendRefs"][0]["namespace"]
        == gate["http"]["backendRefs"][0]["namespace"]
    )


def test_kubernetes_objects_find_each_other() -> None:
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in of_kind("Deployment")}
    for deployment in of_kind("Deployment"):
        assert deployment["spec"]["selector"]["matchLabels"] == labels[deployment["metadata"]["name"]]
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] == labels[budget["metadata"]["name"]]
    (service,), (scaler,) = of_kind("Service"), of_kind("HorizontalPodAutoscaler")
    assert service["spec"]["selector"] == labels["daegi-api"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == "daegi-api"
    ports = {port["name"]: port["containerPort"] for one in containers() for port in one["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    known = {one["metadata"]["name"] for kind in ("ConfigMap", "Secret") for one in of_kind(kind)}
    assert {name for one in containers() for source in one["envFrom"] for name in nested_names(source)} == known


def nested_names(source: dict[str, Any]) -> set[str]:
    """The names of what an envFrom takes variables from."""
    return {reference["name"] for reference in source.values()}


def test_kubernetes_probes_and_settings_exist() -> None:
    served = {one.path for one in OPERATIONS}
    for container in containers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            http = container.get(probe, {}).get("httpGet")
            assert http is None or http["path"] in served
        module = container["command"][2]
        assert Path(RECIPES.parents[1], module, "__main__.py").is_file()
    given = {name for one in of_kind("ConfigMap") for name in one["data"]}
    given |= {name for one in of_kind("Secret") for name in one["stringData"]}
    given |= {variable["name"] for one in containers() for variable in one["env"]}
    assert {name.removeprefix("DAEGI_").lower() for name in given} <= Settings.model_fields.keys()


def test_the_secret_that_is_shipped_starts_nothing() -> None:
    (secret,) = of_kind("Secret")
    with pytest.raises(ValueError, match="32"):
        Settings.model_validate(
            {"environment": "production", "token_secrets": json.loads(secret["stringData"]["DAEGI_TOKEN_SECRETS"])}
        )


def test_kubernetes_objects_are_valid_by_the_published_schemas() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="make test-proxies installs it")
    for version in ("1.27", "1.33"):
        for document in documents("kubernetes/daegi.yaml"):
            kubernetes.validate(document, version, strict=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:envoy_data_plane", "ignore::DeprecationWarning:pydantic")
@pytest.mark.filterwarnings("ignore:Using `@model_validator` with mode='after'")
def test_envoys_file_is_valid_by_its_published_types() -> None:
    pytest.importorskip("envoy_data_plane", reason="make test-proxies installs it")
    (file,) = documents("envoy.yaml")

    def parsed(name: str, fields: dict[str, Any]) -> None:
        package, _, kind = name.rpartition(".")
        # Raises KeyError for a field that it does not have.
        getattr(importlib.import_module(f"envoy_data_plane.{package}"), kind).from_dict(fields)

    def plain(value: Any) -> Any:
        """Without the typed configurations, each of which is parsed as what it says it is."""
        if isinstance(value, list):
            return [plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        fields = {name: found for name, one in value.items() if (found := plain(one)) is not None}
        if kind := fields.pop("@type", ""):
            parsed(kind.rpartition("/")[2], fields)
            return None
        return fields

    parsed("envoy.config.bootstrap.v3.Bootstrap", plain(file))
