"""The sets that rules look peers and named ports up in, for both families.

A set is there while some policy in use needs it. Its members follow endpoints and namespaces at once; who needs it
follows later, when the compiler has settled which policies are in use.
"""

from collections.abc import Iterator, Mapping

from kernel import sets
from kernel.sets import Member, SetName
from kernel.tables import Family
from policy import names
from policy.desired import Desired
from policy.index import Index
from policy.model import Endpoint, EndpointId, Pods, PortName
from policy.names import Networks, SetExpression


class PeerSets:
    """All endpoints of the cluster, and the sets of peers among them that are needed."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._index = Index()
        self._endpoints: dict[EndpointId, Endpoint] = {}
        self._with_port: dict[PortName, dict[EndpointId, int]] = {}
        """The number of each port that has a name, by endpoint."""
        self._sets: dict[SetExpression, dict[Family, SetName]] = {}
        self._needed: dict[SetName, int] = {}
        """How many policies need a set."""

    def admit(self, endpoint: Endpoint) -> None:
        """Take in an endpoint that isn't there."""
        self._endpoints[endpoint.id] = endpoint
        for pods in self._index.admit(endpoint.id, endpoint.namespace, endpoint.labels):
            self._change(pods, endpoint, present=True)
        for name, number in _port_numbers(endpoint).items():
            self._with_port.setdefault(name, {})[endpoint.id] = number
            self._change(name, endpoint, present=True)

    def expel(self, endpoint: EndpointId) -> None:
        """Forget an endpoint."""
        gone = self._endpoints[endpoint]
        for pods in self._index.expel(endpoint):
            self._change(pods, gone, present=False)
        for name in _port_numbers(gone):
            self._change(name, gone, present=False)
            del self._with_port[name][endpoint]
            if not self._with_port[name]:
                del self._with_port[name]
        del self._endpoints[endpoint]

    def relabel(self, namespace: str, declared: Mapping[str, str] | None) -> None:
        """A namespace's object has these labels, or is gone."""
        for match in self._index.relabel(namespace, declared):
            self._change(match.pods, self._endpoints[match.endpoint], present=match.selected)

    def acquire(self, family: Family, expression: SetExpression) -> None:
        """One more policy needs the set of an expression."""
        spec = names.expression_set(family, expression)
        self._needed[spec.name] = self._needed.get(spec.name, 0) + 1
        if self._needed[spec.name] == 1:
            self._sets.setdefault(expression, {})[family] = spec.name
            self._desired.make_set(spec)
            for member in self._members(family, expression):
                self._desired.add(spec.name, member)

    def release(self, family: Family, expression: SetExpression) -> None:
        """One policy less needs it."""
        name = self._sets[expression][family]
        self._needed[name] -= 1
        if self._needed[name]:
            return
        del self._needed[name], self._sets[expression][family]
        self._desired.drop_set(name)
        if not self._sets[expression]:
            del self._sets[expression]
            if isinstance(expression, Pods):
                self._index.forget(expression)

    def _members(self, family: Family, expression: SetExpression) -> Iterator[Member]:
        match expression:
            case Networks():
                yield from expression.members
            case Pods():
                for endpoint in self._index.watch(expression):
                    yield from self._members_of(family, expression, self._endpoints[endpoint])
            case PortName():
                for endpoint in self._with_port.get(expression, ()):
                    yield from self._members_of(family, expression, self._endpoints[endpoint])

    def _members_of(self, family: Family, expression: Pods | PortName, endpoint: Endpoint) -> Iterator[Member]:
        for address in sets.of_family(endpoint.addresses, family):
            if isinstance(expression, Pods):
                yield sets.address(address)
            else:
                number = self._with_port[expression][endpoint.id]
                yield sets.address_port(address, expression.protocol.word, number)

    def _change(self, expression: Pods | PortName, endpoint: Endpoint, *, present: bool) -> None:
        change = self._desired.add if present else self._desired.discard
        for family, name in self._sets.get(expression, {}).items():
            for member in self._members_of(family, expression, endpoint):
                change(name, member)


def _port_numbers(endpoint: Endpoint) -> dict[PortName, int]:
    """Each name once: the first port of a name counts."""
    found: dict[PortName, int] = {}
    for port in endpoint.ports:
        found.setdefault(PortName(port.protocol, port.name), port.number)
    return found
