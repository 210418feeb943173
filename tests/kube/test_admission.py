"""What the API server lets an agent change: what is its own node's, by the node that its token names."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.apiserver import ADMIN_TOKEN, ApiServer
from tests.kube.installed import BLOCKS, agent, installed, unbound
from tests.kube.programs import needs_kubernetes
from tests.kube.server import wait_for

pytestmark = needs_kubernetes

Document = dict[str, Any]
PODS = "/api/v1/namespaces/shop/pods"
CONFIGURATIONS = "/apis/tortie.dev/v1/clusterconfigurations"
CONTENT = "application/merge-patch+json"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """The cluster, without blocks, and with nodes that may borrow."""
    found = installed()
    for path in (BLOCKS, "/apis/tortie.dev/v1/nodes", CONFIGURATIONS, f"{PODS}?gracePeriodSeconds=0"):
        assert found.ask("DELETE", path)[0] == 200
    yield found
    found.ask("DELETE", CONFIGURATIONS)


def block(node: str, **spec: object) -> Document:
    known = {"cidr": "10.65.0.64/26", "pool": "p", "cell": "10.65.0.0/20", "node": node, "ready": True, "fresh": 3}
    labels = {f"node.index.tortie.dev/{node}": ""}
    return {
        "apiVersion": "tortie.dev/v1",
        "kind": "IPBlock",
        "metadata": {"name": "10-65-0-64-26", "labels": labels},
        "spec": {**known, **spec},
    }


def owner(node: str) -> Document:
    return {"handle": f"podnet:{secrets.token_hex(4)}:eth0", "id": secrets.token_hex(8), "node": node}


def made(server: ApiServer, document: Document) -> Document:
    found: Document = server.make(BLOCKS, document)
    return found


def put(server: ApiServer, document: Document, node: str) -> tuple[int, Document]:
    return server.ask("PUT", f"{BLOCKS}/{document['metadata']['name']}", document, token=agent(server, node))


def refused(answer: tuple[int, Document], *words: str) -> None:
    status, said = answer
    assert status == 403, said
    assert all(word in said["message"] for word in words), said["message"]


def test_an_agent_makes_changes_and_deletes_blocks_of_its_node(server: ApiServer) -> None:
    token = agent(server, "n1")
    status, found = server.ask("POST", BLOCKS, block("n1"), token=token)
    assert status == 201, found
    found["spec"]["allocations"] = {"0": owner("n1")}
    status, found = put(server, found, "n1")
    assert status == 200, found
    assert server.ask("DELETE", f"{BLOCKS}/10-65-0-64-26", token=token)[0] == 200


def test_another_nodes_block_can_be_neither_made_nor_deleted(server: ApiServer) -> None:
    token = agent(server, "n1")
    refused(server.ask("POST", BLOCKS, block("n2"), token=token), "of node n2", "runs on node n1")
    made(server, block("n2"))
    refused(server.ask("DELETE", f"{BLOCKS}/10-65-0-64-26", token=token), "of node n2", "runs on node n1")
    refused(server.ask("DELETE", BLOCKS, token=token), "cannot deletecollection")


def test_a_block_stays_its_nodes(server: ApiServer) -> None:
    found = made(server, block("n1"))
    found["spec"]["node"] = "n2"
    refused(put(server, found, "n1"), "stays its node's")
    refused(put(server, found, "n2"), "stays its node's")


def test_who_borrows_changes_its_own_addresses(server: ApiServer) -> None:
    theirs = owner("n2")
    found = made(server, block("n2", allocations={"0": theirs}, released=[[1, 1700000000]]))
    found["spec"]["allocations"] = {"0": theirs, "1": owner("n1")}
    found["spec"] |= {"released": []}
    found["metadata"]["labels"]["node.index.tortie.dev/n1"] = ""
    status, found = put(server, found, "n1")
    assert status == 200, found
    del found["spec"]["allocations"]["1"]
    del found["metadata"]["labels"]["node.index.tortie.dev/n1"]
    found["spec"] |= {"released": [[1, 1700000009]], "history": [{"ordinal": 1, "node": "n1"}]}
    status, found = put(server, found, "n1")
    assert status == 200, found


def test_the_owner_of_a_block_may_free_what_was_borrowed(server: ApiServer) -> None:
    found = made(server, block("n2", allocations={"0": owner("n1")}))
    del found["spec"]["allocations"]
    status, said = put(server, found, "n2")
    assert status == 200, said


WRONG = {
    "take another's address": {"0": "n1"},
    "free another's address": {},
    "give an address in another's name": {"0": None, "1": "n3"},
}


@pytest.mark.parametrize("after", WRONG.values(), ids=WRONG)
def test_who_borrows_may_not(after: dict[str, str | None], server: ApiServer) -> None:
    theirs = owner("n2")
    found = made(server, block("n2", allocations={"0": theirs}))
    found["spec"]["allocations"] = {ordinal: owner(node) if node else theirs for ordinal, node in after.items()}
    refused(put(server, found, "n1"), "of node n2", "its own addresses alone")


@pytest.mark.parametrize(
    "change",
    [{"pool": "q"}, {"machine": "m"}, {"ready": False}, {"frozen": "x"}, {"claimedAt": 5}],
    ids=lambda change: next(iter(change)),
)
def test_who_borrows_changes_nothing_of_the_block_itself(change: Document, server: ApiServer) -> None:
    found = made(server, block("n2"))
    found["spec"] |= change
    refused(put(server, found, "n1"), "of node n2", "nothing else")


PAST = {"ordinal": 4, "namespace": "shop", "pod": "old", "since": 1, "until": 2}
KNOWN: Document = {"fresh": 4, "released": [[2, 1700000000], [3, 1700000001]], "history": [PAST]}
"""With the lender's 0 and the borrower's 1: a block as it should be."""
HERS = {"ordinal": 1, "namespace": "shop", "pod": "mine", "node": "n1", "since": 3, "until": 4}


def lent(server: ApiServer) -> Document:
    """A block of n2, in which n1 has the ordinal 1."""
    return made(server, block("n2", allocations={"0": owner("n2"), "1": owner("n1")}, **KNOWN))


def freed(found: Document) -> Document:
    """What n1 makes of it when its pod ends."""
    allocations = {"0": found["spec"]["allocations"]["0"]}
    released = [*KNOWN["released"], [1, 1700000009]]
    return {**found["spec"], "allocations": allocations, "released": released, "history": [PAST, HERS]}


def test_who_borrows_frees_its_own_and_takes_what_was_released_or_new_past_what_is_reserved(server: ApiServer) -> None:
    found = lent(server)
    status, found = put(server, {**found, "spec": freed(found)}, "n1")
    assert status == 200, found
    more = {**found["spec"]["allocations"], "3": owner("n1"), "6": owner("n1")}
    released = [[4, 0], [5, 0], [2, 1700000000], [1, 1700000009]]
    found["spec"] |= {"allocations": more, "released": released, "fresh": 7}
    status, found = put(server, found, "n1")
    assert status == 200, found


FORGED_BOOKS: dict[str, Document] = {
    "lets an address that another freed cool no longer": {"released": [[2, 0], [3, 1700000001], [1, 1700000009]]},
    "loses an address that another freed": {"released": [[3, 1700000001], [1, 1700000009]]},
    "doesn't give back what it frees": {"released": KNOWN["released"]},
    "says that addresses in use were never used": {"fresh": 1},
    "says that addresses were used": {"fresh": 9},
    "forgets who had an address": {"history": [HERS]},
    "invents who had an address": {"history": [{**PAST, "ordinal": 7}, PAST, HERS]},
    "fills what is remembered with its own": {"history": [PAST, HERS, {**HERS, "ordinal": 8}]},
}


@pytest.mark.parametrize("change", FORGED_BOOKS.values(), ids=FORGED_BOOKS)
def test_who_borrows_keeps_the_lenders_books_right(change: Document, server: ApiServer) -> None:
    found = lent(server)
    refused(put(server, {**found, "spec": {**freed(found), **change}}, "n1"), "of node n2", "what is known of one")


def test_in_the_largest_block_of_all_it_costs_the_api_server_no_more_than_it_allows(server: ApiServer) -> None:
    """A /20: a policy that exceeds CEL's budget refuses everything."""
    theirs = {str(ordinal): owner("n2") for ordinal in range(0, 4095, 2)}
    released = [[ordinal, 1700000000 + ordinal] for ordinal in range(1, 4095, 2)]
    history = [{**PAST, "ordinal": ordinal} for ordinal in range(64)]
    wide = {"cidr": "10.65.0.0/20", "fresh": 4095, "allocations": theirs, "released": released, "history": history}
    document = block("n2", **wide)
    document["metadata"]["name"] = "10-65-0-0-20"
    found = made(server, document)
    found["spec"]["allocations"] = {**theirs, "1": owner("n1"), "4095": owner("n1")}
    found["spec"] |= {"released": released[1:], "fresh": 4096}
    status, found = put(server, found, "n1")
    assert status == 200, found
    del found["spec"]["allocations"]["1"]
    found["spec"] |= {"released": [*released[1:], [1, 1800000000]], "history": [*history[1:], HERS]}
    status, said = put(server, found, "n1")
    assert status == 200, said


