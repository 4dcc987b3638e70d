"""Whether each service's code can be imported, tried in an interpreter of its own as in production."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING

from forkd import interpreter, secret_files
from forkd.channel import PROTOCOL
from forkd.config.decode import spec_to
from forkd.config.load import place_of
from forkd.config.problems import Problem
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from forkd.config.load import Loaded
    from forkd.config.problems import Path
    from forkd.core.spec import ServiceSpec

_KEYS = {"app", "args", "server", "topic"}  # that a refusal by forkd itself begins with


def try_all(loaded: Loaded) -> None:
    """Add the good services that cannot be imported to the mistakes, each at the place of its `app` or `server`.

    One whose secrets cannot be read is not tried.
    """
    for spec in loaded.config.services:
        secrets = _secrets(loaded, spec)
        if len(secrets) < len(spec.secrets):
            continue
        error = failure(spec, {**secrets, "FORKD_RUNTIME_DIR": loaded.config.runtime_dir})
        if error:
            key, _, refusal = error.partition(": ")
            if key in _KEYS:
                _tell(loaded, ("services", spec.name, key), refusal)
            else:
                key = "app" if spec.server == "wsgi" else "server"
                _tell(loaded, ("services", spec.name, key), f"cannot import: {error}")


def _secrets(loaded: Loaded, spec: ServiceSpec) -> dict[str, str]:
    """Return the secrets that can be read; add the others to the mistakes."""
    found = {}
    for name, path in spec.secrets.items():
        try:
            found[name] = secret_files.content(path)
        except ForkdError as error:
            _tell(loaded, ("services", spec.name, "secrets", name), str(error))
    return found


def _tell(loaded: Loaded, path: Path, text: str) -> None:
    loaded.problems.add(Problem(place_of(loaded.root, path), path, text))


def _probe(spec: ServiceSpec, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    # No pipe: whatever `python` names may end without reading it.
    with tempfile.TemporaryFile() as told:
        told.write(json.dumps(spec_to(spec)).encode())
        told.seek(0)
        return subprocess.Popen(
            interpreter.command("forkd.config.probe", python=spec.python),
            stdin=told,
            stdout=subprocess.PIPE,
            env={**os.environ, **spec.environment, **variables},
            start_new_session=True,  # so that what the code starts can be killed with it
        )


def failure(spec: ServiceSpec, variables: dict[str, str]) -> str:
    """Return why a service's code cannot be imported with these variables beside its own; nothing when it can."""
    try:
        child = _probe(spec, variables)
    except OSError:
        return interpreter.remedy(spec.python)
    try:
        output, _ = child.communicate(timeout=spec.start_timeout)
    except subprocess.TimeoutExpired:
        return f"not done within start_timeout, which is {spec.start_timeout:g}s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    told = _told(output, child.returncode)
    return interpreter.remedy(spec.python) if told is None else told


def _told(output: bytes, code: int) -> str | None:
    """Return what the probe has said; None where there was none, or one of another protocol."""
    if code < 0:
        return f"its interpreter was killed by {signal.Signals(-code).name}"
    protocol, _, answer = output.partition(b"\n")
    if protocol != str(PROTOCOL).encode():
        return None
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return f"its interpreter ended with code {code} and did not say why"
