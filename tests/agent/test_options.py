"""tortie-agent's command line: wrong options are told in one line, before anything is touched."""

from pathlib import Path

import pytest

from agent.options import EndpointKind, parse
from kernel.iptables import Backend

GOOD = ["--node", "node-1", "--datastore", "sqlite:///tmp/x.db", "--machine-id", "m1"]


def test_what_is_given_is_taken_and_the_rest_has_defaults() -> None:
    options = parse([*GOOD, "--node-ip", "172.30.0.1", "--node-ip", "fd30::1", "--iptables", "legacy"])
    assert (options.node, options.machine, options.backend) == ("node-1", "m1", Backend.LEGACY)
    assert [str(address) for address in options.node_ips] == ["172.30.0.1", "fd30::1"]
    assert (options.socket, options.state) == (Path("/run/tortie/cni.sock"), Path("/var/lib/tortie"))
    assert options.control == Path("/var/lib/tortie/agent.sock")
    assert parse(GOOD).backend is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--node", "Node_1"], "Node_1", id="a node name that is none"),
        pytest.param(["--node-ip", "nowhere"], "nowhere", id="an address that is none"),
        pytest.param(["--node-ip", "10.0.0.1", "--node-ip", "10.0.0.2"], "one address of each", id="two of a family"),
        pytest.param(["--state", "/" + "x" * 100], "too long for a unix socket", id="a folder too deep for sockets"),
        pytest.param(["--refresh", "0"], "at least 1", id="no pause between looks"),
        pytest.param(
            ["--kubernetes", "etcd://e"], "no address of a Kubernetes API", id="a Kubernetes API that is none"
        ),
        pytest.param(["--endpoints", "pods"], "--kubernetes", id="pods without a Kubernetes API"),
        pytest.param(["--iptables", "nftables"], "nftables", id="an unknown backend"),
    ],
)
def test_wrong_options_are_refused_by_name(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse([*GOOD, *arguments])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "kind", "kubernetes"),
    [
        pytest.param(["kubernetes:"], EndpointKind.PODS, "", id="the API is the datastore"),
        pytest.param(["etcd://e", "--kubernetes", "kubernetes:"], EndpointKind.PODS, "kubernetes:", id="a copy of it"),
        pytest.param(["kubernetes:", "--kubernetes", "kubernetes:"], EndpointKind.PODS, "", id="said twice"),
        pytest.param(["etcd://e"], EndpointKind.WORKLOAD_ENDPOINTS, "", id="no Kubernetes"),
    ],
)
def test_pods_are_endpoints_where_there_is_a_kubernetes_api(
    arguments: list[str], kind: EndpointKind, kubernetes: str
) -> None:
    options = parse(["--node", "n", "--machine-id", "m", "--datastore", *arguments])
    assert (options.endpoints, options.kubernetes) == (kind, kubernetes)


def test_the_datastore_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--node", "node-1"])
    assert "--datastore" in capsys.readouterr().err
