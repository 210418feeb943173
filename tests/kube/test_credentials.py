"""As whom the API server is asked: every kind of credentials, read again when they change and when they expire."""

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from datastore.errors import Forbidden, Invalid, Unavailable
from datastore.kubernetes import access
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.urls import open_store
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.samples import endpoint, policy
from tests.kube.apiserver import ADMIN_TOKEN, TORTIE, TORTIE_TOKEN, ApiServer
from tests.kube.cluster import control_plane
from tests.kube.conftest import OpenAs
from tests.kube.server import wait_for
from tests.sandbox import needs_sandbox

ACCOUNTS = "/api/v1/namespaces/shop/serviceaccounts"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
SECRET = "a-secret-that-nobody-may-read"  # noqa: S105


def account_token(server: ApiServer, name: str = "agent") -> str:
    """A token of a service account that is made anew; those of the one before it are no good any more."""
    server.ask("DELETE", f"{ACCOUNTS}/{name}")
    server.make(ACCOUNTS, {"metadata": {"name": name}})
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TORTIE}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "shop"}
    server.ask("POST", bindings, {"metadata": {"name": f"sa-{name}"}, "roleRef": role, "subjects": [subject]})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token: str = server.make(f"{ACCOUNTS}/{name}/token", request)["status"]["token"]
    wait_for("the token", lambda: server.ask("GET", POLICIES, token=token)[0] == 200)
    return token


def until_expired(server: ApiServer, token: str) -> None:
    """The API server remembers for 10 s that a token was good."""
    wait_for("the token's end", lambda: server.ask("GET", POLICIES, token=token)[0] == 401)


def plugin(folder: Path, token: Path) -> dict[str, object]:
    """An exec plugin that gives the token in a file, and counts how often it was asked."""
    program = folder / "plugin.sh"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    text = json.dumps({**credential, "status": {"token": "TOKEN"}})
    program.write_text(f"#!/bin/sh\necho >>{folder}/asked\necho '{text}' | sed \"s/TOKEN/$(cat {token})/\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": credential["apiVersion"], "command": str(program), "interactiveMode": "Never"}}


async def test_a_token_in_the_kubeconfig_is_used(open_as: OpenAs) -> None:
    store = await open_as({"token": TORTIE_TOKEN})
    await store.create(policy())


async def test_a_client_certificate_is_used_and_a_new_one_too(open_as: OpenAs, server: ApiServer) -> None:
    certs = control_plane().certs
    certs.issue("client", "/CN=somebody")
    user: dict[str, object] = {
        "client-certificate": str(certs.certificate("client")),
        "client-key": str(certs.key("client")),
    }
    with pytest.raises(Forbidden, match='User "somebody"'):
        await open_as(user)
    certs.issue("client", f"/CN={TORTIE}")
    store = await open_as(user)
    await store.create(policy())
    certs.issue("client", "/CN=somebody")
    await until_forbidden(store)
    certs.issue("client", f"/CN={TORTIE}")
    await until_listed(store)


async def until_forbidden(store: KubernetesStore) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await store.list(NetworkPolicy)
            except Forbidden:
                return
            await asyncio.sleep(0.1)


async def until_listed(store: KubernetesStore) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await store.list(NetworkPolicy)
            except Forbidden:
                await asyncio.sleep(0.1)
            else:
                return


async def test_a_token_file_that_is_replaced_is_read_again(open_as: OpenAs, server: ApiServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TORTIE_TOKEN + "\n")
    store = await open_as({"tokenFile": str(file)})
    made = await store.create(policy())
    file.write_text("rotten")
    await until_forbidden(store)
    file.write_text(TORTIE_TOKEN)
    await until_listed(store)
    assert (await store.list(NetworkPolicy)).items == (made,)


