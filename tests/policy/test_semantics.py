"""What implementations of NetworkPolicy got wrong, point by point: by evaluate and by the rules, which must agree.

The numbers are those of our collection of such faults; K is kubernetes/kubernetes, the others are named by repository.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest

from datastore.resources.kubernetes import Pod
from kernel.tables import Family, TableName
from kernel.walk import FORWARDED, Packet
from policy import endpoints, names
from policy.evaluate import evaluate, pairs
from policy.model import Address, Endpoint, EndpointId, Policy, Protocol
from tests.policy.cluster import pod, policy, resources, snapshot
from tests.policy.nodes import UPLINK, Nodes, send

WEB, API, DB = (
    pod("shop/web", "10.0.0.1", {"app": "web"}),
    pod("shop/api", "10.0.0.2", {"app": "api"}),
    pod("shop/db", "10.0.0.3"),
)
OPS_API = pod("ops/api", "10.0.1.1", {"app": "api"}, node="n2")
OPS_WEB = pod("ops/web", "10.0.1.2", {"app": "web"}, node="n2")
PODS = (WEB, API, DB, OPS_API, OPS_WEB)
NAMESPACES = {"shop": {"team": "a"}, "ops": {"team": "b"}}
NODES = {"n1": ["192.0.2.1", "2001:db8::1"], "n2": ["192.0.2.2", "2001:db8::2"]}
OUTSIDE = ip_address("198.51.100.7")

End = Endpoint | Address


def _allowed(
    policies: Iterable[Policy],
    source: End,
    destination: End,
    port: int = 80,
    protocol: Protocol = Protocol.TCP,
    *,
    pods: Iterable[Endpoint] = PODS,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> bool:
    """What evaluate and the rules of both nodes agree on, for every family that both ends have."""
    cluster = snapshot(pods, policies, NAMESPACES if namespaces is None else namespaces, NODES)
    nodes = Nodes(NODES)
    nodes.update(cluster)
    answers = set()
    for pair in pairs(cluster, _end(source), _end(destination)):
        verdict = evaluate(cluster, _end(source), _end(destination), port, protocol, pair=pair)
        assert nodes.connects(*pair, port, protocol) is verdict.allowed, verdict.reason
        answers.add(verdict.allowed)
    (answer,) = answers
    return answer


def _end(end: End) -> EndpointId | Address:
    return end.id if isinstance(end, Endpoint) else end


def _to_db(rule: str, source: End) -> bool:
    return _allowed([policy(f"{{podSelector: {{}}, ingress: {rule}}}")], source, DB)


API_PODS, TEAM_B = "podSelector: {matchLabels: {app: api}}", "namespaceSelector: {matchLabels: {team: b}}"


@pytest.mark.parametrize(
    ("rules", "source", "expected"),
    [
        pytest.param("[]", WEB, False, id="no rules isolate"),
        pytest.param("[{}]", OUTSIDE, True, id="an empty rule allows all, outside too"),
        pytest.param("[{from: []}]", OUTSIDE, True, id="an empty from allows all, outside too"),
        pytest.param("[{from: [{podSelector: {}}]}]", API, True, id="an empty podSelector is the policy's namespace"),
        pytest.param("[{from: [{podSelector: {}}]}]", OPS_API, False, id="and no other namespace"),
        pytest.param("[{from: [{podSelector: {}}]}]", OUTSIDE, False, id="and nothing outside"),
        pytest.param("[{from: [{namespaceSelector: {}}]}]", OPS_WEB, True, id="an empty namespaceSelector is all pods"),
        pytest.param("[{from: [{namespaceSelector: {}}]}]", OUTSIDE, False, id="but nothing outside"),
        pytest.param(f"[{{from: [{{{TEAM_B}, {API_PODS}}}]}}]", OPS_API, True, id="both in one item: both hold"),
        pytest.param(f"[{{from: [{{{TEAM_B}, {API_PODS}}}]}}]", OPS_WEB, False, id="both in one item: one fails"),
        pytest.param(f"[{{from: [{{{TEAM_B}, {API_PODS}}}]}}]", API, False, id="both in one item: the other fails"),
        pytest.param(f"[{{from: [{{{TEAM_B}}}, {{{API_PODS}}}]}}]", OPS_WEB, True, id="two items: one holds"),
        pytest.param(f"[{{from: [{{{TEAM_B}}}, {{{API_PODS}}}]}}]", API, True, id="two items: the other holds"),
        pytest.param(f"[{{from: [{{{TEAM_B}}}, {{{API_PODS}}}]}}]", WEB, False, id="two items: neither holds"),
    ],
)
def test_1_what_empty_means_and_what_one_item_means(rules: str, source: End, expected: bool) -> None:
    """K#51726, cilium#4513, website#34867."""
    assert _to_db(rules, source) is expected


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        pytest.param("{podSelector: {}}", False, True, id="no types, no rules: ingress"),
        pytest.param("{podSelector: {}, egress: [{ports: [{port: 443}]}]}", False, False, id="egress rules: both"),
        pytest.param("{podSelector: {}, policyTypes: [Egress]}", True, False, id="Egress alone"),
        pytest.param("{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", False, True, id="Ingress alone"),
    ],
)
def test_2_policy_types_left_out(spec: str, ingress: bool, egress: bool) -> None:
    """K pull 51351."""
    assert _allowed([policy(spec)], OPS_API, DB) is ingress
    assert _allowed([policy(spec)], DB, OPS_API) is egress


