"""What one look at a cluster has found; `remarks` judges it, `printed` shows it."""

from dataclasses import dataclass, field

from datastore.resources.ippool import IPPoolStatus


@dataclass(frozen=True, slots=True)
class Agent:
    """What is known of a node's agent."""

    ready: bool
    reason: str = ""
    """Why it isn't."""
    look: str = ""
    """The command that shows more."""
    behind: tuple[str, ...] = ()
    """Policies that it hasn't applied."""
    warnings: tuple[str, ...] = ()
    """What it says of itself though it is ready."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Kubernetes' own Node."""

    ready: bool
    reason: str = ""
    no_network: str = ""
    """What its condition NetworkUnavailable says while it is true."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node by any witness."""

    name: str
    known: bool = False
    """It has told itself to the others: there is a Node of ours."""
    addresses: tuple[str, ...] = ()
    blocks: int = 0
    pods: int = 0
    """Attachments that own addresses."""
    agent: Agent | None = None
    """None where nobody can ask it from here."""
    machine: Machine | None = None


@dataclass(frozen=True, slots=True)
class SeenPool:
    """A pool, counted; or what is wrong with it."""

    name: str
    cidr: str
    disabled: bool = False
    fault: str = ""
    status: IPPoolStatus = field(default_factory=IPPoolStatus)

    @property
    def used_percent(self) -> int:
        """Of what can be given."""
        capacity = self.status.used + self.status.free
        return 100 * self.status.used // capacity if capacity else 0


@dataclass(frozen=True, slots=True)
class Skew:
    """Versions that don't go together."""

    what: str
    next: str
    wrong: bool = True


@dataclass(frozen=True, slots=True)
class Installation:
    """What there is of ours in a Kubernetes cluster besides objects of the store."""

    namespace: str
    daemonset: bool
    """Whether agents are pods of one."""
    skews: tuple[Skew, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One look."""

    datastore: str
    nodes: tuple[SeenNode, ...] = ()
    pools: tuple[SeenPool, ...] = ()
    policies: int = 0
    leader: str = ""
    leader_silent_s: float = 0
    """For how long the leader hasn't renewed its Lease, by this machine's clock."""
    installation: Installation | None = None
    """None where the datastore isn't Kubernetes."""
    lab: bool = False
    notes: tuple[str, ...] = ()
    """What couldn't be looked at, and why."""

    @property
    def agents(self) -> list[Agent]:
        """Those that could be asked."""
        return [node.agent for node in self.nodes if node.agent is not None]

    @property
    def programmed(self) -> int:
        """How many of them have every policy in the kernel."""
        return sum(agent.ready and not agent.behind for agent in self.agents)
