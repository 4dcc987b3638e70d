"""Calls from end to end, over real sockets, against workers of both engines."""
