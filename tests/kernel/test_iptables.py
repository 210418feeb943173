"""Which backend a node uses, and what of iptables-save is ours."""

from collections.abc import Iterator, Sequence

import pytest

from kernel.errors import CommandFailed
from kernel.iptables import Backend, Hooked, detect, parse_save
from tests.sandbox import Namespace, namespaces, needs_sandbox


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespaces("node") as [namespace]:
        yield namespace


@needs_sandbox
@pytest.mark.kernel
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        pytest.param([], Backend.NFT, id="an empty node uses what the iptables command is"),
        pytest.param(["iptables-legacy -A FORWARD -j ACCEPT"], Backend.LEGACY, id="where the rules are: legacy"),
        pytest.param(["ip6tables-nft -A FORWARD -j ACCEPT"], Backend.NFT, id="where the rules are: nft, IPv6 alone"),
        pytest.param(
            ["iptables-nft -A FORWARD -j ACCEPT", "iptables-legacy -t mangle -N KUBE-KUBELET-CANARY"],
            Backend.LEGACY,
            id="the kubelet's hint counts more than rules",
        ),
        pytest.param(
            [
                "iptables-legacy -t mangle -N KUBE-KUBELET-CANARY",
                "iptables-nft -t mangle -N KUBE-KUBELET-CANARY",
                "iptables-legacy -A FORWARD -j ACCEPT",
            ],
            Backend.LEGACY,
            id="hints in both leave it to the rules",
        ),
    ],
)
def test_the_backend_is_the_one_that_this_node_uses(node: Namespace, commands: list[str], expected: Backend) -> None:
    for command in commands:
        node.run(*command.split())
    assert detect(node.runner) is expected


class NoIptables:
    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        raise CommandFailed(argv, 127, "not installed", stdin)


def test_a_node_without_iptables_is_told_so() -> None:
    with pytest.raises(CommandFailed, match="not installed"):
        detect(NoIptables())


SAVED = """\
*mangle
:FORWARD ACCEPT [1:2]
:TORTIE-A - [0:0]
:KUBE-X - [0:0]
-A FORWARD -i tort+ -m comment --comment "tt:0123456789ab from pods" -j TORTIE-A
-A FORWARD -m comment --comment "kubernetes \\"tt:0123456789ab\\" rules" -j KUBE-X
-A FORWARD -m comment --comment tt:ba9876543210 -j TORTIE-A
-A TORTIE-A -m comment --comment "tt:aaaaaaaaaaaa note" -j ACCEPT
-A TORTIE-A -j ACCEPT
-A KUBE-X -m comment --comment tt:ba9876543210 -j ACCEPT
COMMIT
"""


def test_ours_are_told_from_others_by_chain_name_and_comment() -> None:
    actual = parse_save(SAVED)
    assert actual.chains == {"TORTIE-A": ("tt:aaaaaaaaaaaa note", "")}
    first, second = SAVED.splitlines()[4], SAVED.splitlines()[6]
    assert actual.hooks["FORWARD"] == (
        Hooked("tt:0123456789ab from pods", first),
        Hooked("tt:ba9876543210", second),
    )
