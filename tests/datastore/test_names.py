"""Names, labels and addresses as Kubernetes allows them, and nothing that could leave its place."""

from ipaddress import ip_address, ip_network

import pytest

from datastore.errors import Invalid
from datastore.resources import names


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a", id="one letter"),
        pytest.param("node-1.example.com", id="dots and hyphens"),
        pytest.param("10-65-0-64-26", id="digits at both ends"),
        pytest.param("a" * 253, id="253 characters"),
    ],
)
def test_a_dns_name_passes(name: str) -> None:
    names.check_subdomain(name, "metadata.name")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("a/b", id="a slash"),
        pytest.param("a" * 300, id="300 characters"),
        pytest.param("Node", id="a capital"),
        pytest.param("-a", id="begins with a hyphen"),
        pytest.param("a..b", id="an empty label"),
        pytest.param("a\n", id="a newline at the end"),
        pytest.param("a b", id="a blank"),
        pytest.param("$(reboot)", id="a shell's"),
        pytest.param("é", id="not ASCII"),
    ],
)
def test_what_is_no_dns_name_is_refused_with_its_path(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.check_subdomain(name, "metadata.name")
    assert caught.value.path == "metadata.name"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["web-0", "My_Container.2", "7"])
def test_a_pod_may_be_called_what_cni_allows(name: str) -> None:
    names.check_pod_name(name, "pod")


@pytest.mark.parametrize("name", ["", "_a", "a/b", "a b", "a;b", "a\n", "é", "a" * 254])
def test_what_no_pod_may_be_called_is_refused_with_its_path(name: str) -> None:
    with pytest.raises(Invalid, match="pod"):
        names.check_pod_name(name, "pod")


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        pytest.param({"app": "has blank"}, "metadata.labels[app]", id="a blank in a value"),
        pytest.param({"app": "x" * 64}, "metadata.labels[app]", id="a value of 64 characters"),
        pytest.param({"app": "-x"}, "metadata.labels[app]", id="a value that begins with a hyphen"),
        pytest.param({"": "x"}, "metadata.labels", id="an empty key"),
        pytest.param({"/app": "x"}, "metadata.labels", id="an empty prefix"),
        pytest.param({"a/b/c": "x"}, "metadata.labels", id="two slashes"),
        pytest.param({"-unknown-": "x"}, "metadata.labels", id="the codec's own key"),
    ],
)
def test_a_bad_label_is_refused_with_its_path(labels: dict[str, str], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.check_labels(labels, "metadata.labels")
    assert caught.value.path == path


def test_labels_as_people_write_them_pass() -> None:
    names.check_labels({"app.kubernetes.io/name": "db", "tier": "", "A_b.c": "1.2-x"}, "metadata.labels")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("10.0.0.5/24", "10.0.0.0/24", id="host bits"),
        pytest.param("10.0.0.0", "10.0.0.0/32", id="no length"),
        pytest.param("10.0.0.0/08", "10.0.0.0/8", id="a length with a zero before it"),
        pytest.param("10.0.0.0/255.0.0.0", "10.0.0.0/8", id="a netmask"),
        pytest.param("10.0.0.0/33", "no CIDR", id="too long"),
        pytest.param("fe80::%$(reboot)/64", "zone", id="a zone"),
        pytest.param("all", "no CIDR", id="a word"),
    ],
)
def test_a_bad_cidr_is_refused_and_says_what_is_meant(text: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.parse_cidr(text, "spec.cidr")
    assert caught.value.path == "spec.cidr"
    assert hint in caught.value.reason


@pytest.mark.parametrize("text", ["10.0.0", "010.0.0.1", "fe80::1%eth0", "1.2.3.4/32", ""])
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        names.parse_address(text, "spec.addresses[0]")


def test_good_cidrs_and_addresses_are_parsed() -> None:
    assert names.parse_cidr("fd00::/64", "") == ip_network("fd00::/64")
    assert names.parse_address("fd00::1", "") == ip_address("fd00::1")
