"""Calls between hosts, over RabbitMQ: queues that all workers of a topic share, on kombu and py-amqp."""
