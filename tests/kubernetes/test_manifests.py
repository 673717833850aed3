"""What kubectl makes of deploy/kubernetes is valid and shut."""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions, major_minor

from tests.conftest import Bake
from tests.kubernetes.cluster import (
    FOLDER,
    PLACES,
    Cluster,
    Manifest,
    build,
    container_of,
    hosts_of,
    name_in,
)
from tests.project import Project

pytestmark = pytest.mark.deploy

# The two newest that there are schemas of.
VERSIONS = list(dict.fromkeys(map(major_minor, all_versions())))[-2:]


def sources(project: Project) -> Iterator[Manifest]:
    """Yield all manifests as they stand in the files."""
    for name in sorted(project.files()):
        if name.startswith(f"{FOLDER}/") and not name.endswith("kustomization.yaml"):
            yield from yaml.safe_load_all(project.read(name))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_in_the_files_and_as_built(cluster: Cluster, version: str) -> None:
    manifests = [*sources(cluster.project), *cluster.everything]
    assert len(manifests) > 15
    for manifest in manifests:
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_redis_of_the_readme_is_one_that_the_site_finds(cluster: Cluster) -> None:
    text = cluster.project.read("deploy/README.md")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    _, *manifests = [manifest for block in blocks for manifest in yaml.safe_load_all(block)]
    if cluster.project.is_(realtime="none"):
        assert not manifests
        return

    deployment, service = manifests
    for manifest in manifests:
        assert kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["metadata"]["namespace"] == cluster.project.slug.replace("_", "-")
    pod = deployment["spec"]["template"]
    # What base/network-policies.yaml opens, and what REDIS_URL says.
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/name": "redis"}
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert f"redis://{name_in(service)}:{service['spec']['ports'][0]['port']}/0" in text
    # Of the level that the namespace enforces.
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container_of(pod)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# Answers what the operator has made, and does not ask a cluster for the rest.
KUBECTL = """#!/bin/sh
case "$*" in
*"get secret postgresql-app -o jsonpath={.data.uri}") printf cG9zdGdyZXNxbDovLw== ;;
*) exec "$KUBECTL" "$@" --dry-run=client -o yaml ;;
esac
"""


def test_secret_of_the_readme_has_all_that_the_pods_want(cluster: Cluster, tmp_path: Path) -> None:
    """And its values are in no file."""
    text = cluster.project.read("deploy/README.md")
    [command] = re.findall(r"^```\n(kubectl [^\n]* create secret .*?)^```$", text, re.M | re.S)
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    made = cluster.project.must(
        "bash", "-euc", command,
        KUBECTL=str(shutil.which("kubectl")), PATH=f"{tmp_path}:{os.environ['PATH']}",
    )  # fmt: skip

    secret = yaml.safe_load(made)
    wanted = {
        variable["name"]
        for pod in cluster.pods.values()
        for variable in container_of(pod)["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert secret["data"].keys() == wanted
    assert base64.b64decode(secret["data"]["DATABASE_URL"]) == b"postgresql://"
    assert len(base64.b64decode(secret["data"]["DJANGO_SECRET_KEY"])) > 50
    # As the manifests have them.
    assert secret["metadata"]["name"] == "site"
    assert f" -n {cluster.project.slug.replace('_', '-')} " in command


def test_a_misspelled_field_would_be_found(cluster: Cluster) -> None:
    for manifest in cluster.everything:
        wrong = {**manifest, "spec": {**manifest.get("spec", {}), "replicaz": 2}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_everything_is_there_once_and_in_its_namespace(cluster: Cluster) -> None:
    both = cluster.project.is_(interface="both")
    roles = ["live", "pages"] if both else ["web"]
    redis = [] if cluster.project.is_(realtime="none") else ["redis"]
    policies = ["certificates", "default-deny", "postgresql", *redis, "site"]

    assert sorted(cluster.roles) == roles
    for kind in ("Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
        assert sorted(map(name_in, cluster.all(kind))) == roles
    assert sorted(map(name_in, cluster.all("NetworkPolicy"))) == policies
    assert len(cluster.servers) == 4 * len(roles) + len(policies) + 2
    for manifest in cluster.everything:
        assert manifest["metadata"]["namespace"] == cluster.project.slug.replace("_", "-")


def test_what_production_says_arrives_everywhere(bake: Bake, tmp_path: Path) -> None:
    project = bake(**PLACES[-1])
    shutil.copytree(project.path / FOLDER, tmp_path, dirs_exist_ok=True)
    for name, old, new in (
        ("production/settings", "namespace: corner-shop", "namespace: shop"),
        (
            "production/settings",
            "newName: registry.example.com/corner-shop",
            "newName: r.test/shop",
        ),
        ("production/settings", 'newTag: "1"', 'newTag: "2026.11"'),
        ("production/settings", "HOSTS=example.com", "HOSTS=shop.test,www.shop.test"),
        ("production", "value: traefik", "value: haproxy"),
    ):
        file = tmp_path / name / "kustomization.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    changed = Cluster(
        project, build(tmp_path / "production"), build(tmp_path / "production/migrate")
    )

    assert {container_of(pod)["image"] for pod in changed.pods.values()} == {"r.test/shop:2026.11"}
    assert {manifest["metadata"]["namespace"] for manifest in changed.everything} == {"shop"}
    assert hosts_of(changed) == ("shop.test", "shop.test")
    text = yaml.safe_dump_all(changed.everything)
    assert not re.search(r"example\.com/|corner-shop:|traefik|set-in-production|\.invalid", text)
    assert "DJANGO_ALLOWED_HOSTS: shop.test,www.shop.test" in text


def test_pods_follow_a_changed_setting(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(cluster.project.path / FOLDER, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "production/settings/kustomization.yaml"
    file.write_text(file.read_text().replace("EMAIL_FROM=", "EMAIL_FROM=new-"))
    changed = Cluster(
        cluster.project, build(tmp_path / "production"), build(tmp_path / "production/migrate")
    )

    for name, pod in cluster.pods.items():
        ((before,), (after,)) = (
            {source["configMapRef"]["name"] for source in container_of(a_pod)["envFrom"]}
            for a_pod in (pod, changed.pods[name])
        )
        assert before != after
        # Servers and migration have the same one, whichever is applied first.
        assert {name_in(config) for config in cluster.all("ConfigMap")} == {before}
        assert {name_in(config) for config in changed.all("ConfigMap")} == {after}


def test_applying_the_servers_never_starts_a_migration(cluster: Cluster) -> None:
    assert not [manifest for manifest in cluster.servers if manifest["kind"] == "Job"]
    assert sorted(manifest["kind"] for manifest in cluster.migration) == ["ConfigMap", "Job"]
    job = cluster.one("Job", "migrate")["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_every_pod_is_restricted(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and some more."""
    assert len(cluster.pods) == len(cluster.roles) + 1
    for pod in cluster.pods.values():
        spec, container = pod["spec"], container_of(pod)
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert all("emptyDir" in volume for volume in spec["volumes"])
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"sysctls", "windowsOptions"} & set(spec["securityContext"])
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert not any("host" in probe["httpGet"] for probe in probes)

        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        resources = container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        # Without a limit of CPU the servers must be told how many processes they are.
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}


def test_nothing_secret_is_in_the_files(cluster: Cluster) -> None:
    assert not cluster.all("Secret")
    for name, value in cluster.settings.items():
        assert not re.search(r"SECRET|URL|PASSWORD|://", name + value), name
