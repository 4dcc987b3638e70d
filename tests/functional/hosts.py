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
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--uts",
                "sh",
                "-c",
                'hostname "$0"; echo; exec cat',
                name,
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

    def ip(self, *arguments: str) -> None:
        """Run ip(8) there."""
        subprocess.run([*self.under, "ip", *arguments], check=True)

    def close(self) -> None:
        self._holder.communicate()


class Network:
    """The middle, where a broker runs, and hosts around it, each of which reaches only the middle."""

    def __init__(self, *names: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("a network of its own takes root")
        if shutil.which("ip") is None:
            pytest.fail("ip is missing: apt-get install iproute2, or make system-packages")
        self._stack = contextlib.ExitStack()
        self.middle = self._host("middle")
        self.middle.ip("address", "add", f"{MIDDLE}/32", "dev", "lo")
        self.hosts = [self._join(self._host(name), number) for number, name in enumerate(names, 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self, host: Host) -> None:
        """Cut a host off: what either side sends is lost without a word."""
        self.middle.ip("link", "set", host.name, "down")

    def heal(self, host: Host) -> None:
        """Join it again."""
        self.middle.ip("link", "set", host.name, "up")

    def _host(self, name: str) -> Host:
        host = Host(name)
        self._stack.callback(host.close)
        return host

    def _join(self, host: Host, number: int) -> Host:
        near, far = f"10.77.{number}.1", f"10.77.{number}.2"
        self.middle.ip("link", "add", host.name, "type", "veth", "peer", "name", "cable", "netns", str(host.pid))
        self.middle.ip("address", "add", f"{near}/24", "dev", host.name)
        self.middle.ip("link", "set", host.name, "up")
        host.ip("address", "add", f"{far}/24", "dev", "cable")
        host.ip("link", "set", "cable", "up")
        host.ip("route", "add", MIDDLE, "via", near)
        return host