def test_3_except_takes_from_its_own_block_only_and_pods_count() -> None:
    """K#83191, ovn-kubernetes#845, calico#6634."""
    excepted = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}"
    assert _to_db(f"[{{from: [{excepted}]}}]", WEB)
    assert not _to_db(f"[{{from: [{excepted}]}}]", OPS_API)
    assert _to_db(f"[{{from: [{excepted}, {{ipBlock: {{cidr: 10.0.1.1/32}}}}]}}]", OPS_API)
    assert _to_db(f"[{{from: [{excepted}]}}, {{from: [{{{TEAM_B}}}]}}]", OPS_API)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("{key: app, operator: NotIn, values: [web]}", True, id="NotIn without the label"),
        pytest.param("{key: app, operator: DoesNotExist}", True, id="DoesNotExist without the label"),
        pytest.param("{key: app, operator: Exists}", False, id="Exists without the label"),
        pytest.param("{key: app, operator: In, values: [web]}", False, id="In without the label"),
        pytest.param(
            "{key: app, operator: NotIn, values: [web]}, {key: app, operator: Exists}", False, id="all must hold"
        ),
    ],
)
def test_4_expressions_on_labels_that_are_not_there(expression: str, expected: bool) -> None:
    """K#81149, kube-router#614; for pods and for namespaces, as subject and as peer."""
    selector = f"{{matchExpressions: [{expression}]}}"
    bare = pod("bare/pod", "10.0.2.1")
    for peer in (f"{{namespaceSelector: {{}}, podSelector: {selector}}}", f"{{namespaceSelector: {selector}}}"):
        assert _allowed([policy(f"{{ingress: [{{from: [{peer}]}}]}}")], bare, DB, pods=[*PODS, bare]) is expected
    subject = policy(f"{{podSelector: {selector}}}")
    assert _allowed([subject], WEB, DB) is not expected


HTTP_80 = pod("shop/one", "10.0.0.11", {"app": "one"}, ports={"http": 80})
HTTP_8080 = pod("shop/two", "10.0.0.12", {"app": "two"}, ports={"http": 8080, "dns": "UDP/53"})


@pytest.mark.parametrize(
    ("direction", "port", "to", "number", "protocol", "expected"),
    [
        pytest.param(*row, id=f"{row[0]} {row[1]} {row[2].name} {row[4].value}/{row[3]}")
        for row in [
            (direction, *rest)
            for direction in ("ingress", "egress")
            for rest in [
                ("{port: http}", HTTP_80, 80, Protocol.TCP, True),
                ("{port: http}", HTTP_80, 8080, Protocol.TCP, False),
                ("{port: http}", HTTP_8080, 8080, Protocol.TCP, True),
                ("{port: http}", HTTP_8080, 80, Protocol.TCP, False),
                ("{port: http}", HTTP_8080, 8080, Protocol.UDP, False),
                ("{port: http, protocol: UDP}", HTTP_8080, 8080, Protocol.UDP, False),
                ("{port: dns, protocol: UDP}", HTTP_8080, 53, Protocol.UDP, True),
                ("{port: dns}", HTTP_8080, 53, Protocol.TCP, False),
                ("{port: none}", HTTP_8080, 80, Protocol.TCP, False),
            ]
        ]
    ],
)
def test_5_a_named_port_is_the_destinations_own(
    direction: str, port: str, to: Endpoint, number: int, protocol: Protocol, expected: bool
) -> None:
    """aws-network-policy-agent#149, aci-containers#1707, cilium#30003; empty `to`: K#99256, kube-router#1037.

    Both pods are in one group, so that a union of their numbers would show.
    """
    types = "policyTypes: [Egress], " if direction == "egress" else ""
    rule = policy(f"{{podSelector: {{}}, {types}{direction}: [{{ports: [{port}]}}]}}")
    assert _allowed([rule], WEB, to, number, protocol, pods=[WEB, HTTP_80, HTTP_8080]) is expected


