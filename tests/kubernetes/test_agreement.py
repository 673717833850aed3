"""The manifests agree with the project: commands, ports, variables, timeouts, connections."""

import ast
import ipaddress
import re

import pytest

from tests.kubernetes.cluster import SERVERS, Cluster, container_of, fits, hosts_of
from tests.site import COMMANDS

pytestmark = pytest.mark.deploy

# PostgreSQL's own default, and what it keeps of that for superusers.
MAX_CONNECTIONS = 100 - 3


def number(text: str, pattern: str) -> int:
    """Return the one number that `pattern` finds in `text`."""
    (found,) = set(re.findall(pattern, text, re.MULTILINE))
    return int(found)


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
    manifest = " ".join(
        cluster.project.read(f"{SERVERS}/kustomization.yaml").replace("#", "").split()
    )
    total = 0
    for role, deployment in cluster.roles.items():
        container = container_of(deployment["spec"]["template"])
        if "gunicorn" in container["command"]:
            server, configuration = "gunicorn", cluster.project.read("config/gunicorn.conf.py")
            assert number(configuration, r"^threads = (\d+)$") == usual["gunicorn"]
            most = number(configuration, r"^MAX_THREADS = max\(threads, min\((\d+),")
            assert f"up to {most} in a pod" in manifest
        else:
            server = "uvicorn"
            assert f"about {usual[server]} connections, and more" in readme
        (processes,) = [
            int(variable["value"])
            for variable in container["env"]
            if variable["name"] == "WEB_CONCURRENCY"
        ]
        scaler = cluster.one("HorizontalPodAutoscaler", role)["spec"]
        assert scaler["minReplicas"] < scaler["maxReplicas"]
        surge = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        pods = scaler["maxReplicas"] + surge
        assert re.search(rf"{pods} pods (of {role} )?× {usual[server]} ", manifest)
        total += pods * processes * usual[server]

    assert f" = {total}, of the {MAX_CONNECTIONS} that PostgreSQL allows" in manifest
    assert total <= MAX_CONNECTIONS
