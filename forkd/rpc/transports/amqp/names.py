"""What a topic's queues are called on the broker, and how they are declared: whoever comes first does.

Calls go to the default exchange, which leads to a queue by its name and needs no upkeep. What is declared outlives a
restart of the broker, so that no topic is unknown after it; the calls that wait there do not.
"""

from __future__ import annotations

from typing import Any

EXCHANGE = "forkd"
"""A direct one, for what goes to all workers of a topic: by the topic's name it leads to the queue of each place."""

REPLIES = "amq.rabbitmq.reply-to"  # https://www.rabbitmq.com/docs/3.13/direct-reply-to
UNUSED = 60
"""Seconds after which a queue vanishes that no worker has used: calls wait so long for one, then the topic is none."""


def of_topic(topic: str) -> str:
    """Return the queue that all workers of a topic take calls from."""
    return f"forkd.{topic}"


def of_place(topic: str, host: str, slot: int) -> str:
    """Return the queue of the worker in a slot of a host: whoever comes after it there finds what it left."""
    return f"forkd.{topic}@{host}/{slot}"


def declare_exchange(channel: Any) -> None:
    """Make sure that there is the exchange for what goes to all workers."""
    channel.exchange_declare(EXCHANGE, "direct", durable=True, auto_delete=False)


def declare_queue(channel: Any, name: str, most_waiting: int) -> None:
    """Make sure that there is a queue; it refuses a call beyond those that may wait."""
    arguments = {"x-expires": UNUSED * 1000, "x-max-length": most_waiting, "x-overflow": "reject-publish"}
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