@pytest.mark.parametrize(
    ("port", "number", "protocol", "expected"),
    [
        pytest.param("{port: 80, endPort: 90}", 79, Protocol.TCP, False, id="below the range"),
        pytest.param("{port: 80, endPort: 90}", 80, Protocol.TCP, True, id="its first port"),
        pytest.param("{port: 80, endPort: 90}", 90, Protocol.TCP, True, id="its last port"),
        pytest.param("{port: 80, endPort: 90}", 91, Protocol.TCP, False, id="above the range"),
        pytest.param("{port: 80, endPort: 90}", 85, Protocol.UDP, False, id="another protocol"),
        pytest.param("{protocol: UDP}", 53, Protocol.UDP, True, id="a protocol alone"),
        pytest.param("{protocol: UDP}", 53, Protocol.TCP, False, id="is that protocol"),
        pytest.param("{port: 53}", 53, Protocol.TCP, True, id="TCP by default"),
        pytest.param("{port: 53}", 53, Protocol.UDP, False, id="and nothing else"),
    ],
)
def test_6_ranges_and_protocols(port: str, number: int, protocol: Protocol, expected: bool) -> None:
    """cilium#28684."""
    assert _allowed([policy(f"{{ingress: [{{ports: [{port}]}}]}}")], WEB, DB, number, protocol) is expected


def test_7_sctp_isolates_and_never_becomes_tcp() -> None:
    """K pull 102509; and no rule needs xt_sctp: one bad rule would fail all others (kube-router#1245)."""
    rule = policy("{ingress: [{ports: [{port: 80, protocol: SCTP}]}]}")
    assert _allowed([rule], WEB, DB, 80, Protocol.SCTP)
    assert not _allowed([rule], WEB, DB, 80, Protocol.TCP)
    assert not _allowed([rule], WEB, DB, 81, Protocol.SCTP)
    nodes = Nodes(["n1"])
    nodes.update(snapshot(PODS, [rule]))
    tables = nodes.compilers["n1"].desired.tables.values()
    rules = [one for table in tables for chain in table.chains.values() for one in chain.rules]
    modules = {word for one in rules for before, word in zip(one.match, one.match[1:], strict=False) if before == "-m"}
    assert modules <= {"set", "multiport", "conntrack", "mark", "limit", "icmp", "icmp6", "hl", "addrtype"}


@pytest.mark.parametrize(
    ("node", "address", "expected"),
    [
        pytest.param("n1", 0, True, id="its own node"),
        pytest.param("n1", 1, True, id="its own node, IPv6"),
        pytest.param("n2", 0, False, id="another node"),
        pytest.param("n2", 1, False, id="another node, IPv6"),
    ],
)
def test_8_a_node_always_reaches_its_own_pods(node: str, address: int, expected: bool) -> None:
    """kube-network-policies#65, k3s#10030, kind#3875."""
    dual = pod("shop/db", ["10.0.0.3", "fd00::3"])
    deny = policy("{podSelector: {}}")
    assert _allowed([deny], ip_address(NODES[node][address]), dual, pods=[dual]) is expected


def test_9_a_pod_always_reaches_itself() -> None:
    """K#95879, K#125611, antrea#5687."""
    assert _allowed([policy("{podSelector: {}, policyTypes: [Ingress, Egress]}")], DB, DB)


def _established(nodes: Nodes, state: str) -> bool:
    seen = Packet(WEB.addresses[0], DB.addresses[0], "tcp", 80, WEB.interface, DB.interface, state)
    return send(nodes.compilers["n1"], FORWARDED, seen).accepted


def test_10_what_was_allowed_goes_on_and_what_is_new_is_judged() -> None:
    """calico#6399, website#43438, cilium#2569: replies always pass; a policy that goes cuts nothing."""
    nodes = Nodes(["n1"])
    deny = policy("{podSelector: {}}")
    nodes.update(snapshot(PODS))
    assert _established(nodes, "NEW")
    nodes.update(snapshot(PODS, [deny]))
    assert (_established(nodes, "NEW"), _established(nodes, "ESTABLISHED")) == (False, True)
    nodes.update(snapshot(PODS))
    assert _established(nodes, "ESTABLISHED")