def test_who_borrows_keeps_no_block_from_going_and_gives_it_no_owner(server: ApiServer) -> None:
    found = lent(server)
    found["metadata"]["finalizers"] = ["shop.example/forever"]
    refused(put(server, found, "n1"), "nothing else")


def test_who_borrows_takes_no_label_away_by_which_its_owner_finds_it(server: ApiServer) -> None:
    found = made(server, block("n2"))
    found["metadata"]["labels"] = {"node.index.tortie.dev/n1": ""}
    refused(put(server, found, "n1"), "labels")


def test_a_token_that_names_no_node_changes_nothing(server: ApiServer) -> None:
    token = unbound(server, "tortie-agent")
    refused(server.ask("POST", BLOCKS, block("n1"), token=token), "names no node", "run the agent as a pod")


def test_with_strict_affinity_nobody_borrows_and_what_was_borrowed_goes_back(server: ApiServer) -> None:
    released = [[ordinal, 5] for ordinal in range(1, 64)]
    found = made(server, block("n2", allocations={"0": owner("n1")}, released=released, fresh=64))
    configuration = {"apiVersion": "tortie.dev/v1", "kind": "ClusterConfiguration", "metadata": {"name": "default"}}
    server.make(CONFIGURATIONS, {**configuration, "spec": {"strictAffinity": True}})

    def more() -> tuple[int, Document]:
        _, now = server.ask("GET", f"{BLOCKS}/10-65-0-64-26")
        ordinal, _ = now["spec"]["released"].pop(0)
        now["spec"]["allocations"][str(ordinal)] = owner("n1")
        return put(server, now, "n1")

    wait_for("the configuration", lambda: more()[0] == 403)
    refused(more(), "may not borrow", "set spec.strictAffinity of ClusterConfiguration default to false")
    _, found = server.ask("GET", f"{BLOCKS}/10-65-0-64-26")
    found["spec"]["released"] += [[int(ordinal), 9] for ordinal in found["spec"].pop("allocations")]
    status, said = put(server, found, "n1")
    assert status == 200, said
    _, own = server.ask("GET", f"{BLOCKS}/10-65-0-64-26")
    own["spec"]["allocations"] = {"0": owner("n2")}
    assert put(server, own, "n2")[0] == 200


