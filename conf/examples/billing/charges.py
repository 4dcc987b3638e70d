"""What is called from other hosts: it writes down what customers owe."""

from __future__ import annotations

import os
import socket

from forkd import rpc


class NotACustomer(Exception):
    """Nobody of that name; both sides know this class, so a caller can catch it."""


class Billing(rpc.Server):
    """Every public method can be called as `billing.METHOD`, from any host that reaches the broker.

    `charge` runs once at most: where its worker is lost the caller hears that it may have run. `owed` changes nothing,
    so it may run twice, and such a caller hears of nothing.
    """

    version = "1.0"

    def charge(self, customer: str, cents: int) -> dict[str, object]:
        """Write down that a customer owes so much more; return who did."""
        if not customer.isidentifier():
            raise NotACustomer(customer)
        with open(_ledger(), "a", encoding="utf-8") as ledger:
            ledger.write(f"{customer} {cents}\n")  # in one piece, whoever else writes
        return {"charged": cents, "by": socket.gethostname()}

    @rpc.idempotent
    def owed(self, customer: str) -> int:
        """Return how many cents a customer owes on this host."""
        try:
            with open(_ledger(), encoding="utf-8") as ledger:
                lines = [line.split() for line in ledger]
        except FileNotFoundError:
            return 0
        return sum(int(cents) for name, cents in lines if name == customer)


def _ledger() -> str:
    return os.environ.get("BILLING_LEDGER", "ledger.txt")
