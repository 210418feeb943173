"""The compiler: inputs come one by one, desired state is kept live, and what was touched can be taken.

    set_* ──> PeerSets (all endpoints, selectors of peers) ──────────────> sets of peers ──┐
        └───> Resolver (local endpoints, subjects of policies)                             │
                └─ settle: endpoints whose list may have changed                           ├─> Desired ─> Changes
                     ├─> Groups of each family ─> sets of groups, dispatch chains ─────────┤
                     └─> ActivePolicies of each family ─> chains of groups, needs of sets ─┘

Inputs only note what they touch; groups and rules are settled when somebody looks. So a thousand policies that arrive
together are resolved once, and one pod that arrives alone costs what it touches.

No I/O, no clock, no randomness: desired state is a function of what was set, whatever the order, and of the groups that
were kept without a pod (`remove_endpoint`), until `forget_idle_groups`.
"""

from collections.abc import Mapping

from kernel import sets
from kernel.links import HOST_PREFIX
from kernel.sets import SetSpec, SetType
from kernel.tables import Family, TableName
from policy import frame, names
from policy.active import ActivePolicies
from policy.desired import Changes, Desired
from policy.groups import Groups
from policy.model import Address, Endpoint, EndpointId, Network, Policy, PolicyKey
from policy.outgoing import Outgoing
from policy.peers import PeerSets
from policy.resolve import GroupId, Resolver
from policy.settings import Settings

_TABLES = (TableName.RAW, TableName.MANGLE, TableName.FILTER)
"""Those that are always there; nat is where a pool needs it (`policy.outgoing`)."""


class Compiler:
    """One node's rules and sets for both families.

    Setting a value that is there already changes nothing, and so does removing what isn't.
    """

    def __init__(self, node: str, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._node = node
        self._endpoints: dict[EndpointId, Endpoint] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._policies: dict[PolicyKey, Policy] = {}
        self._nodes: dict[str, tuple[Address, ...]] = {}
        self._leaving: set[EndpointId] = set()
        """Endpoints removed since the last `_settle` whose groups are to be kept."""
        self._desired = Desired()
        self._peers = PeerSets(self._desired)
        self._outgoing = Outgoing(self._desired, settings)
        self._resolver = Resolver()
        self._write_frame(settings)
        self._groups = {family: Groups(family, self._desired, settings) for family in Family}
        self._active = {family: ActivePolicies(family, self._desired, self._peers, settings) for family in Family}

    def set_endpoint(self, endpoint: Endpoint) -> None:
        """An endpoint is there, anywhere in the cluster; one of this node whose interface is ours is enforced here."""
        if self._endpoints.get(endpoint.id) == endpoint:
            return
        self.remove_endpoint(endpoint.id)
        self._endpoints[endpoint.id] = endpoint
        self._peers.admit(endpoint)
        if self._is_enforced(endpoint):
            self._resolver.admit(endpoint)

    def remove_endpoint(self, endpoint: EndpointId, *, keep_group: bool = False) -> None:
        """An endpoint is gone; with `keep_group` its group stays for the next of its kind, if it was the last."""
        gone = self._endpoints.pop(endpoint, None)
        if gone is not None:
            self._peers.expel(endpoint)
            if self._is_enforced(gone):
                self._resolver.expel(endpoint)
                if keep_group:
                    self._leaving.add(endpoint)
                else:
                    self._leaving.discard(endpoint)

    def forget_idle_groups(self) -> None:
        """Drop the groups without a pod that had none at the last call either."""
        self._settle()
        for groups in self._groups.values():
            groups.forget_idle()
        self._settle_groups()

    def set_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """A namespace has an object with these labels."""
        if self._namespaces.get(name) != labels:
            self._namespaces[name] = labels
            self._peers.relabel(name, labels)
            self._resolver.relabel(name, labels)

    def remove_namespace(self, name: str) -> None:
        """A namespace has no object; its endpoints still see its name as a label."""
        if self._namespaces.pop(name, None) is not None:
            self._peers.relabel(name, None)
            self._resolver.relabel(name, None)

    def set_policy(self, policy: Policy) -> None:
        """A policy is in force."""
        if self._policies.get(policy.key) != policy:
            self._policies[policy.key] = policy
            self._resolver.set_policy(policy)

    def remove_policy(self, key: PolicyKey) -> None:
        """A policy is no longer in force."""
        if self._policies.pop(key, None) is not None:
            self._resolver.drop_policy(key)

    def policies_of(self, namespace: str) -> dict[PolicyKey, Policy]:
        """The policies of a namespace that are in force."""
        return {key: found for key, found in self._policies.items() if key.partition("/")[0] == namespace}

    def set_node(self, name: str, addresses: tuple[Address, ...]) -> None:
        """A node has these underlay addresses, from which it may send us VXLAN."""
        before = self._nodes.get(name, ())
        self._nodes[name] = addresses
        for address in addresses:
            self._desired.add(names.nodes(sets.family_of(address)), sets.address(address))
        for address in before:
            self._desired.discard(names.nodes(sets.family_of(address)), sets.address(address))

    def remove_node(self, name: str) -> None:
        """A node is gone."""
        self.set_node(name, ())
        del self._nodes[name]

    def set_pool(self, name: str, network: Network, *, nat: bool) -> None:
        """There is a pool, disabled or not; with `nat` its pods leave the pools with their node's address."""
        self._outgoing.set_pool(name, network, nat=nat)

    def remove_pool(self, name: str) -> None:
        """A pool is gone."""
        self._outgoing.remove_pool(name)

    @property
    def policies(self) -> int:
        """How many policies are in force."""
        return len(self._policies)

    @property
    def desired(self) -> Desired:
        """What the kernel should hold now."""
        self._settle()
        return self._desired

    @property
    def groups(self) -> Mapping[GroupId, tuple[PolicyKey, ...]]:
        """The policies of every group, in order; NFLOG's prefix of a denied packet ends with the group."""
        self._settle()
        return {group.id: group.keys for groups in self._groups.values() for group in groups.settled.values()}

    def take_changes(self) -> Changes:
        """What is desired otherwise than at the last call; the first call gives everything.

        Apply in the order of its fields: new sets and added members (in their order), tables raw, mangle, filter,
        10 ms of waiting, removed members, gone sets.
        """
        self._settle()
        return self._desired.take_changes()

    def _is_enforced(self, endpoint: Endpoint) -> bool:
        return endpoint.node == self._node and endpoint.interface.startswith(HOST_PREFIX)

    def _settle(self) -> None:
        touched, leaving = self._resolver.take_touched(), self._leaving
        if not touched:
            return
        self._leaving = set()
        for endpoint in touched:
            group = self._resolver.group_of(endpoint)
            for groups in self._groups.values():
                if group is None:
                    groups.remove(endpoint, keep_group=endpoint in leaving)
                else:
                    groups.place(self._endpoints[endpoint], group)
        self._settle_groups()

    def _settle_groups(self) -> None:
        for family, groups in self._groups.items():
            self._active[family].settle(*groups.settle())

    def _write_frame(self, settings: Settings) -> None:
        for family in Family:
            self._desired.make_set(SetSpec(names.nodes(family), SetType.ADDRESSES, family))
            for name in _TABLES:
                fixed = frame.table(name, family, settings)
                for chain in fixed.chains.values():
                    self._desired.put_chain((family, name), chain)
                for hook, rules in fixed.hooks.items():
                    self._desired.put_hook((family, name), hook, rules)