async def test_when_a_token_expires_the_file_is_read_at_once_and_a_watch_goes_on(
    open_as: OpenAs, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_EVERY_S", 1e9)
    file = tmp_path / "token"
    old = account_token(server)
    file.write_text(old)
    store = await open_as({"tokenFile": str(file)})
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    await store.create(endpoint("before"))
    await follower.until_sees("before")
    file.write_text(account_token(server))
    until_expired(server, old)
    for write in (store.create(endpoint("after")), store.create(policy())):
        await write
    await follower.until_sees("after")
    await follower.watch.aclose()


async def test_an_expired_token_without_a_new_one_is_forbidden_and_nothing_is_written(
    open_as: OpenAs, server: ApiServer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(account_token(server))
    store = await open_as({"tokenFile": str(file)})
    server.ask("DELETE", f"{ACCOUNTS}/agent")
    until_expired(server, file.read_text())
    with pytest.raises(Forbidden, match="Unauthorized"):
        await store.create(policy())
    assert server.ask("GET", f"{POLICIES}/db")[0] == 404


async def test_an_exec_plugin_is_asked_again_when_its_token_expires(
    open_as: OpenAs, server: ApiServer, tmp_path: Path
) -> None:
    token, asked = tmp_path / "token", tmp_path / "asked"
    token.write_text(account_token(server))
    store = await open_as(plugin(tmp_path, token))
    for _ in range(3):
        await store.list(NetworkPolicy)
    assert asked.read_text().count("\n") == 1
    old = token.read_text()
    token.write_text(account_token(server))
    until_expired(server, old)
    calls = [store.create(policy(f"p{number}")) for number in range(10)]
    await asyncio.gather(*calls)
    assert asked.read_text().count("\n") == 2


@needs_sandbox
async def test_a_pod_uses_its_service_account(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = access.SERVICE_TOKEN.parent
    folder.mkdir(parents=True)
    try:
        access.SERVICE_TOKEN.write_text(account_token(server))
        access.SERVICE_AUTHORITY.write_bytes(server.certs.authority.read_bytes())
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        store = await open_store("kubernetes:")
        try:
            await store.create(policy())
            access.SERVICE_TOKEN.write_text(account_token(server))
            assert len((await store.list(NetworkPolicy)).items) == 1
        finally:
            await store.close()
    finally:
        for path in (access.SERVICE_TOKEN, access.SERVICE_AUTHORITY):
            path.unlink()
        folder.rmdir()


async def test_a_context_and_several_kubeconfigs_are_found_as_kubectl_finds_them(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = server.kubeconfig(tmp_path / "good"), server.kubeconfig(tmp_path / "bad", {"token": "bad"})
    document = json.loads(good.read_text())
    document["users"][0]["name"] = document["contexts"][0]["context"]["user"] = "other"
    document["contexts"][0]["name"] = "lab"
    good.write_text(json.dumps(document))
    monkeypatch.setenv("KUBECONFIG", f"{bad}:{good}:{tmp_path / 'absent'}")
    with pytest.raises(Forbidden, match="Unauthorized"):
        await open_store("kubernetes:")
    store = await open_store("kubernetes:?context=lab")
    await store.create(policy())
    await store.close()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(lambda path: path.unlink(), Unavailable, "there is no kubeconfig", id="no file"),
        pytest.param(lambda path: path.write_text(f"a: [{SECRET}"), Invalid, "is no YAML", id="no YAML"),
        pytest.param(lambda path: path.write_text(f"[{SECRET}]"), Invalid, "can't be understood", id="no kubeconfig"),
        pytest.param(lambda path: spoil(path, "current-context"), Invalid, "current-context", id="no context"),
        pytest.param(lambda path: spoil(path, "clusters"), Invalid, "clusters", id="no cluster"),
        pytest.param(lambda path: aim(path, "certificate-authority", "/nowhere"), Invalid, "/nowhere", id="no CA"),
        pytest.param(lambda path: aim(path, "server", "https://127.0.0.1:1"), Unavailable, "reached", id="no server"),
    ],
)
async def test_a_kubeconfig_that_is_wrong_is_told_without_its_secrets(
    server: ApiServer, tmp_path: Path, change: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    config = server.kubeconfig(tmp_path / "config", {"token": SECRET})
    change(config)
    with pytest.raises(error, match=message) as caught:
        await KubernetesStore.open(KubernetesAddress(config))
    assert SECRET not in str(caught.value)
    assert str(config) in str(caught.value) or "127.0.0.1:1" in str(caught.value)


def spoil(path: Path, name: str) -> None:
    document = json.loads(path.read_text())
    del document[name]
    path.write_text(json.dumps(document))


def aim(path: Path, name: str, value: str) -> None:
    document = json.loads(path.read_text())
    document["clusters"][0]["cluster"][name] = value
    path.write_text(json.dumps(document))


async def test_a_server_of_another_authority_is_not_talked_to(server: ApiServer, tmp_path: Path) -> None:
    config = server.kubeconfig(tmp_path / "config", {"token": ADMIN_TOKEN})
    aim(config, "certificate-authority", str(server.certs.certificate("apiserver")))
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await KubernetesStore.open(KubernetesAddress(config))