def _pod(phase: str, address: str) -> Pod:
    meta = "{name: old, namespace: shop, labels: {app: api}}"
    text = f"{{kind: Pod, metadata: {meta}, status: {{phase: {phase}, podIP: {address}}}}}"
    (found,) = resources(text)
    assert isinstance(found, Pod)
    return found


def test_12_finished_pods_and_pods_without_an_address_are_nobody() -> None:
    """kube-router#1056, kube-router#378, antrea#6507: an address may be another pod's already."""
    assert endpoints.from_pod(_pod("Succeeded", "10.0.0.1")) is None
    assert endpoints.from_pod(_pod("Failed", "10.0.0.1")) is None
    assert endpoints.from_pod(_pod("Pending", "")) is None
    assert endpoints.from_pod(_pod("Pending", "10.0.0.1")) is not None


def test_12_an_address_that_changes_hands_is_counted() -> None:
    """weave#2632, weave#3177: the old pod's end doesn't take the new pod's address away."""
    rule = policy(f"{{podSelector: {{}}, ingress: [{{from: [{{{API_PODS}}}]}}]}}")
    heir = pod("shop/heir", "10.0.0.2", {"app": "api"})
    nodes = Nodes(["n1"])
    nodes.update(snapshot([*PODS, heir], [rule]))
    nodes.update(snapshot([one for one in (*PODS, heir) if one is not API], [rule]))
    assert nodes.connects(heir.addresses[0], DB.addresses[0], 80, Protocol.TCP)


def test_13_a_pod_that_nobody_has_told_of_is_closed() -> None:
    """kube-router#873, aws#186: before its members are in, nothing goes in or out."""
    nodes = Nodes(["n1"])
    nodes.update(snapshot([DB]))
    unknown = Packet(WEB.addresses[0], DB.addresses[0], "tcp", 80, WEB.interface, DB.interface)
    assert not send(nodes.compilers["n1"], FORWARDED, unknown).accepted
    to_it = Packet(DB.addresses[0], WEB.addresses[0], "tcp", 80, DB.interface, WEB.interface)
    assert not send(nodes.compilers["n1"], FORWARDED, to_it).accepted


def test_14_labels_and_selectors_that_change_count_at_once() -> None:
    """ovn-kubernetes#1850, kube-ovn#1920: pods' and namespaces' labels, as subject and as peer."""
    from_api = policy(f"{{podSelector: {{}}, ingress: [{{from: [{{{API_PODS}}}, {{{TEAM_B}}}]}}]}}")
    nodes = Nodes(NODES)

    def passes(source: Endpoint, *policies: Policy, namespaces: Mapping[str, Mapping[str, str]] = NAMESPACES) -> bool:
        cluster = snapshot([source, *(one for one in PODS if one.id != source.id)], policies, namespaces, NODES)
        nodes.update(cluster)
        return nodes.connects(source.addresses[0], DB.addresses[0], 80, Protocol.TCP)

    assert not passes(WEB, from_api)
    assert passes(replace(WEB, labels={"app": "api"}), from_api)
    assert not passes(WEB, from_api)
    assert passes(OPS_WEB, from_api)
    assert not passes(OPS_WEB, from_api, namespaces={"shop": {"team": "a"}})
    elsewhere = policy(f"{{podSelector: {{matchLabels: {{x: y}}}}, ingress: [{{from: [{{{API_PODS}}}]}}]}}")
    assert passes(WEB, elsewhere)


def test_14_every_namespace_has_its_name_as_a_label() -> None:
    by_name = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}"
    rule = policy(f"{{ingress: [{{from: [{by_name}]}}]}}")
    lying = {"shop": {"kubernetes.io/metadata.name": "ops"}, "ops": {"kubernetes.io/metadata.name": "x"}}
    for namespaces in ({}, lying):
        assert _allowed([rule], OPS_API, DB, namespaces=namespaces)
        assert not _allowed([rule], WEB, DB, namespaces=namespaces)


def test_15_pods_on_the_hosts_network_are_neither_subject_nor_peer() -> None:
    """website#39875: their traffic carries the node's address, which ipBlocks match."""
    text = """
    {kind: Pod, metadata: {name: agent, namespace: shop, labels: {app: api}},
     spec: {nodeName: n2, hostNetwork: true}, status: {phase: Running, podIP: 192.0.2.2}}
    """
    (agent,) = resources(text)
    assert isinstance(agent, Pod)
    assert endpoints.from_pod(agent) is None
    node_2 = ip_address("192.0.2.2")
    assert not _allowed([policy(f"{{ingress: [{{from: [{{{API_PODS}}}]}}]}}")], node_2, DB)
    assert _allowed([policy("{ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}")], node_2, DB)
    assert _allowed([policy("{podSelector: {}}")], DB, node_2)


