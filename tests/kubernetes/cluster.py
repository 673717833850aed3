"""deploy/kubernetes as kubectl makes it, for each combination that has it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.combinations import VALID
from tests.project import Project
from tests.services import missing

type Manifest = dict[str, Any]

PLACES = [answers for answers in VALID if answers["deployment"] == "kubernetes"]
FOLDER = "deploy/kubernetes"
SERVERS, MIGRATION = f"{FOLDER}/production", f"{FOLDER}/production/migrate"


def build(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k folder` would apply."""
    program = shutil.which("kubectl")
    if not program:
        missing("kubectl", "kubernetes-client (of Debian 13)")
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


def hosts_of(cluster: Cluster) -> tuple[str, str]:
    """Return the names that the Ingress answers to, and those its certificate is for."""
    spec = cluster.one("Ingress", "site")["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    (host,) = tls["hosts"]
    return rule["host"], host
