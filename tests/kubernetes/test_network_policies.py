"""Who may speak with whom in the cluster."""

import ipaddress
from dataclasses import dataclass

import pytest

from tests.kubernetes.cluster import Cluster, Manifest, fits

pytestmark = pytest.mark.deploy


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