def test_an_agent_has_the_node_of_its_name_alone(server: ApiServer) -> None:
    token, path = agent(server, "n1"), "/apis/tortie.dev/v1/nodes"
    node = {"apiVersion": "tortie.dev/v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"machine": "m"}}
    status, found = server.ask("POST", path, node, token=token)
    assert status == 201, found
    assert server.ask("PUT", f"{path}/n1", found, token=token)[0] == 200
    refused(server.ask("PUT", f"{path}/n1", found, token=agent(server, "n2")), "agent of node 'n2'", "--node n2")
    refused(server.ask("POST", path, {**node, "metadata": {"name": "n3"}}, token=token), "agent of node 'n1'")


def test_an_agent_says_how_its_own_kubernetes_node_is(server: ApiServer) -> None:
    condition = {"type": "NetworkUnavailable", "status": "False", "reason": "TortieServes", "message": "serves"}
    body = {"status": {"conditions": [condition]}}
    answers = [
        server.ask("PATCH", "/api/v1/nodes/n1/status", body, token=agent(server, node), content=CONTENT)
        for node in ("n1", "n2")
    ]
    assert answers[0][0] == 200, answers[0][1]
    refused(answers[1], "agent of node 'n2'")


def test_an_agent_annotates_its_nodes_pods_and_changes_nothing_else(server: ApiServer) -> None:
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    server.make(PODS, {"metadata": {"name": "web"}, "spec": spec})
    note: Document = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": '["10.65.0.1"]'}}}

    def patched(body: Document, node: str, below: str = "/status") -> tuple[int, Document]:
        return server.ask("PATCH", f"{PODS}/web{below}", body, token=agent(server, node), content=CONTENT)

    status, found = patched(note, "n1")
    assert status == 200, found
    assert found["metadata"]["annotations"] == note["metadata"]["annotations"]
    refused(patched(note, "n2"), "agent of node 'n2'", "is on 'n1'")
    refused(patched({"status": {"phase": "Failed"}}, "n1"), "may annotate a pod")
    refused(patched(note, "n1", below=""), "cannot patch resource")


# The annotation in which agents tell addresses early

FORGED: Document = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": '["10.65.0.9"]'}}}
LEAVE_IT = ("is written by the agent of the pod's node alone", "leave it out")


def web(server: ApiServer, **spec: object) -> Document:
    """A pod, on n1 unless something else is said."""
    wanted = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], **spec}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": wanted}
    made: Document = server.make(PODS, document)
    return made


