"""What runs in a cluster is what the services are, on the ports and settings they know."""

from pathlib import Path

import yaml

from services.runtime.server import check_listening_is_safe, is_loopback
from services.runtime.settings import Settings
from tests.k8s.manifests import containers, named, of_kind, pods

ROOT = Path(__file__).resolve().parents[2]
SERVE_CONFIG = ROOT / "k8s/base/serve.yaml"


def settings_of(resources: list[dict]) -> dict[str, str]:
    (config,) = [
        c for c in of_kind(resources, "ConfigMap") if c["metadata"]["name"].startswith("settings-")
    ]
    return config["data"]


def component(pod: dict) -> str:
    return pod["metadata"]["labels"]["app.kubernetes.io/component"]


def test_every_process_of_the_services_runs(resources):
    processes = {"gateway", "encoder", "forecaster", "pipeline"}
    folders = {path.name for path in (ROOT / "services").iterdir() if path.is_dir()}
    assert processes <= folders
    config = yaml.safe_load(named(resources, "RayService", "compute")["spec"]["serveConfigV2"])
    running = {component(pod) for _, pod in pods(resources)} | {
        application["name"] for application in config["applications"]
    }
    assert processes <= running
    assert {"redis", "feature-server"} <= running


def test_gateway_and_pipeline_start_by_commands_that_exist(resources):
    args = {where: c.get("args") for where, c, _ in containers(resources)}
    assert args["Deployment/gateway/gateway"] == ["python", "-m", "services.gateway.main"]
    assert (ROOT / "services/gateway/main.py").is_file()
    assert args["CronJob/pipeline/pipeline"] == ["driftline", "refresh"]
    assert "def refresh(" in (ROOT / "services/cli/data.py").read_text()


def test_the_ray_service_serves_the_very_file_that_demo_and_tests_run(resources):
    served = named(resources, "RayService", "compute")["spec"]["serveConfigV2"]
    assert served == SERVE_CONFIG.read_text()


def test_applications_have_a_route_or_haproxy_skips_them(resources):
    config = yaml.safe_load(named(resources, "RayService", "compute")["spec"]["serveConfigV2"])
    assert all(application["route_prefix"] for application in config["applications"])
    assert config["grpc_options"]["grpc_servicer_functions"]


def test_configured_names_are_settings(resources):
    known = {f"DRIFTLINE_{name.upper()}" for name in Settings.model_fields}
    used = set(settings_of(resources))
    for _, container, _ in containers(resources):
        used |= {e["name"] for e in container.get("env", []) if e["name"].startswith("DRIFTLINE_")}
    assert used <= known, used - known


def test_configured_values_are_accepted(resources, monkeypatch):
    for name, value in settings_of(resources).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.online_store == "redis"
    assert not settings.data_dir.is_relative_to("/tmp")


def test_the_gateway_listens_outside_loopback_and_asks_everyone_for_a_credential(
    resources, monkeypatch
):
    for name, value in settings_of(resources).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert not is_loopback(settings.host)
    check_listening_is_safe(settings)
    assert settings.asks_for_credentials()
    # Hashes only, on the volume that all gateways share.
    assert settings.keys_path().is_relative_to(settings.data_dir)


def test_ports_agree_with_the_settings(resources, monkeypatch):
    for name, value in settings_of(resources).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    gateway = named(resources, "Service", "gateway")["spec"]["ports"]
    assert {p["name"]: p["port"] for p in gateway} == {
        "grpc": settings.port,
        "metrics": settings.metrics_port,
    }
    serve = named(resources, "RayService", "compute")["spec"]["serveService"]
    assert settings.serve_host == serve["metadata"]["name"]
    assert {p["name"]: p["port"] for p in serve["spec"]["ports"]} == {
        "serve": settings.serve_http_port,
        "serve-grpc": settings.serve_grpc_port,
    }
    config = yaml.safe_load(named(resources, "RayService", "compute")["spec"]["serveConfigV2"])
    assert config["grpc_options"]["port"] == settings.serve_grpc_port
    assert config.get("http_options", {}).get("port", 8000) == settings.serve_http_port


