"""Hosts of the tests' own: each with a name and a network of its own, joined to a middle one by a cable that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Self

import pytest

MIDDLE = "10.77.0.1"
"""The address of the middle, for every host."""


class Host:
    """A network and a name; `under` is what a command is started by to run there. It ends with the `with` block."""

    def __init__(self, name: str) -> None:
        self.name = name
        # It holds the namespaces as long as it reads from us; all in them, cables too, vanishes with the last process.
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts"),
                *("sh", "-c", 'hostname "$0"; echo; exec cat', name),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.under = ("nsenter", "-t", str(self._holder.pid), "--net", "--uts", "--")
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def run(self, *command: str) -> str:
        """Run a command there that is to succeed; return what it prints."""
        done = subprocess.run([*self.under, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, *arguments: str) -> None:
        """Run ip(8) there."""
        self.run("ip", *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()


class Network:
    """The middle, where a broker runs, and hosts around it, each of which reaches only the middle."""

    def __init__(self, *names: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("a network of its own takes root")
        if shutil.which("ip") is None:
            pytest.fail("ip is missing: apt-get install iproute2, or make system-packages")
        self._names = names

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.middle, *self.hosts = [stack.enter_context(Host(name)) for name in ("middle", *self._names)]
            for number, host in enumerate(self.hosts, 1):
                self._join(host, f"10.77.{number}.1")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self, host: Host, *, near: bool = False) -> None:
        """Cut a host off: what either side sends is lost without a word; or its `near` end is down, which it is told."""
        self._set(host, near, "down")

    def heal(self, host: Host, *, near: bool = False) -> None:
        """Join it again."""
        self._set(host, near, "up")

    def _set(self, host: Host, near: bool, state: str) -> None:
        if near:
            host.ip("link", "set", "cable", state)
        else:
            self.middle.ip("link", "set", "dev", host.name, state)

    def _join(self, host: Host, address: str) -> None:
        self.middle.ip(
            "link", "add", "name", host.name, "type", "veth", "peer", "name", "cable", "netns", str(host.pid)
        )
        # Each end knows the other by its address alone, so that the kernel makes the ways anew whenever an end is up.
        self.middle.ip("address", "add", MIDDLE, "peer", address, "dev", host.name)
        host.ip("address", "add", address, "peer", MIDDLE, "dev", "cable")
        self.heal(host)
        self.heal(host, near=True)
