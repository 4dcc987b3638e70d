"""A wrong configuration starts nothing: every mistake is told at once with its place, and the exit code is 78."""

from __future__ import annotations

import os

import pytest

from tests.functional.installed import Installed

BAD = """\
services:
  shop:
    server: wsgi
    app: app:application
    bind: ["127.0.0.1:8080"]
    workers: four
    wrokers: 2
  mail:
    server: wsgi
    no_new_privileges: true
"""


def test_all_mistakes_are_told_in_one_go(forkd: Installed) -> None:
    forkd.config.write_text(BAD)
    for command in ("start", "check"):
        done = forkd.run(command, "-c", str(forkd.config))
        assert done.returncode == 78
        lines = done.stderr.splitlines()
        assert any(
            'services.yaml:6:14: services.shop.workers: expected an integer ≥ 0 or "auto", got "four"' in line
            for line in lines
        )
        assert any(
            'services.yaml:7:5: services.shop.wrokers: unknown key; did you mean "workers"?' in line for line in lines
        )
        assert any("services.mail.no_new_privileges: not yet supported" in line for line in lines)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["missing", "directory", "binary", "fifo", "bomb", "deep", "empty"])
def test_what_is_no_configuration_is_told_in_a_line(forkd: Installed, kind: str) -> None:
    path = forkd.config
    match kind:
        case "directory":
            path.mkdir()
        case "binary":
            path.write_bytes(bytes(range(256)))
        case "fifo":
            os.mkfifo(path)
        case "bomb":
            lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
            lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
            path.write_text("\n".join(lines))
        case "deep":
            path.write_text("[" * 5000)
        case "empty":
            path.write_text("")
    done = forkd.run("start", "-c", str(path), timeout=30)
    assert done.returncode == 78
    assert "services.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_can_import_the_code_too(forkd: Installed) -> None:
    forkd.write("broken.py", "import nosuchmodule\n")
    forkd.configure({"web": forkd.web(), "broken": {"server": "broken:Server"}})
    assert forkd.run("check", "-c", str(forkd.config)).returncode == 0
    done = forkd.run("check", "--import", "-c", str(forkd.config))
    assert done.returncode == 78
    assert "services.broken.server" in done.stderr
    assert "nosuchmodule" in done.stderr


def test_a_reader_that_is_killed_says_nothing_of_the_configuration(
    forkd: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = (
        "import os, sys\nif 'forkd.config' in sys.orig_argv and os.path.exists('kill'):\n    os.kill(os.getpid(), 9)\n"
    )
    forkd.write("sitecustomize.py", victim)
    monkeypatch.setenv("PYTHONPATH", str(forkd.folder))
    forkd.configure({"web": forkd.web()})
    (forkd.folder / "kill").touch()
    for command in ("start", "check"):
        done = forkd.run(command, "-c", str(forkd.config))
        assert (done.returncode, done.stderr) == (
            1, "forkd: cannot read the configuration: its reader was killed by signal 9\n"
        )  # fmt: skip
    (forkd.folder / "kill").unlink()
    forkd.start()
    (forkd.folder / "kill").touch()
    done = forkd.run("reload")
    assert done.returncode == 1
    assert "killed by signal 9" in done.stderr
    assert forkd.get().startswith("one ")
