"""`allow` under a real launcher: another user calls, and a reload changes whether it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd import rpc
from tests.becoming import as_user, needs_root
from tests.functional.installed import Installed

if TYPE_CHECKING:
    import pathlib
    from typing import Any

pytestmark = needs_root

CALLER = 4242


def test_a_reload_changes_who_may_call(short_tmp: pathlib.Path) -> None:
    short_tmp.chmod(0o711)
    folder = short_tmp / "f"
    folder.mkdir(mode=0o711)
    installed = Installed(folder)

    def configure(allow: list[str]) -> None:
        service = {"server": "adder:Adder", "topic": "adder", "concurrency": "threads", "allow": allow}
        installed.configure({"adder": service})

    def called() -> Any:
        with rpc.Client("adder", runtime_dir=str(installed.runtime_dir), timeout=20) as client:
            return client.call("add", a=1, b=2)

    try:
        configure([])
        installed.start()
        assert as_user(called, CALLER)[0] == "NotAllowed"
        configure([f"uid:{CALLER}"])
        assert installed.run("reload", "--wait").returncode == 0
        assert as_user(called, CALLER) == 3
        kind, text = as_user(called, CALLER + 1)
        assert kind == "NotAllowed"
        assert text.endswith(
            f"uid {CALLER + 1} may not call: only root, uid 0, which the service runs as, uid:{CALLER} may"
        )
        configure([])
        assert installed.run("reload", "--wait").returncode == 0
        assert as_user(called, CALLER)[0] == "NotAllowed"
        assert called() == 3
    finally:
        installed.close()
