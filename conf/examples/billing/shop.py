"""The shop: a web application that has customers charged by `billing`, wherever that runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from billing.charges import NotACustomer
from forkd import rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# One for the process: its threads share one connection, which is made when the first of them calls.
BILLING = rpc.Client("billing", os.environ.get("BROKER"), timeout=5, allowed_exceptions=[NotACustomer])


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer `/charge?customer=ada&cents=1200` and `/owed?customer=ada` with JSON."""
    status, answer = _answer(environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"]))
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode() + b"\n"]


def _answer(path: str, query: dict[str, list[str]]) -> tuple[str, object]:
    try:
        if path == "/charge":
            return "200 OK", BILLING.call("charge", customer=query["customer"][0], cents=int(query["cents"][0]))
        if path == "/owed":
            return "200 OK", {"owed": _owed(query["customer"][0])}
        return "404 Not Found", {"error": "there are /charge and /owed"}
    except NotACustomer:
        return "404 Not Found", {"error": "no such customer"}
    except (KeyError, ValueError):
        return "400 Bad Request", {"error": "give customer, and cents to charge"}
    except rpc.RpcError as error:
        return _unavailable(error)


def _owed(customer: str) -> int:
    # Each host of billing has a ledger of its own: every worker is asked, and answers or is an exception.
    answers = BILLING.fanout("owed", customer=customer)
    return sum({worker.split("/")[0]: cents for worker, cents in answers.items() if isinstance(cents, int)}.values())


def _unavailable(error: rpc.RpcError) -> tuple[str, object]:
    if isinstance(error, (rpc.WorkerLost, rpc.Timeout)):
        return "502 Bad Gateway", {"error": "it may have been charged: look before you try again"}
    return "503 Service Unavailable", {"error": str(error)}  # certainly not charged
