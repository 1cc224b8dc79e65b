"""The manifests are sound, say what the relay understands, and their parts fit each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.deployment import (
    DEPLOY,
    KUBERNETES,
    SHAPES,
    Container,
    kustomized,
    one,
    require_kustomize,
    setting_names,
    walk,
)
from support.policies import ConfigMap

from relay.api.probes import Probes
from relay.cli import _parser
from relay.policy_files import load_policies
from relay.simulator.settings import SimulatorSettings

# Of operators that add kinds of their own: there are no schemas of these to check against.
FOREIGN = {"ServiceMonitor"}
# What fields of a pod hold, where a setting is taken from one.
FIELDS = {"status.hostIP": "192.0.2.10", "status.podIP": "10.244.1.7"}
SECRETS = {
    "azure-key": "an-azure-key",
    "client-keys": "a-key-of-a-client-1\na-key-of-a-client-2",
    "admin-key": "a-key-of-an-owner",
    "store-url": "postgresql://relay:password@db.example.com/relay",
    "redis-url": "rediss://:password@redis.example.com:6380/0",
    "turn": "turn-secret",
}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def manifests(shape):
    return kustomized(KUBERNETES / shape)


@pytest.fixture
def pod(manifests):
    return one(manifests, "StatefulSet")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    (only,) = pod["containers"]
    return only


def with_components(directory: Path, shape: str, *names: str):
    """A shape with its commented components switched on."""
    text = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "relay",
        "resources": [os.path.relpath(KUBERNETES / shape, directory.resolve())],
        "components": [os.path.relpath(KUBERNETES / "components" / name, directory.resolve()) for name in names],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return kustomized(directory)


def settings_of(manifests, container, root: Path):
    """The settings that the relay in the pod would have."""
    environment = {
        each["name"]: each["value"] if "value" in each else FIELDS[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container.get("env", ())
    }
    assert set(environment) <= setting_names()
    here = Container(root, environment)
    for name, text in SECRETS.items():
        here.put(f"/etc/relay/secrets/{name}", text)
    for name in ("tls.crt", "tls.key"):
        here.put(f"/etc/relay/tls/{name}", "not looked at yet")
    for name, text in one_map(manifests, "relay-policies")["data"].items():
        here.put(f"/etc/relay/policies/{name}", text)
    here.put("/etc/relay/config/relay.yaml", one_map(manifests, "relay-config")["data"]["relay.yaml"])
    return here.settings("/etc/relay/config/relay.yaml")


def one_map(manifests, name):
    (found,) = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"].startswith(name)]
    return found


@pytest.fixture
def settings(manifests, container, tmp_path):
    return settings_of(manifests, container, tmp_path)


def test_every_manifest_is_what_kubernetes_allows(shape, tmp_path):
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (pip install '.[deploy]')")
    manifests = with_components(tmp_path, shape, "autoscaling", "monitoring", "shared-store", "persistent")
    known = [manifest for manifest in manifests if manifest["kind"] not in FOREIGN]
    assert {"StatefulSet", "Service", "ConfigMap"} <= {manifest["kind"] for manifest in known}
    for manifest in known:
        validate.validate(manifest, validate.latest_version(), strict=True)


def test_the_relay_would_start_with_these_settings(settings, container):
    settings.require_servable()
    words = container["args"]
    told = _parser().parse_args(words)
    assert told.config == "/etc/relay/config/relay.yaml"


def test_browsers_are_told_the_address_they_reach(settings, shape):
    (told,) = settings.ice.advertise
    assert str(told) == {"hostnetwork": "192.0.2.10", "loadbalancer": "203.0.113.7", "turn": "10.244.1.7"}[shape]
    assert settings.turn.relay_only == (shape == "turn")
    assert settings.ice.tcp == (shape != "turn")
    # Somebody does TLS: the relay, or an Ingress that it believes.
    assert bool(settings.http.tls_cert_file) != bool(settings.http.trusted_proxies)


def test_the_policies_load_as_a_configmap_is_mounted(manifests, tmp_path):
    mounted = ConfigMap(tmp_path / "policies")
    documents = one_map(manifests, "relay-policies")["data"]
    mounted.update(**{name.removesuffix(".yaml"): text for name, text in documents.items()})
    assert len(load_policies(str(mounted.directory)).documents) == len(documents)


def test_a_changed_policy_is_no_rollout_and_a_changed_setting_is_one(manifests, pod):
    mounted = {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each}
    assert "relay-policies" in mounted
    assert any(re.fullmatch(r"relay-config-\w+", name) for name in mounted)


def test_sessions_have_their_time_to_end(pod, settings):
    assert pod["terminationGracePeriodSeconds"] > settings.limits.drain_seconds >= SimulatorSettings().session_seconds
    assert "lifecycle" not in pod["containers"][0], "SIGTERM drains: a preStop would only come before it"


def test_probes_ask_what_the_relay_answers_and_draining_is_no_reason_to_kill(container):
    known = {route.path for route in Probes(sessions=None).routes()}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {each["path"] for each in asked.values()} <= known
    assert asked["livenessProbe"]["path"] == "/livez"
    assert asked["readinessProbe"]["path"] == "/readyz"
    assert {each["port"] for each in asked.values()} == {"operations"}


def test_ports_are_the_relays_and_services_lead_to_them(manifests, container, settings):
    ports = {each["name"]: (each["containerPort"], each["protocol"]) for each in container["ports"]}
    assert ports == {
        "doors": (settings.http.port, "TCP"),
        "operations": (settings.admin.port, "TCP"),
        "media-udp": (settings.ice.udp_port, "UDP"),
        "media-tcp": (settings.ice.tcp_port, "TCP"),
    }
    for service in (each for each in manifests if each["kind"] == "Service"):
        if service["spec"]["selector"].get("app.kubernetes.io/name") == "relay":
            for port in service["spec"]["ports"]:
                assert ports[port["targetPort"]][1] == port["protocol"]


def test_media_ports_are_the_same_outside(manifests, shape, settings):
    if shape != "loadbalancer":
        return
    public = {each["name"]: each["port"] for each in one(manifests, "Service", "relay-public")["spec"]["ports"]}
    assert (public["media-udp"], public["media-tcp"]) == (settings.ice.udp_port, settings.ice.tcp_port)


def test_what_has_sessions_is_reached_while_it_drains(manifests):
    """kube-proxy forgets the UDP flows of a pod that is not ready, unless the Service says otherwise."""
    for service in (each for each in manifests if each["kind"] == "Service"):
        to_one_pod = service["spec"].get("clusterIP") == "None" or service["spec"].get("type") == "LoadBalancer"
        to_one_pod |= "apps.kubernetes.io/pod-index" in service["spec"]["selector"]
        if service["spec"]["selector"].get("app.kubernetes.io/name") == "relay" and to_one_pod:
            assert service["spec"]["publishNotReadyAddresses"] is True, service["metadata"]["name"]


def test_only_one_pod_stands_behind_an_address_for_media(manifests, shape):
    if shape == "loadbalancer":
        assert one(manifests, "StatefulSet")["spec"]["replicas"] == 1


def test_pods_are_confined(manifests):
    for manifest in manifests:
        if manifest["kind"] not in {"StatefulSet", "Deployment"}:
            continue
        spec = manifest["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in spec["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
            assert each["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert {"requests", "limits"} <= set(each["resources"])


def test_what_the_relay_writes_is_writable_and_what_it_reads_is_not(manifests, pod, container):
    text = one_map(manifests, "relay-config")["data"]["relay.yaml"]
    directory = yaml.safe_load(text)["state"]["directory"]
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert set(volumes) == {each["name"] for each in mounts.values()}
    writable = {path for path, each in mounts.items() if not each.get("readOnly")}
    assert writable == {directory, "/tmp"}
    assert all("emptyDir" in volumes[mounts[path]["name"]] for path in writable)
    assert not any("subPath" in each for each in mounts.values()), "a subPath is never updated"


def test_who_runs_it_as_a_user_is_the_image_s(pod):
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    told = pod["securityContext"]
    assert (str(told["runAsUser"]), str(told["runAsGroup"])) == user


def test_every_worker_has_a_core(container, settings):
    told = container["resources"]
    assert int(told["requests"]["cpu"]) >= settings.workers.count
    assert int(told["limits"]["cpu"]) > settings.workers.count


def test_nothing_secret_is_in_the_manifests_and_every_secret_is_explained(manifests):
    assert not [each for each in manifests if each["kind"] == "Secret"]
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text("utf-8")
    named = {each["secretName"] for manifest in manifests for each in walk(manifest) if is_map(each, "secretName")}
    named |= {
        each["secret"]["name"] for manifest in manifests for each in walk(manifest) if is_map(each, "secret", "name")
    }
    for name in named - {"relay-ingress-tls"}:
        assert re.search(rf"create secret \w+ {name}\b", page), f"docs/deploy.md does not say how to make {name}"
    for name in SECRETS:
        assert f"--from-file={name}" in page


def is_map(value, key, inner=None):
    return isinstance(value, dict) and key in value and (inner is None or inner in value[key])


def test_the_network_lets_in_what_the_ports_are_for(manifests, shape, settings):
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "relay"]
    if shape == "hostnetwork":
        assert not policies, "it says nothing about pods on the host's network"
        return
    (policy,) = policies
    for rule in policy["spec"]["ingress"]:
        ports = {(port["port"], port["protocol"]) for port in rule["ports"]}
        if (settings.admin.port, "TCP") in ports:
            assert len(ports) == 1
            assert rule["from"]
        if shape == "turn" and (settings.ice.udp_port, "UDP") in ports:
            assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "coturn"}}}]
    everything = {(port["port"], port["protocol"]) for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert {(settings.http.port, "TCP"), (settings.ice.udp_port, "UDP"), (settings.admin.port, "TCP")} <= everything


def test_all_pods_have_one_store_if_it_is_asked_for(shape, tmp_path):
    made = with_components(tmp_path, shape, "shared-store")
    (container,) = one(made, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    settings = settings_of(made, container, tmp_path)
    settings.require_servable()
    assert settings.store_url.reveal() == SECRETS["store-url"]
    assert settings.store.redis_url.reveal() == SECRETS["redis-url"]
    for policy in (m for m in made if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "relay"):
        reached = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert {5432, 6379, 6380, 443, 53} <= reached


def test_a_volume_takes_the_place_of_the_directory_that_goes_with_the_pod(tmp_path):
    made = one(with_components(tmp_path, "loadbalancer", "persistent"), "StatefulSet")["spec"]
    (claim,) = made["volumeClaimTemplates"]
    volumes = {each["name"] for each in made["template"]["spec"]["volumes"]}
    assert claim["metadata"]["name"] not in volumes
    mounts = {each["name"]: each["mountPath"] for each in made["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/var/lib/relay"
    assert set(mounts) == volumes | {"state"}


def test_the_operations_listener_is_inside_and_wants_a_key(manifests, shape, settings):
    assert settings.admin.key is not None
    assert settings.admin.hosts, "any name would do beyond loopback"
    outside = [m for m in manifests if m["kind"] == "Service" and m["spec"].get("type") in {"LoadBalancer", "NodePort"}]
    outside += [m for m in manifests if m["kind"] == "Service" and re.fullmatch(r"relay(-\d+)?", m["metadata"]["name"])]
    assert outside
    for service in outside:
        assert all(port["targetPort"] not in {"operations", settings.admin.port} for port in service["spec"]["ports"])
    told = {
        str(each.get("port")) for m in manifests if m["kind"] == "Ingress" for each in walk(m) if is_map(each, "port")
    }
    assert "operations" not in "".join(told)


def test_what_a_pod_keeps_does_not_have_it_evicted(pod, container):
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each}
    assert sizes["state"] == "2Gi"
    limit = container["resources"]["limits"]["ephemeral-storage"]
    assert int(limit.removesuffix("Mi")) >= 2048 + int(sizes["tmp"].removesuffix("Mi"))


def test_more_pods_come_before_they_are_full(tmp_path):
    """And in the shape whose pods have names of their own, no more than there are names."""
    made = with_components(tmp_path, "turn", "autoscaling")
    scaler = one(made, "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in one(made, "StatefulSet")["spec"], "applying it again would undo the scaler's work"
    assert scaler["scaleTargetRef"]["kind"] == "StatefulSet"
    (metric,) = scaler["metrics"]
    wanted = metric["pods"]["target"]["averageValue"]
    assert 0 < int(wanted.removesuffix("m")) < 1000, "sessions are refused at 1"
    names = {rule["host"].split(".")[0] for rule in one(made, "Ingress")["spec"]["rules"]}
    services = {each["metadata"]["name"] for each in made if each["kind"] == "Service"}
    assert names == {f"relay-{number}" for number in range(scaler["maxReplicas"])}
    assert names <= services


def test_the_adapter_s_rule_asks_for_a_metric_there_is():
    (rule,) = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "rule.yaml").read_text("utf-8"))
    scaler = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "scaler.yaml").read_text("utf-8"))
    name = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert rule["name"] == {"as": name}
    assert rule["seriesQuery"].startswith(f"{name}{{")
    metrics = (DEPLOY.parent / "docs" / "reference" / "metrics.md").read_text("utf-8")
    assert f"| `{name}` | gauge | resource |" in metrics
    assert "`setups`" in metrics


def test_the_adapter_s_query_is_a_query(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine (apt-get install prometheus)")
    (rule,) = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "rule.yaml").read_text("utf-8"))
    filled = {"<<.Series>>": "relay_capacity_ratio", "<<.LabelMatchers>>": 'pod=~"a|b"', "<<.GroupBy>>": "pod"}
    query = rule["metricsQuery"]
    for hole, text in filled.items():
        query = query.replace(hole, text)
    rules = {"groups": [{"name": "g", "rules": [{"record": "x", "expr": query}]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    command = [promtool, "check", "rules", tmp_path / "rules.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_prometheus_finds_the_pods_under_the_job_that_rules_expect(tmp_path):
    made = with_components(tmp_path, "turn", "monitoring")
    monitor = one(made, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"]
    (service,) = [
        each for each in made
        if each["kind"] == "Service" and wanted.items() <= each["metadata"].get("labels", {}).items()
    ]  # fmt: skip
    assert {each["port"] for each in monitor["endpoints"]} <= {each["name"] for each in service["spec"]["ports"]}
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert service["metadata"]["labels"][monitor["jobLabel"]] in {each["job_name"] for each in config["scrape_configs"]}


@pytest.mark.parametrize(("directory", "source"), [("prometheus", "rules.yaml"), ("grafana", "dashboards/*.json")])
def test_rules_and_dashboards_are_configmaps_of_all_there_is(directory, source):
    require_kustomize()
    (made,) = kustomized(DEPLOY / directory)
    files = {path.name: path.read_text("utf-8") for path in (DEPLOY / directory).glob(source)}
    assert files
    assert made["data"] == files
    assert sum(map(len, files.values())) < 1_000_000, "a ConfigMap holds no more than 1 MiB"
