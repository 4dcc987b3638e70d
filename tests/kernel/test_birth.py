"""What the launcher makes for workers of other users, before they become those."""

from __future__ import annotations

import os

import pytest

from forkd import process
from forkd.claim import Claim
from forkd.errors import ForkdError
from forkd.kernel import birth


@pytest.mark.skipif(os.getuid() != 0, reason="only root has workers of other users")
def test_workers_of_another_user_can_claim_below_roots_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("FORKD_RUNTIME_DIR", str(tmp_path))
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o711)
    nobody = process.account("nobody", None)
    for _ in range(2):
        birth._make_locks_dir(nobody, str(tmp_path))
    found = (tmp_path / "periodic" / str(nobody.uid)).stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (nobody.uid, nobody.gid, 0o700)
    pid = os.fork()
    if pid == 0:
        try:
            process.become(nobody)
            os._exit(0 if Claim("shop", "task").take() else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root has workers of other users")
def test_a_folder_that_is_not_the_launchers_own_is_left_alone(tmp_path):
    nobody, folder = process.account("nobody", None), tmp_path / "periodic"
    folder.mkdir()
    os.chown(folder, nobody.uid, nobody.gid)
    with pytest.raises(ForkdError, match="not the launcher's own"):
        birth._make_locks_dir(nobody, str(tmp_path))
    assert list(folder.iterdir()) == []