def test_nobody_makes_a_pod_that_tells_addresses(server: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "web", **FORGED["metadata"]}, "spec": spec}
    refused(server.ask("POST", PODS, body, token=ADMIN_TOKEN), *LEAVE_IT)
    asks = {**body, "metadata": {"name": "web", "annotations": {"cni.tortie.dev/ipAddrs": '["10.65.0.9"]'}}}
    assert server.ask("POST", PODS, asks, token=ADMIN_TOKEN)[0] == 201


@pytest.mark.parametrize("below", ["", "/status"])
def test_nobody_writes_a_pods_addresses_over(below: str, server: ApiServer) -> None:
    web(server)
    told: Document = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": '["10.65.0.1"]'}}}
    token = agent(server, "n1")
    assert server.ask("PATCH", f"{PODS}/web/status", told, token=token, content=CONTENT)[0] == 200
    for account in (ADMIN_TOKEN, agent(server, "n2"), unbound(server, "tortie-controller")):
        assert server.ask("PATCH", f"{PODS}/web{below}", FORGED, token=account, content=CONTENT)[0] == 403
    refused(server.ask("PATCH", f"{PODS}/web{below}", FORGED, token=ADMIN_TOKEN, content=CONTENT), *LEAVE_IT)


def test_who_changes_something_else_of_a_pod_or_takes_its_addresses_away_is_not_asked(server: ApiServer) -> None:
    web(server)
    told: Document = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": '["10.65.0.1"]'}}}
    assert server.ask("PATCH", f"{PODS}/web/status", told, token=agent(server, "n1"), content=CONTENT)[0] == 200
    _, found = server.ask("GET", f"{PODS}/web")
    found["metadata"]["labels"] = {"app": "web"}
    status, found = server.ask("PUT", f"{PODS}/web", found, token=ADMIN_TOKEN)
    assert (status, found["metadata"]["annotations"]) == (200, told["metadata"]["annotations"])
    ips = {"status": {"phase": "Running", "podIP": "10.65.0.1", "podIPs": [{"ip": "10.65.0.1"}]}}
    assert server.ask("PATCH", f"{PODS}/web/status", ips, token=ADMIN_TOKEN, content=CONTENT)[0] == 200
    gone: Document = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": None}}}
    assert server.ask("PATCH", f"{PODS}/web", gone, token=ADMIN_TOKEN, content=CONTENT)[0] == 200


@pytest.mark.parametrize("path", [f"{PODS}/web/binding", "/api/v1/namespaces/shop/bindings"])
def test_who_binds_a_pod_tells_no_addresses(path: str, server: ApiServer) -> None:
    web(server, nodeName="")
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": target}
    forged = {**binding, "metadata": {"name": "web", **FORGED["metadata"]}}
    refused(server.ask("POST", path, forged, token=ADMIN_TOKEN), *LEAVE_IT)
    assert server.ask("POST", path, binding, token=ADMIN_TOKEN)[0] == 201


def test_people_are_not_held_to_it(server: ApiServer) -> None:
    assert server.ask("POST", BLOCKS, block("n7"), token=ADMIN_TOKEN)[0] == 201
