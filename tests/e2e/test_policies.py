"""NetworkPolicies on a real cluster, in both families: who is let through, who isn't; kubelets' probes always are."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from tests.e2e.documents import PORT, agnhost, apply, deployment, namespace, pod, policy, remove, service
from tests.e2e.running import Place, Running, all_running, eventually
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE

SHOP = "shop"
FRIEND = {"matchLabels": {"app": "friend"}}
DENY = policy("deny", {}, in_namespace=SHOP, ingress=[], egress=[])
DENY_DB = policy("deny-db", {"app": "db"}, in_namespace=SHOP, ingress=[])


@dataclass(frozen=True, slots=True)
class Shop:
    """A database, and who asks it: a friend and a stranger on other nodes, and one of another namespace."""

    cluster: Cluster
    db: Running
    friend: Running
    stranger: Running
    visitor: Running

    def heard(self, who: Running) -> str:
        """What they meet at the database's addresses; if not the same at each, all of it."""
        return "/".join(dict.fromkeys(who.place.hears(address, seconds=0.5) for address in self.db.addresses))

    def until(self, friend: str, stranger: str, visitor: str) -> None:
        """Wait until each meets this at the database."""
        wanted = ((self.friend, friend), (self.stranger, stranger), (self.visitor, visitor))
        eventually(
            f"{[(who.name, heard) for who, heard in wanted]}",
            lambda: all(self.heard(who) == heard for who, heard in wanted),
        )


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Shop]:
    documents = (
        namespace(SHOP),
        namespace("bank", team="visitors"),
        pod("db", agnhost(), node="node-1", in_namespace=SHOP),
        pod("friend", agnhost(), node="node-2", in_namespace=SHOP),
        pod("stranger", agnhost(), node="node-1", in_namespace=SHOP),
        pod("visitor", agnhost(), node="node-3", in_namespace="bank"),
    )
    apply(cluster, *documents)
    names = (("db", SHOP), ("friend", SHOP), ("stranger", SHOP), ("visitor", "bank"))
    yield Shop(cluster, *(all_running(cluster, f"app={name}", 1, where)[0] for name, where in names))
    remove(cluster, *documents)


@pytest.fixture
def shop(pods: Shop) -> Iterator[Shop]:
    """Before and after each test nobody is isolated."""
    pods.until("open", "open", "open")
    yield pods
    pods.cluster.kubectl("delete", "networkpolicies", "--all", "-n", SHOP)


def db_lets_in(*peers: Document) -> Document:
    rule = {"from": list(peers), "ports": [{"port": PORT}]}
    return policy("allow", {"app": "db"}, in_namespace=SHOP, ingress=[rule])


def heard(who: Running, address: str) -> str:
    return who.place.hears(address, seconds=0.5)


def test_a_pod_that_is_selected_hears_nobody(shop: Shop) -> None:
    apply(shop.cluster, DENY_DB)
    shop.until("silent", "silent", "silent")
    assert shop.db.place.fetch(shop.friend.address) == "friend"


def test_who_is_allowed_by_labels_comes_through(shop: Shop) -> None:
    apply(shop.cluster, DENY_DB, db_lets_in({"podSelector": FRIEND}))
    shop.until("open", "silent", "silent")


def test_a_namespace_is_allowed_by_its_labels(shop: Shop) -> None:
    apply(shop.cluster, db_lets_in({"namespaceSelector": {"matchLabels": {"team": "visitors"}}}))
    shop.until("silent", "silent", "open")


def test_a_network_is_allowed_but_for_a_part(shop: Shop) -> None:
    everybody = zip(("0.0.0.0/0", "::/0"), map(ip_network, shop.stranger.addresses), strict=True)
    blocks = ({"ipBlock": {"cidr": cidr, "except": [str(stranger)]}} for cidr, stranger in everybody)
    apply(shop.cluster, db_lets_in(*blocks))
    shop.until("open", "silent", "open")


@pytest.mark.parametrize(("cidr", "heard"), [("0.0.0.0/0", "open/silent"), ("::/0", "silent/open")])
def test_a_network_is_of_one_family(shop: Shop, cidr: str, heard: str) -> None:
    apply(shop.cluster, db_lets_in({"ipBlock": {"cidr": cidr}}))
    shop.until(heard, heard, heard)


