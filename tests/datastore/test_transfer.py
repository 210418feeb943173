"""Moving between datastores, without load: what is copied, what is refused, and who else may be at work meanwhile."""

from contextlib import suppress

import msgspec
import pytest

from datastore.errors import Invalid, StoreError
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kinds import KINDS
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, ServiceAccount
from datastore.resources.lease import Lease
from datastore.resources.networkpolicy import NetworkPolicy, NetworkPolicySpec
from datastore.resources.node import Node
from datastore.resources.value import Metadata, Resource, UnknownFields
from datastore.transfer import mark
from datastore.transfer.copying import Copy, Side
from datastore.transfer.errors import Disturbed, Refused
from datastore.transfer.freezing import freeze
from datastore.transfer.migrate import abort, arrive
from datastore.transfer.objects import ORDER, covers, kept_out, same
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.datastore.samples import ip_block, policy, relabelled
from tests.datastore.transferring import (
    EVERYTHING,
    FROM,
    TO,
    R,
    alike,
    content,
    filled,
    leaves,
    metadata,
    move,
    no_pause,
    phase,
    pool,
    refused_from,
    untold,
)


class TestWhatIsCopied:
    async def test_everything_is_and_the_source_says_where(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        moved = await move(source, target)
        assert await alike(source, target)
        assert (await phase(source), await phase(target)) == ("Moved", "")
        configuration = await target.get(ClusterConfiguration, "default")
        assert configuration.spec == ClusterConfigurationSpec(strict_affinity=True)
        assert mark.moved_by(configuration) == moved.id

    async def test_leases_and_blocks_that_nobody_has_are_not(self) -> None:
        unready = msgspec.structs.replace(ip_block().spec, ready=False)
        claim = msgspec.structs.replace(ip_block(), spec=unready)
        source, target = await filled(claim, Lease(metadata=metadata("leader", "kube-system"))), MemoryStore()
        await move(source, target)
        assert await content(target) == {}
        assert (await target.list(Lease)).items == ()

    async def test_blocks_are_frozen_there_and_thawed_here(self) -> None:
        source, target = await filled(ip_block()), MemoryStore()
        moved = await move(source, target)
        assert [one.spec.frozen for one in (await source.list(IPBlock)).items] == [moved.id]
        assert [one.spec.frozen for one in (await target.list(IPBlock)).items] == [""]

    async def test_moving_again_changes_nothing(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        first = await move(source, target)
        before = await content(target)
        again = await move(source, target)
        assert (again.id, first.again, again.again) == (first.id, False, True)
        assert await content(target) == before

    async def test_moving_again_tells_what_was_written_to_the_old_one_since(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        await source.create(policy("late"))
        assert (await move(source, target)).differing == ("NetworkPolicy shop/late",)

    async def test_a_target_that_has_some_of_it_just_so_is_fine(self) -> None:
        source, target = await filled(*EVERYTHING), await filled(*EVERYTHING[:4])
        await move(source, target)
        assert await alike(source, target)

    async def test_a_cluster_without_a_configuration_moves_too(self) -> None:
        source, target = await filled(pool()), MemoryStore()
        await move(source, target)
        assert (await phase(source), await alike(source, target)) == ("Moved", True)

    async def test_it_can_come_back(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        await target.delete(await target.get(NetworkPolicy, "db", "shop"))
        await target.create(policy("new"))
        found = await target.get(IPBlock, ip_block().name)
        await target.update(msgspec.structs.replace(found, spec=ip_block(borrowers=("node-2", "node-3")).spec))
        back = await move(target, source, TO, FROM)
        assert await alike(target, source)
        assert (await phase(target), await phase(source)) == ("Moved", "")
        configuration = await mark.read(source)
        assert (mark.moved_by(configuration), mark.filled_anew(configuration)) == (back.id, "")
        assert [one.spec.frozen for one in (await source.list(IPBlock)).items] == [""]

    async def test_what_is_come_back_to_thaws_at_the_very_end(self) -> None:
        """Nodes that never left it could give addresses otherwise."""
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        await target.create(ip_block("10.65.1.0/26"))
        frozen: list[bool] = []

        async def gate(call: Call) -> Fate:
            if leaves(call):
                frozen.extend(bool(one.spec.frozen) for one in (await source.list(IPBlock)).items)
                assert not await arrive(source, "another", no_pause)
            return Fate.OK

        back = await move(FaultyStore(target, gate), source, TO, FROM)
        assert frozen == [True, True]
        assert await arrive(source, back.id, no_pause)

    async def test_it_can_move_on_from_there(self) -> None:
        source, second, third = await filled(*EVERYTHING), MemoryStore(), MemoryStore()
        await move(source, second)
        moved = await move(second, third, TO, "memory:third")
        assert await alike(source, third)
        assert mark.moved_by(await mark.read(third)) == moved.id


class TestKubernetes:
    @pytest.mark.parametrize(
        ("kind", "ways"),
        [
            pytest.param(Pod, (False, False, True), id="pods neither in nor out"),
            pytest.param(KubernetesNode, (False, False, True), id="its nodes neither in nor out"),
            pytest.param(Namespace, (False, True, True), id="namespaces only out"),
            pytest.param(ServiceAccount, (False, True, True), id="service accounts only out"),
            pytest.param(NetworkPolicy, (True, True, True), id="policies in and out"),
            pytest.param(IPBlock, (True, True, True), id="what is ours in and out"),
            pytest.param(Lease, (False, False, False), id="leases nowhere"),
        ],
    )
    def test_what_is_its_own_stays(self, kind: type[Resource], ways: tuple[bool, bool, bool]) -> None:
        schemes = (("etcd", "kubernetes"), ("kubernetes", "etcd"), ("sqlite", "etcd"))
        assert tuple(not kept_out(kind, *pair) for pair in schemes) == ways

    async def test_namespaces_must_be_there_before_what_goes_into_them(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        with pytest.raises(Refused, match="namespaces shop aren't in the target"):
            await move(source, target, FROM, "kubernetes:")
        assert (await phase(source), await content(target)) == ("", {})
        await target.create(Namespace(metadata=metadata("shop")))
        await move(source, target, FROM, "kubernetes:")
        assert {one.split()[0] for one in await content(target)} == {
            "ippools.tortie.dev",
            "ipblocks.tortie.dev",
            "nodes.tortie.dev",
            "workloadendpoints.tortie.dev",
            "networkpolicies.networking.k8s.io",
            "namespaces",
        }

    async def test_policies_of_its_own_stay_and_are_no_obstacle(self) -> None:
        source, target = await filled(pool()), await filled(policy("own"))
        await move(source, target, FROM, "kubernetes:")
        assert (await target.get(NetworkPolicy, "own", "shop")).name == "own"

    def test_what_the_server_keeps_of_an_object_does_not_count(self) -> None:
        given = pool()
        server = {"managedFields": [{}], "creationTimestamp": "2026-11-22T00:00:00Z", "finalizers": ["x"]}
        read = msgspec.structs.replace(given, metadata=Metadata(name="blue", uid="u", unknown=UnknownFields(server)))
        assert same(given, read)
        assert not same(given, relabelled(given, a="b"))

    @pytest.mark.parametrize(
        ("made", "kept"),
        [
            pytest.param({"ingress": [{}], "policyTypes": ["Ingress"]}, True, id="with defaults"),
            pytest.param({"ingress": [{}]}, True, id="just so"),
            pytest.param({"policyTypes": ["Ingress"]}, False, id="without one of the fields"),
            pytest.param({"ingress": [{}, {}]}, False, id="with another value"),
        ],
    )
    def test_what_a_server_fills_in_is_told_from_what_it_drops(self, made: dict[str, object], kept: bool) -> None:
        def with_spec(spec: dict[str, object]) -> NetworkPolicy:
            return msgspec.structs.replace(
                policy(), spec=msgspec.convert({"podSelector": {}, **spec}, NetworkPolicySpec)
            )

        assert covers(with_spec(made), with_spec({"ingress": [{}]})) is kept

    async def test_a_target_that_fills_in_defaults_is_alike(self) -> None:
        class Defaulting(MemoryStore):
            async def create(self, resource: R) -> R:
                return await super().create(_defaulted(resource))

            async def update(self, resource: R) -> R:
                return await super().update(_defaulted(resource))

        source, target = await filled(policy(), pool()), Defaulting()
        await move(source, target)
        assert (await target.get(NetworkPolicy, "db", "shop")).spec.policy_types == ("Ingress",)

    async def test_a_target_that_loses_a_field_is_refused(self) -> None:
        class Pruning(MemoryStore):
            async def create(self, resource: R) -> R:
                return await super().create(relabelled(resource))

        source, target = await filled(policy("db", a="b")), Pruning()
        with pytest.raises(Refused, match="doesn't keep all of NetworkPolicy shop/db"):
            await move(source, target)


def _defaulted(resource: R) -> R:
    if not isinstance(resource, NetworkPolicy):
        return resource
    return msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, policy_types=("Ingress",)))


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("there", "named"),
        [
            pytest.param(pool(cidr="10.66.0.0/16"), "IPPool blue", id="an object that differs"),
            pytest.param(policy("other"), "NetworkPolicy shop/other", id="one that the source hasn't"),
            pytest.param(
                ClusterConfiguration(metadata=metadata("default"), spec=ClusterConfigurationSpec(cooldown_seconds=5)),
                "ClusterConfiguration default",
                id="other settings",
            ),
        ],
    )
    async def test_a_target_with_anything_else_in_it(self, there: Resource, named: str) -> None:
        source, target = await filled(*EVERYTHING), await filled(there)
        before = await content(target)
        with pytest.raises(Refused, match=named):
            await move(source, target)
        assert (await phase(source), await content(target)) == ("", before)

    async def test_one_datastore_twice(self) -> None:
        store = await filled(*EVERYTHING)
        with pytest.raises(Refused, match="one datastore"):
            await move(store, store)
        assert await phase(store) == ""
        assert not any(one.spec.frozen for one in (await store.list(IPBlock)).items)

    async def test_a_datastore_twice_that_was_moved_to_once(self) -> None:
        source, store = await filled(*EVERYTHING), MemoryStore()
        await move(source, store)
        with pytest.raises(Refused, match="one datastore"):
            await move(store, store, TO, "memory:again")
        assert await phase(store) == ""

    async def test_another_target_than_the_one_begun_with(self) -> None:
        source = await filled(*EVERYTHING)
        with suppress(StoreError):
            await move(source, FaultyStore(MemoryStore(), refused_from("create")))
        assert await phase(source) == "Frozen"
        with pytest.raises(Refused, match="is being left for"):
            await move(source, MemoryStore(), FROM, "memory:elsewhere")

    async def test_a_target_that_was_left_for_another(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        with pytest.raises(Refused, match="the target is being left for"):
            await move(await filled(*EVERYTHING), source, "memory:third", FROM)

    async def test_a_target_that_was_left_for_something_else_at_the_sources_address(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        with pytest.raises(Refused, match="the target is being left for"):
            await move(await filled(*EVERYTHING), source, TO, FROM)

    async def test_a_password_in_the_targets_address(self) -> None:
        with pytest.raises(Invalid, match="--to: has a password") as refused:
            await move(MemoryStore(), MemoryStore(), FROM, "postgresql://u:hush@db/x")
        assert "hush" not in str(refused.value)


class TestWhoElseIsAtWork:
    async def test_what_people_write_during_the_last_pass_is_brought_over(self) -> None:
        """After the pass that found nothing to write, and before the source is left."""
        source, target = await filled(*EVERYTHING, policy("old")), MemoryStore()

        async def gate(call: Call) -> Fate:
            if leaves(call):
                old = await source.get(NetworkPolicy, "old", "shop")
                await source.delete(old)
                await source.create(policy("new"))
                await source.update(relabelled(await source.get(NetworkPolicy, "db", "shop"), a="b"))
            return Fate.OK

        moved = await move(FaultyStore(source, gate), target)
        assert moved.differing == ()
        assert await alike(source, target)
        assert (await target.get(NetworkPolicy, "db", "shop")).metadata.labels == {"a": "b"}

    async def test_what_the_target_was_told_since_stays_and_is_told(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()

        async def gate(call: Call) -> Fate:
            if leaves(call):
                for store, value in ((source, "old"), (target, "new")):
                    await store.update(relabelled(await store.get(NetworkPolicy, "db", "shop"), a=value))
            return Fate.OK

        moved = await move(FaultyStore(source, gate), target)
        assert moved.differing == ("NetworkPolicy shop/db",)
        assert (await target.get(NetworkPolicy, "db", "shop")).metadata.labels == {"a": "new"}

    async def test_settings_that_change_at_the_end_are_copied_before_it_is_left(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        changed = False

        async def gate(call: Call) -> Fate:
            nonlocal changed
            if leaves(call) and not changed:
                changed = True
                found = await source.get(ClusterConfiguration, "default")
                spec = msgspec.structs.replace(found.spec, cooldown_seconds=5)
                await source.update(msgspec.structs.replace(found, spec=spec))
            return Fate.OK

        await move(FaultyStore(source, gate), target)
        assert (await target.get(ClusterConfiguration, "default")).spec.cooldown_seconds == 5

    async def test_who_gives_up_meanwhile_wins(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()

        async def gate(call: Call) -> Fate:
            if leaves(call):
                await abort(Side(source, FROM), untold, pause=no_pause)
            return Fate.OK

        with pytest.raises(Disturbed, match="was ended by somebody else"):
            await move(FaultyStore(source, gate), target)
        assert await phase(source) == ""
        assert not any(one.spec.frozen for one in (await source.list(IPBlock)).items)

    async def test_of_two_who_migrate_at_once_the_slower_one_overwrites_nothing(self) -> None:
        """He has listed the source and is about to list the target, when the other ends and nodes work there."""
        source, target = await filled(*EVERYTHING), MemoryStore()
        used = ip_block(borrowers=("node-2", "node-3"))
        overtaken = False

        async def gate(call: Call) -> Fate:
            nonlocal overtaken
            if call == Call("list", "IPBlock") and await phase(target) == "Frozen" and not overtaken:
                overtaken = True
                await move(source, target)
                found = await target.get(IPBlock, used.name)
                await target.update(msgspec.structs.replace(found, spec=used.spec))
            return Fate.OK

        with pytest.raises(Disturbed, match="was ended by somebody else"):
            await move(source, FaultyStore(target, gate))
        assert (await target.get(IPBlock, used.name)).spec == used.spec

    async def test_what_somebody_else_writes_to_the_target_is_written_over(self) -> None:
        """It may be a late write of a migrator that died."""
        source, target = await filled(*EVERYTHING), MemoryStore()
        written = 0

        async def gate(call: Call) -> Fate:
            nonlocal written
            if isinstance(call.resource, NetworkPolicy) and not written:
                written += 1
                await target.create(policy("db", a="b"))
            if isinstance(call.resource, IPPool) and written == 1:
                written += 1
                await target.update(relabelled(await target.get(NetworkPolicy, "db", "shop"), c="d"))
            return Fate.OK

        await move(source, FaultyStore(target, gate))
        assert (await alike(source, target), written) == (True, 2)

    async def test_a_source_that_never_rests_is_told(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()

        async def gate(call: Call) -> Fate:
            if call == Call("list", "NetworkPolicy"):
                found = await source.get(NetworkPolicy, "db", "shop")
                await source.update(relabelled(found, n=str(int(found.metadata.labels.get("n", "0")) + 1)))
            return Fate.OK

        with pytest.raises(Disturbed, match="NetworkPolicy shop/db changes all the time"):
            await move(FaultyStore(source, gate), target)

    async def test_a_block_that_changes_all_the_time_is_frozen_all_the_same(self) -> None:
        source = await filled(ip_block())
        lost = 0

        async def gate(call: Call) -> Fate:
            nonlocal lost
            if call.verb == "update" and lost < 50:
                lost += 1
                found = await source.get(IPBlock, ip_block().name)
                await source.update(relabelled(found, n=str(lost)))
            return Fate.OK

        await freeze(FaultyStore(source, gate), "m1", no_pause)
        (block,) = (await source.list(IPBlock)).items
        assert (block.spec.frozen, block.metadata.labels) == ("m1", {"n": "50"})


async def test_only_the_migration_that_filled_a_target_opens_it() -> None:
    source, target = await filled(pool()), MemoryStore()

    async def gate(call: Call) -> Fate:
        return Fate.REFUSED if leaves(call) else Fate.OK

    with suppress(StoreError):
        await move(FaultyStore(source, gate), target)
    assert await phase(target) == "Frozen"
    assert not await arrive(target, "another", no_pause)
    assert await phase(target) == "Frozen"
    assert await arrive(target, mark.moved_by(await mark.read(target)), no_pause)
    assert await phase(target) == ""


def test_every_kind_has_its_place_in_the_order_and_pools_come_last() -> None:
    assert {*ORDER, Lease} == set(KINDS)
    assert (ORDER[0], ORDER[-1]) == (ClusterConfiguration, IPPool)
    assert ORDER.index(IPBlock) < ORDER.index(Node)


async def test_a_pass_without_anything_to_write_has_compared_everything() -> None:
    source, target = await filled(*EVERYTHING), MemoryStore()
    copy = Copy(Side(source, FROM), Side(target, TO), no_pause)
    assert await copy.once() == len(EVERYTHING) - 1  # the configuration is copied with its mark
    assert await copy.once() == 0
    await target.delete(await target.get(IPPool, "blue"))
    assert await copy.once() == 1
