"""Forwarding is turned on with a note of how the host was, by which everything can be put back."""

from pathlib import Path

import pytest

from agent import before
from kernel import sysctl
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


def settings(host: Namespace) -> str:
    return host.run("sh", "-c", "sysctl net.ipv4 net.ipv6 2>/dev/null")


def turned_on(host: Namespace) -> list[str]:
    return host.run("sysctl", "-n", *FORWARDING).split()


def test_every_setting_is_as_before_also_those_that_the_kernel_changes_along(tmp_path: Path) -> None:
    with namespaces("host") as [host]:
        host.ip("link add up0 type veth peer name up1")
        host.run("sysctl", "-qw", "net.ipv4.conf.all.accept_redirects=0", "net.ipv6.conf.up0.forwarding=1")
        first = settings(host)
        host.inside(lambda: before.turn_forwarding_on(tmp_path))
        assert turned_on(host) == ["1", "1"]
        host.ip("link del up0")
        host.ip("link add up0 type veth peer name up1")  # links come and go between
        host.inside(lambda: before.put_back(tmp_path))
        assert turned_on(host) == ["0", "0"]
        assert "net.ipv4.conf.all.accept_redirects = 0\n" in settings(host)
        assert settings(host) == first
        assert list(tmp_path.iterdir()) == []


def test_a_second_start_keeps_the_first_note(tmp_path: Path) -> None:
    with namespaces("host") as [host]:
        host.inside(lambda: before.turn_forwarding_on(tmp_path))
        host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")  # somebody's hand
        host.inside(lambda: before.turn_forwarding_on(tmp_path))
        assert turned_on(host) == ["1", "1"]
        host.inside(lambda: before.put_back(tmp_path))
        assert turned_on(host) == ["0", "0"]


def test_a_host_that_forwards_already_is_left_alone(tmp_path: Path) -> None:
    with namespaces("host") as [host]:
        host.run("sysctl", "-qw", *(f"{name}=1" for name in FORWARDING))
        host.inside(lambda: before.turn_forwarding_on(tmp_path))
        assert list(tmp_path.iterdir()) == []
        assert host.inside(lambda: before.put_back(tmp_path)) == []
        assert turned_on(host) == ["1", "1"]


@pytest.mark.parametrize(
    "text", ['{"where": "another boot 1", "settings": {"net/ipv4/ip_forward": "0"}}', '{"wh'], ids=["old", "half"]
)
def test_a_note_of_another_boot_or_half_of_one_counts_for_nothing(tmp_path: Path, text: str) -> None:
    with namespaces("host") as [host]:
        before.note_path(tmp_path).write_text(text)
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        assert host.inside(lambda: before.put_back(tmp_path)) == []
        assert turned_on(host) == ["1", "0"]


def test_what_is_put_back_is_told(tmp_path: Path) -> None:
    with namespaces("host") as [host]:
        host.inside(lambda: before.turn_forwarding_on(tmp_path))
        assert "net.ipv4.ip_forward = 0" in host.inside(lambda: before.put_back(tmp_path))


def test_patterns_name_settings_by_their_paths() -> None:
    assert "net/ipv4/conf/all/forwarding" in sysctl.matching("net/ipv4/conf/*/forwarding")
    assert sysctl.matching("net/nosuch/*") == []
