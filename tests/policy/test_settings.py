"""Settings that can't work are refused."""

import pytest

from policy.settings import Settings


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"mark": 0}, id="no mark"),
        pytest.param({"mark": 0x10000000}, id="a mark outside its mask"),
        pytest.param({"mark": 0x11, "mark_mask": 0x10}, id="partly outside"),
        pytest.param({"mark_mask": 1 << 32, "mark": 1 << 31}, id="a mask of more than 32 bits"),
        pytest.param({"vxlan_port": 0}, id="no port"),
        pytest.param({"nflog_group": 65536}, id="no group"),
        pytest.param({"nflog_per_second": 0}, id="never"),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"mark|port|group|nflog"):
        Settings(**wrong)


def test_the_mark_is_always_under_its_mask() -> None:
    settings = Settings(mark=0x100, mark_mask=0xF00)
    assert settings.allowed() == ("-m", "mark", "--mark", "0x100/0xf00")
    assert settings.not_allowed() == ("-m", "mark", "!", "--mark", "0x100/0xf00")
    assert settings.allow() == ("-j", "MARK", "--set-xmark", "0x100/0xf00")
    assert settings.clear() == ("-j", "MARK", "--set-xmark", "0x0/0xf00")