def test_a_changed_label_is_followed(shop: Shop) -> None:
    apply(shop.cluster, db_lets_in({"podSelector": {"matchLabels": {"role": "buyer"}}}))
    shop.until("silent", "silent", "silent")
    shop.cluster.kubectl("label", "pod", "stranger", "role=buyer", "-n", SHOP)
    shop.until("silent", "open", "silent")
    shop.cluster.kubectl("label", "pod", "stranger", "role-", "-n", SHOP)
    shop.until("silent", "silent", "silent")


def test_agnhost_says_the_same_from_inside(shop: Shop) -> None:
    apply(shop.cluster, db_lets_in({"podSelector": FRIEND}))
    shop.until("open", "silent", "silent")
    connect = ("--", "/agnhost", "connect", f"{shop.db.address}:{PORT}", "--timeout=1s", "--protocol=tcp")
    assert shop.cluster.kubectl_said("exec", "-n", SHOP, "friend", *connect).status == 0
    refused = shop.cluster.kubectl_said("exec", "-n", SHOP, "stranger", *connect)
    assert (refused.status, "TIMEOUT" in refused.out + refused.err) == (1, True)


def test_what_leaves_a_pod_is_denied_and_allowed(shop: Shop) -> None:
    only_db = {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": PORT}]}
    apply(shop.cluster, policy("only-db", {"app": "friend"}, in_namespace=SHOP, egress=[only_db]))
    for address in (*shop.stranger.addresses, *shop.visitor.addresses):
        eventually("the friend reaches nobody else", lambda to=address: heard(shop.friend, to) == "silent")  # type: ignore[misc]
    assert shop.heard(shop.friend) == "open"
    assert shop.stranger.place.fetch(shop.friend.address) == "friend"


def test_its_node_reaches_a_pod_that_nobody_else_does(shop: Shop) -> None:
    apply(shop.cluster, DENY)
    shop.until("silent", "silent", "silent")
    assert [Place(shop.db.node.machine).fetch(address) for address in shop.db.addresses] == ["db", "db"]


def test_a_kubelets_probes_pass_where_nothing_else_does(shop: Shop) -> None:
    guarded = deployment("guarded", 3, agnhost(probed=True), in_namespace=SHOP)
    apply(shop.cluster, DENY, guarded, service("guarded", in_namespace=SHOP))
    found = all_running(shop.cluster, "app=guarded", 3, SHOP)
    assert {one.node.name for one in found} == {"node-1", "node-2", "node-3"}
    assert {heard(shop.visitor, address) for one in found for address in one.addresses} == {"silent"}
    remove(shop.cluster, guarded, service("guarded", in_namespace=SHOP))


@pytest.mark.parametrize(("isolated", "phase"), [(True, "Failed"), (False, "Succeeded")])
def test_a_pod_is_isolated_before_its_first_packet(shop: Shop, isolated: bool, phase: str) -> None:
    if isolated:
        apply(shop.cluster, policy("still", {"app": "hasty"}, in_namespace=SHOP, egress=[]))
    else:
        apply(shop.cluster, policy("still", {"app": "nobody"}, in_namespace=SHOP, egress=[]))
    places = (f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}" for address in shop.db.addresses)
    # It fails if one can't be reached that should be, and succeeds if one can that shouldn't.
    connect = (" || " if isolated else " && ").join(f"/agnhost connect {place} --timeout=2s" for place in places)
    container = {"name": "c", "image": AGNHOST_IMAGE, "command": ["/bin/sh", "-c", connect]}
    spec: Document = {"restartPolicy": "Never", "containers": [container]}
    hasty = pod("hasty", spec, node="node-2", in_namespace=SHOP)
    apply(shop.cluster, hasty)
    path = f"/api/v1/namespaces/{SHOP}/pods/hasty"
    eventually("hasty ended", lambda: shop.cluster.api.get(path)["status"]["phase"] in ("Failed", "Succeeded"))
    assert shop.cluster.api.get(path)["status"]["phase"] == phase
    remove(shop.cluster, hasty)