def test_a_services_target_port_exists_in_the_pods_it_selects(resources):
    for service in of_kind(resources, "Service"):
        selector = service["spec"]["selector"]
        wanted = selector.items()
        selected = [p for _, p in pods(resources) if wanted <= p["metadata"]["labels"].items()]
        assert selected, service["metadata"]["name"]
        for pod in selected:
            ports = {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
            assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


def test_grpc_is_exposed_as_kuberay_and_meshes_expect(resources):
    spec = named(resources, "RayService", "compute")["spec"]
    head = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "serve-grpc", "containerPort": 9000} in head["ports"]
    grpc = next(p for p in spec["serveService"]["spec"]["ports"] if p["name"] == "serve-grpc")
    assert grpc["appProtocol"] == "kubernetes.io/h2c"
    assert spec["upgradeStrategy"]["type"] == "NewCluster"


def test_every_ray_pod_balances_with_haproxy(resources):
    ray = [c for where, c, _ in containers(resources) if where.startswith("RayService/")]
    assert len(ray) == 3
    for container in ray:
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_ray_is_the_version_that_was_tested(resources):
    version = named(resources, "RayService", "compute")["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_production_has_a_gpu_worker(prod):
    groups = named(prod, "RayService", "compute")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    gpu = next(g for g in groups if g["groupName"] == "gpu")
    assert gpu["replicas"] >= 1
    limits = gpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) == int(gpu["rayStartParams"]["num-gpus"])


def test_runs_of_the_pipeline_never_overlap(resources):
    spec = named(resources, "CronJob", "pipeline")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 0
    assert spec["jobTemplate"]["spec"]["backoffLimit"] <= 3


def test_a_gateway_drains_before_it_is_killed(resources, monkeypatch):
    for name, value in settings_of(resources).items():
        monkeypatch.setenv(name, value)
    pod = named(resources, "Deployment", "gateway")["spec"]["template"]["spec"]
    pre_stop_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop_s + Settings().drain_s < pod["terminationGracePeriodSeconds"]


def test_each_gateway_writes_an_inbox_of_its_own(resources):
    (gateway,) = [c for where, c, _ in containers(resources) if where.endswith("/gateway")]
    (writer,) = [e for e in gateway["env"] if e["name"] == "DRIFTLINE_WRITER"]
    assert writer["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_the_autoscaler_owns_the_number_of_gateways(resources):
    assert "replicas" not in named(resources, "Deployment", "gateway")["spec"]
    scaler = named(resources, "HorizontalPodAutoscaler", "gateway")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "gateway"
    assert scaler["minReplicas"] < scaler["maxReplicas"]


def test_production_spreads_gateways_over_hosts_and_zones(prod):
    pod = named(prod, "Deployment", "gateway")["spec"]["template"]["spec"]
    assert {c["topologyKey"] for c in pod["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_what_pods_refer_to_exists(resources):
    made = {
        kind: {r["metadata"]["name"] for r in of_kind(resources, kind)}
        for kind in ("PersistentVolumeClaim", "ConfigMap", "ServiceAccount")
    }
    for where, pod in pods(resources):
        assert pod["spec"]["serviceAccountName"] in made["ServiceAccount"], where
        for volume in pod["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in made["PersistentVolumeClaim"], where
            if "configMap" in volume:
                assert volume["configMap"]["name"] in made["ConfigMap"], where
    for where, container, _ in containers(resources):
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in made["ConfigMap"], where


def test_what_containers_mount_is_a_volume_of_their_pod(resources):
    claimed = {
        t["metadata"]["name"]
        for s in of_kind(resources, "StatefulSet")
        for t in s["spec"]["volumeClaimTemplates"]
    }
    for where, container, spec in containers(resources):
        volumes = {volume["name"] for volume in spec["volumes"]} | claimed
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, where


def test_redis_survives_a_restart_and_evicts_nothing(resources):
    assert named(resources, "StatefulSet", "redis")["spec"]["volumeClaimTemplates"]
    (config,) = [
        c["data"]["redis.conf"]
        for c in of_kind(resources, "ConfigMap")
        if "redis.conf" in c.get("data", {})
    ]
    assert "appendonly yes" in config
    assert "maxmemory-policy noeviction" in config


def test_feast_serves_the_store_that_the_services_write(resources):
    config = next(
        yaml.safe_load(c["data"]["feature_store.yaml"])
        for c in of_kind(resources, "ConfigMap")
        if "feature_store.yaml" in c.get("data", {})
    )
    assert config["online_store"]["type"] == "redis"
    assert config["registry"]["registry_type"] == "sql"
    assert config["offline_store"]["type"] == "duckdb"
