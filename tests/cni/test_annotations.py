"""What annotations of a pod and its namespace do to a call."""

import json
from collections.abc import Mapping
from ipaddress import ip_address

import pytest

from cni.annotations import NamespaceFacts, StoredNamespaces, annotated
from cni.config import Call, parse
from cni.errors import InvalidConfig
from datastore.memory import MemoryStore
from datastore.resources.kubernetes import Namespace
from datastore.resources.value import Metadata
from ipam.block import Among

NOTHING = NamespaceFacts()


def call(annotations: Mapping[str, str], args: str = "", ipam: Mapping[str, object] | None = None) -> Call:
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": args,
    }
    document = {
        "cniVersion": "1.1.0",
        "name": "podnet",
        "type": "tortie",
        "args": {"cni": {"tortie.dev/annotations": annotations}},
        "ipam": ipam or {},
    }
    return parse(environment, json.dumps(document).encode())


def only(text: str) -> Among:
    return Among.only(ip_address(text))


@pytest.mark.parametrize("prefix", ["cni.tortie.dev/", "cni.projectcalico.org/"])
def test_pools_addresses_and_mac_come_from_the_pods_annotations(prefix: str) -> None:
    annotations = {
        f"{prefix}ipAddrs": '["10.65.0.7", "fd65::7"]',
        f"{prefix}ipv4pools": '["blue", "10.66.0.0/16"]',
        f"{prefix}ipv6pools": '["six"]',
        f"{prefix}hwAddr": "02:00:00:00:00:07",
    }
    found = annotated(call(annotations), NOTHING)
    wanted = found.addressing.wanted
    assert wanted.families == (4, 6)
    assert wanted.pools == {4: ("blue", "10.66.0.0/16"), 6: ("six",)}
    assert wanted.among == {4: only("10.65.0.7"), 6: only("fd65::7")}
    assert found.mac == bytes.fromhex("020000000007")


def test_ours_counts_before_calicos() -> None:
    annotations = {"cni.projectcalico.org/ipv4pools": '["theirs"]', "cni.tortie.dev/ipv4pools": '["ours"]'}
    assert annotated(call(annotations), NOTHING).addressing.wanted.pools[4] == ("ours",)


CONFIGURED = {"type": "tortie-ipam", "ipv4_pools": ["configured"]}
OF_NAMESPACE = NamespaceFacts({}, {"cni.tortie.dev/ipv4pools": '["namespaces"]'})


@pytest.mark.parametrize(
    ("pod", "namespace", "pools"),
    [
        pytest.param({"cni.tortie.dev/ipv4pools": '["pods"]'}, OF_NAMESPACE, ("pods",), id="the pod's first"),
        pytest.param({}, OF_NAMESPACE, ("namespaces",), id="then the namespace's"),
        pytest.param({}, NOTHING, ("configured",), id="then the configuration's"),
    ],
)
def test_pools_go_by_pod_then_namespace_then_configuration(
    pod: Mapping[str, str], namespace: NamespaceFacts, pools: tuple[str, ...]
) -> None:
    assert annotated(call(pod, ipam=CONFIGURED), namespace).addressing.wanted.pools[4] == pools


def test_a_namespace_gives_no_pod_an_address_or_a_mac() -> None:
    of_namespace = {"cni.tortie.dev/ipAddrs": '["10.65.0.7"]', "cni.tortie.dev/hwAddr": "02:00:00:00:00:07"}
    plain = call({})
    found = annotated(plain, NamespaceFacts({}, of_namespace))
    assert (found.addressing.wanted.among, found.mac) == ({}, b"")


def test_what_the_call_itself_asks_for_goes_first() -> None:
    annotations = {"cni.tortie.dev/ipAddrs": '["10.65.0.7"]', "cni.tortie.dev/hwAddr": "02:00:00:00:00:07"}
    found = annotated(call(annotations, "IP=10.65.0.9;MAC=02:00:00:00:00:09"), NOTHING)
    assert found.addressing.wanted.among == {4: only("10.65.0.9")}
    assert found.mac == bytes.fromhex("020000000009")


def test_pools_select_by_the_namespaces_labels() -> None:
    found = annotated(call({}), NamespaceFacts({"team": "red"}, {}))
    assert found.addressing.wanted.namespace_labels == {"team": "red"}


def test_another_ipam_plugins_addresses_are_its_own_but_the_mac_is_ours() -> None:
    annotations = {"cni.tortie.dev/ipAddrs": '["10.65.0.7"]', "cni.tortie.dev/hwAddr": "02:00:00:00:00:07"}
    found = annotated(call(annotations, ipam={"type": "host-local"}), NOTHING)
    assert (found.addressing.wanted.families, found.mac) == ((), bytes.fromhex("020000000007"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("ipAddrs", "10.65.0.7", "is no JSON list of addresses", id="no list"),
        pytest.param("ipAddrs", '["10.65.0"]', "holds what is no address", id="no address"),
        pytest.param("ipAddrs", '["10.65.0.7", "10.65.0.8"]', "two addresses of one family", id="two of a family"),
        pytest.param("ipAddrs", "[]", "names no addresses", id="an empty list"),
        pytest.param("ipv4pools", '{"a": 1}', "is no JSON list of pools", id="no list of pools"),
        pytest.param("ipv6pools", '[" "]', "names no pools", id="a blank pool"),
        pytest.param("hwAddr", "ff:ff:ff:ff:ff:ff", "is no MAC address", id="a broadcast MAC"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_annotation(key: str, value: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said) as refused:
        annotated(call({f"cni.tortie.dev/{key}": value}), NOTHING)
    assert f"annotation cni.tortie.dev/{key}" in refused.value.message


def test_an_address_outside_the_ranges_of_a_link_is_refused() -> None:
    ranges = {"type": "tortie-ipam", "subnet": "10.1.0.0/24"}
    with pytest.raises(InvalidConfig, match=r"asks for 10.65.0.7, which ipam's ranges don't give"):
        annotated(call({"cni.tortie.dev/ipAddrs": '["10.65.0.7"]'}, ipam=ranges), NOTHING)


async def test_namespaces_of_a_store_are_looked_up_there() -> None:
    store = MemoryStore()
    metadata = Metadata(name="shop", labels={"team": "red"}, annotations={"cni.tortie.dev/ipv4pools": '["blue"]'})
    await store.create(Namespace(metadata=metadata))
    known = StoredNamespaces(store)
    assert await known.facts("shop") == NamespaceFacts(metadata.labels, metadata.annotations)
    assert await known.facts("bank") == NOTHING
