"""deploy/kubernetes: what kubectl makes of it is valid, shut, and agrees with the project."""

import ast
import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions, major_minor

from tests import services
from tests.combinations import VALID, name_of
from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import free_port, missing
from tests.site import COMMANDS, running

pytestmark = pytest.mark.deploy

type Manifest = dict[str, Any]

PLACES = [answers for answers in VALID if answers["deployment"] == "kubernetes"]
FOLDER = "deploy/kubernetes"
SERVERS, MIGRATION = f"{FOLDER}/production", f"{FOLDER}/production/migrate"
# The two newest that there are schemas of.
VERSIONS = list(dict.fromkeys(map(major_minor, all_versions())))[-2:]
# PostgreSQL's own default, and what it keeps of that for superusers.
MAX_CONNECTIONS = 100 - 3


def build(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k folder` would apply."""
    program = shutil.which("kubectl")
    if not program:
        missing("kubectl", "kubernetes-client")
    run = subprocess.run([program, "kustomize", folder], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # Where something is deprecated it says so.
    assert not run.stderr
    return list(yaml.safe_load_all(run.stdout))


@dataclass(frozen=True)
class Cluster:
    """A project, and what of it is applied: the servers, and before them the migration."""

    project: Project
    servers: list[Manifest]
    migration: list[Manifest]

    @property
    def everything(self) -> list[Manifest]:
        return self.servers + self.migration

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.everything if manifest["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = [manifest for manifest in self.all(kind) if name_in(manifest) == name]
        return found

    @property
    def roles(self) -> dict[str, Manifest]:
        """The Deployments, by name."""
        return {name_in(deployment): deployment for deployment in self.all("Deployment")}

    @property
    def pods(self) -> dict[str, Manifest]:
        """The templates of all pods, by the name of what makes them."""
        return {
            name_in(manifest): manifest["spec"]["template"]
            for manifest in self.everything
            if "template" in manifest.get("spec", {})
        }

    @property
    def settings(self) -> dict[str, str]:
        return self.all("ConfigMap")[0]["data"]


def name_in(manifest: Manifest) -> str:
    return manifest["metadata"]["name"]


def container_of(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    return container


def fits(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.fixture(scope="module", params=PLACES, ids=name_of)
def cluster(request: pytest.FixtureRequest, bake: Bake) -> Cluster:
    """Each combination for Kubernetes, built."""
    project = bake(**request.param)
    return Cluster(project, build(project.path / SERVERS), build(project.path / MIGRATION))


def number(text: str, pattern: str) -> int:
    """Return the one number that `pattern` finds in `text`."""
    (found,) = set(re.findall(pattern, text, re.MULTILINE))
    return int(found)


def sources(project: Project) -> Iterator[Manifest]:
    """Yield all manifests as they stand in the files."""
    for name in sorted(project.files()):
        if name.startswith(f"{FOLDER}/") and not name.endswith("kustomization.yaml"):
            yield from yaml.safe_load_all(project.read(name))


# Valid


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


# Shut


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


def hosts_of(cluster: Cluster) -> tuple[str, str]:
    """Return the names that the Ingress answers to, and those its certificate is for."""
    spec = cluster.one("Ingress", "site")["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    (host,) = tls["hosts"]
    return rule["host"], host


@dataclass(frozen=True)
class Peer:
    """A pod, by its namespace and labels, or an address outside of the cluster."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""

    def is_in(self, peers: list[Manifest] | None, namespace: str) -> bool:
        """Return whether a rule of a policy in `namespace` means this one by `peers`."""
        return not peers or any(self.is_meant(peer, namespace) for peer in peers)

    def is_meant(self, peer: Manifest, namespace: str) -> bool:
        assert peer.keys() <= {"namespaceSelector", "podSelector", "ipBlock"}
        if block := peer.get("ipBlock"):
            inside = self.address and ipaddress.ip_address(self.address)
            return bool(inside) and inside in ipaddress.ip_network(block["cidr"])
        if not self.namespace:
            return False
        labels = {"kubernetes.io/metadata.name": self.namespace}
        if "namespaceSelector" in peer:
            there = fits(labels_in(peer["namespaceSelector"]), labels)
        else:
            there = self.namespace == namespace
        return there and fits(labels_in(peer.get("podSelector", {})), dict(self.labels))


def labels_in(selector: Manifest) -> dict[str, str]:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {})


def may_reach(
    policies: list[Manifest], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Return whether `policies` let `source` open a connection to a port of `target`.

    https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that a
    policy is for may do, in each of its directions, what one of them allows; others all.
    """

    def allowed(direction: str, subject: Peer, other: Peer, key: str) -> bool:
        mine = [
            policy
            for policy in policies
            if policy["metadata"]["namespace"] == subject.namespace
            and fits(labels_in(policy["spec"]["podSelector"]), dict(subject.labels))
            and direction in policy["spec"]["policyTypes"]
        ]
        return not mine or any(
            other.is_in(rule.get(key), subject.namespace)
            and (
                "ports" not in rule
                or {"port": port, "protocol": protocol}
                in [{"protocol": "TCP", **entry} for entry in rule["ports"]]
            )
            for policy in mine
            for rule in policy["spec"].get(direction.lower(), [])
        )

    return allowed("Egress", source, target, "to") and allowed("Ingress", target, source, "from")


def test_who_may_speak_with_whom(cluster: Cluster) -> None:
    policies = cluster.all("NetworkPolicy")
    here = cluster.project.slug.replace("_", "-")

    def pod(namespace: str, **labels: str) -> Peer:
        return Peer(namespace, tuple(labels.items()))

    name = "app.kubernetes.io/name"
    internet = Peer(address="203.0.113.7")
    other, stranger = pod(here), pod("elsewhere", **{name: here})
    controller = pod("traefik", **{name: "traefik"})
    postgresql, redis = pod(here, **{name: "postgresql"}), pod(here, **{name: "redis"})
    dns = pod("kube-system", **{"k8s-app": "kube-dns"})
    solver = pod(here, **{"acme.cert-manager.io/http01-solver": "true"})
    live = not cluster.project.is_(realtime="none")

    for template in cluster.pods.values():
        site = pod(here, **template["metadata"]["labels"])
        table = [
            (internet, site, 8000, False),
            (controller, site, 8000, True),
            (controller, site, 22, False),
            (other, site, 8000, False),
            (stranger, site, 8000, False),
            (site, site, 8000, False),
            (site, postgresql, 5432, True),
            (site, redis, 6379, live),
            (site, internet, 587, True),
            (site, internet, 443, False),
            (site, internet, 5432, False),
            (site, other, 8000, False),
            (site, stranger, 5432, False),
            (site, pod("kube-system"), 53, False),
            (site, pod("elsewhere", **{"k8s-app": "kube-dns"}), 53, False),
        ]
        for source, target, port, expected in table:
            assert may_reach(policies, source, target, port) is expected, (source, target, port)
        for protocol in ("TCP", "UDP"):
            assert may_reach(policies, site, dns, 53, protocol)

    for source, target, port, expected in [
        (other, postgresql, 5432, False),
        (stranger, postgresql, 5432, False),
        (controller, postgresql, 5432, False),
        (internet, postgresql, 5432, False),
        (redis, postgresql, 5432, False),
        (postgresql, postgresql, 5432, True),
        (pod("cnpg-system"), postgresql, 8000, True),
        (postgresql, internet, 443, True),
        (other, redis, 6379, False),
        (stranger, redis, 6379, False),
        (controller, redis, 6379, False),
        (internet, redis, 6379, False),
        (postgresql, redis, 6379, False),
        (redis, internet, 443, False),
        (other, internet, 443, False),
        (controller, solver, 8089, True),
        (stranger, solver, 8089, False),
        (solver, internet, 443, False),
    ]:
        assert may_reach(policies, source, target, port) is expected, (source, target, port)
    # This is no firewall for others.
    assert may_reach(policies, stranger, internet, 443)


# Of one mind with the project


def test_pods_run_the_image_as_it_is(cluster: Cluster) -> None:
    dockerfile = cluster.project.read("Dockerfile")
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.M)[0]
    port = number(dockerfile, r"^EXPOSE (\d+)$")
    default = ast.literal_eval(re.findall(r"^CMD (\[.*\])$", dockerfile, re.M)[0])
    servers = {
        "wsgi": {"web": "gunicorn"},
        "asgi": {"web": "uvicorn"},
        "both": {"pages": "gunicorn", "live": "uvicorn"},
    }[cluster.project.answers["interface"]]

    assert default in COMMANDS.values()
    for pod in cluster.pods.values():
        context = pod["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
        assert container_of(pod)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert "args" not in container_of(pod)
    for role, server in servers.items():
        container = container_of(cluster.pods[role])
        assert container["command"] == COMMANDS[server]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
    if not cluster.project.is_(interface="both"):
        assert container_of(cluster.pods["web"])["command"] == default
    assert container_of(cluster.pods["migrate"])["command"] == [
        "python", "manage.py", "migrate", "--no-input",
    ]  # fmt: skip
    (rule,) = cluster.one("NetworkPolicy", "site")["spec"]["ingress"]
    assert rule["ports"] == [{"port": port}]


def test_everything_that_names_a_role_finds_its_pods(cluster: Cluster) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in cluster.pods.items()}

    def found_by(selector: dict[str, str]) -> list[str]:
        return [name for name in labels if fits(selector, labels[name])]

    for role, deployment in cluster.roles.items():
        service = cluster.one("Service", role)["spec"]
        budget = cluster.one("PodDisruptionBudget", role)["spec"]
        scaler = cluster.one("HorizontalPodAutoscaler", role)["spec"]
        assert found_by(deployment["spec"]["selector"]["matchLabels"]) == [role]
        assert found_by(service["selector"]) == [role]
        assert found_by(budget["selector"]["matchLabels"]) == [role]
        assert service["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
        assert scaler["scaleTargetRef"] == {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": role
        }  # fmt: skip
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [found_by(one["labelSelector"]["matchLabels"]) for one in spread] == 2 * [[role]]
        # A release never takes a pod away before there is another, nor does a node.
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {
            "maxUnavailable": 0, "maxSurge": 1
        }  # fmt: skip
        assert budget["maxUnavailable"] < scaler["minReplicas"]
        assert "replicas" not in deployment["spec"]
    assert found_by(cluster.one("NetworkPolicy", "site")["spec"]["podSelector"]["matchLabels"]) == [
        *cluster.pods
    ]


def test_ingress_divides_the_site_as_the_proxy_does(cluster: Cluster) -> None:
    (rule,) = cluster.one("Ingress", "site")["spec"]["rules"]
    both = cluster.project.is_(interface="both")
    wanted = {"/": "pages" if both else "web"}
    if both:
        proxy = cluster.project.read("config/settings.py")
        paths = ast.literal_eval(re.findall(r"^ASGI_PATHS = (\[.*\])$", proxy, re.M)[0])
        assert len(paths) > 1
        wanted |= dict.fromkeys(paths, "live")

    assert {
        path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]
    } == wanted
    for path in rule["http"]["paths"]:
        assert path["pathType"] == "Prefix"
        assert path["backend"]["service"]["port"] == {"name": "http"}
    first = cluster.settings["DJANGO_ALLOWED_HOSTS"].split(",")[0]
    assert hosts_of(cluster) == (first, first)


def test_variables_are_those_that_the_project_reads(cluster: Cluster) -> None:
    environment = cluster.project.read("config/environment.py")
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', environment))
    table = cluster.project.read("README.md")
    required = set(re.findall(r"^\| `([A-Z_]+)` \|.*required in production", table, re.M))
    assert len(required) == 3

    for name, pod in cluster.pods.items():
        variables = container_of(pod)["env"]
        given = {variable["name"] for variable in variables} | cluster.settings.keys()
        assert required <= given <= read
        for variable in variables:
            if "value" not in variable:
                assert variable["valueFrom"] == {
                    "secretKeyRef": {"name": "site", "key": variable["name"]}
                }
        if name != "migrate":
            # Copies of the site hear each other; and how many processes is no guess.
            assert {"EMAIL_URL", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"} <= given
            assert ("REDIS_URL" in read) == ("REDIS_URL" in given)
    # "*" would be no network.
    for entry in cluster.settings["FORWARDED_ALLOW_IPS"].split(","):
        assert ipaddress.ip_network(entry).prefixlen > 0


def test_timeouts_are_a_chain(cluster: Cluster) -> None:
    health = cluster.project.read("serving/health.py")
    checks = number(health, r"^TIMEOUT = (\d+)$")
    for role, deployment in cluster.roles.items():
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        gunicorn = "gunicorn" in container["command"]
        if gunicorn:
            config = cluster.project.read("config/gunicorn.conf.py")
            graceful = number(config, r"^graceful_timeout = (\d+)$")
        else:
            config = cluster.project.read("config/uvicorn_conf.py")
            production = config.partition("DEVELOPMENT_OPTIONS")[0]
            graceful = number(production, r'"timeout_graceful_shutdown": (\d+),$')

        pause = container["lifecycle"]["preStop"]["exec"]["command"]
        assert pause[0] == "sleep"
        assert 0 < int(pause[1]) + graceful < pod["terminationGracePeriodSeconds"], role
        probes = {
            name: (
                container[f"{name}Probe"]["httpGet"]["path"],
                container[f"{name}Probe"]["httpGet"]["port"],
            )
            for name in ("startup", "readiness", "liveness")
        }
        assert probes == {
            "startup": ("/health/live", "http"),
            "readiness": ("/health/ready", "http"),
            "liveness": ("/health/live", "http"),
        }
        for name in probes:
            probe = container[f"{name}Probe"]
            assert checks < probe["timeoutSeconds"] < probe["periodSeconds"]
        if gunicorn:
            liveness = container["livenessProbe"]
            # A page may take as long as the proxy waits for one, and holds a thread.
            assert liveness["failureThreshold"] * liveness["periodSeconds"] >= 60


def test_all_pods_together_find_room_in_postgresql(cluster: Cluster) -> None:
    """While they compute. How many connections they may have while they wait stands beside."""
    usual = {"gunicorn": 4, "uvicorn": 10}
    readme = cluster.project.read("README.md")
    manifest = cluster.project.read(f"{SERVERS}/kustomization.yaml")
    total = 0
    for role, deployment in cluster.roles.items():
        container = container_of(deployment["spec"]["template"])
        if "gunicorn" in container["command"]:
            server, configuration = "gunicorn", cluster.project.read("config/gunicorn.conf.py")
            assert number(configuration, r"^threads = (\d+)$") == usual["gunicorn"]
            most = number(configuration, r"^MAX_THREADS = max\(threads, min\((\d+),")
            assert f"up to {most} in a pod" in " ".join(manifest.replace("#", "").split())
        else:
            server = "uvicorn"
            assert f"some {usual[server]}, and more" in readme
        (processes,) = [
            int(variable["value"])
            for variable in container["env"]
            if variable["name"] == "WEB_CONCURRENCY"
        ]
        scaler = cluster.one("HorizontalPodAutoscaler", role)["spec"]
        assert scaler["minReplicas"] < scaler["maxReplicas"]
        surge = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        pods = scaler["maxReplicas"] + surge
        assert f"{pods} × {usual[server]}" in manifest
        total += pods * processes * usual[server]

    assert f"are {total} connections" in " ".join(manifest.replace("#", "").split())
    assert total <= MAX_CONNECTIONS


# Real: one with each server and each kind of live updates.
STARTED = [
    answers
    for answers in PLACES
    if (answers["interface"], answers["realtime"])
    in {("wsgi", "none"), ("asgi", "channels"), ("both", "sse")}
]


@pytest.mark.parametrize("answers", STARTED, ids=name_of)
def test_containers_need_nothing_but_their_environment(
    answers: dict[str, str],
    install: Bake,
    postgresql: services.PostgreSQL,
    redis: str,
    tmp_path: Path,
) -> None:
    """The migration, then each server until its probes are content, then its end."""
    project = install(**answers)
    cluster = Cluster(project, build(project.path / SERVERS), build(project.path / MIGRATION))
    secret = {
        "DJANGO_SECRET_KEY": PRODUCTION["DJANGO_SECRET_KEY"],
        "DATABASE_URL": postgresql.new_database(),
        "REDIS_URL": redis,
        "EMAIL_URL": "smtp+tls://user:password@mail.example.com:587",
    }
    # A person's .env is no part of the image.
    (project.path / ".env").unlink(missing_ok=True)

    def variables_of(pod: Manifest) -> dict[str, str]:
        return cluster.settings | {
            variable["name"]: variable.get("value") or secret[variable["name"]]
            for variable in container_of(pod)["env"]
        }

    migrate = cluster.pods["migrate"]
    output = project.must(*container_of(migrate)["command"], **variables_of(migrate))
    assert "Applying users.0001_initial... OK" in output
    project.must("python", "manage.py", "collectstatic", "--no-input", **variables_of(migrate))

    for role in cluster.roles:
        pod = cluster.pods[role]
        container = container_of(pod)
        variables = variables_of(pod) | {"HOST": "127.0.0.1"}
        log, port = tmp_path / f"{role}.log", free_port(3)
        with running(project, container["command"], log, port=port, **variables) as site:
            for name in ("startup", "readiness", "liveness"):
                probe = container[f"{name}Probe"]
                # The kubelet names the pod's address as host, and trusts no certificate.
                answer = httpx.get(
                    f"http://127.0.0.1:{port}{probe['httpGet']['path']}",
                    timeout=probe["timeoutSeconds"],
                )
                assert answer.status_code == 200, answer.text
            assert len(site.workers()) == int(variables["WEB_CONCURRENCY"])
            assert site.stop(pod["spec"]["terminationGracePeriodSeconds"]) == 0
