"""Clients of every kind for an installed forkd whose workers come and go: none of them may lose a request."""