def test_16_both_families_and_all_addresses() -> None:
    """kube-router#1665, k3s#9151, antrea#1236."""
    dual = web, db = [
        replace(WEB, addresses=(WEB.addresses[0], ip_address("fd00::1"))),
        pod("shop/db", ["10.0.0.3", "fd00::3"]),
    ]
    assert _allowed([policy("{ingress: [{from: [{podSelector: {}}]}]}")], web, db, pods=dual)
    assert not _allowed([policy("{podSelector: {}}")], web, db, pods=dual)
    everywhere = "{ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}"
    assert _allowed([policy(everywhere)], web, db, pods=dual)


@pytest.mark.parametrize(
    ("cidr", "four", "six"),
    [pytest.param("0.0.0.0/0", True, False, id="all of IPv4"), pytest.param("::/0", False, True, id="all of IPv6")],
)
def test_16_a_rule_of_one_family_neither_opens_nor_unisolates_the_other(cidr: str, four: bool, six: bool) -> None:
    """kube-router#1245."""
    dual = pod("shop/db", ["10.0.0.3", "fd00::3"])
    rule = policy(f"{{ingress: [{{from: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]}}")
    assert _allowed([rule], OUTSIDE, dual, pods=[dual]) is four
    assert _allowed([rule], ip_address("2001:db8:f::7"), dual, pods=[dual]) is six


def test_17_verdicts_come_after_dnat() -> None:
    """kube-router#905, amazon-network-policy-controller#210: policy sees the pod behind a service, and its port."""
    nodes = Nodes(["n1"])
    nodes.update(snapshot(PODS, [policy("{policyTypes: [Egress]}")]))
    hooks = {
        (name, hook)
        for (_, name), table in nodes.compilers["n1"].desired.tables.items()
        for hook, rules in table.hooks.items()
        if rules
    }
    before_dnat = {(TableName.RAW, "PREROUTING")}
    after_dnat = {(table, hook) for table in (TableName.MANGLE, TableName.FILTER) for hook in ("FORWARD", "INPUT")}
    assert hooks == before_dnat | after_dnat | {(TableName.MANGLE, "POSTROUTING")}


def test_18_a_client_behind_another_node_is_that_node() -> None:
    """antrea#280, calico#2927: externalTrafficPolicy Cluster shows the node's address; only the pod's own is exempt."""
    from_client = policy("{ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}")
    assert _allowed([from_client], OUTSIDE, DB)
    assert not _allowed([from_client], ip_address("192.0.2.2"), DB)


def test_20_other_protocols_follow_rules_without_ports() -> None:
    """calico#2543; related ICMP errors pass (test_frame)."""
    nodes = Nodes(["n1"])
    ping = Packet(OUTSIDE, DB.addresses[0], "icmp", None, UPLINK, DB.interface, icmp_type=8)
    for spec, expected in [("{ingress: [{}]}", True), ("{ingress: [{ports: [{}]}]}", False), ("{ingress: []}", False)]:
        nodes.update(snapshot(PODS, [policy(spec)]))
        assert send(nodes.compilers["n1"], FORWARDED, ping).accepted is expected


def test_21_what_selects_nothing_restricts_and_both_ends_must_allow() -> None:
    nobody = policy("{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {some: body}}}]}]}", "nobody")
    assert not _allowed([nobody], WEB, DB)
    assert _allowed([nobody, policy("{ingress: [{}]}", "all")], WEB, DB)
    out = policy(
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}", "out"
    )
    into = policy("{podSelector: {}, ingress: [{ports: [{port: 81}]}]}", "into")
    assert not _allowed([out, into], WEB, DB, 80)
    assert not _allowed([out, into], WEB, DB, 81)
    assert _allowed([out], WEB, DB, 80)
    assert _allowed([into], WEB, DB, 81)


def test_22_names_fit_and_are_ours() -> None:
    """kube-router#1918: other people's sets and chains are never named."""
    nodes = Nodes(["n1"])
    nodes.update(snapshot(PODS, [policy("{ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]}")]))
    desired = nodes.compilers["n1"].desired
    assert all(name.startswith(("tt4-", "tt6-")) and len(name) <= 31 for name in desired.sets)
    chains = [name for table in desired.tables.values() for name in table.chains]
    assert all(name.startswith("TORTIE-") and len(name) <= 28 for name in chains)
    assert names.local(Family.IPV4) in desired.sets
