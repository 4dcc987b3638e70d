"""Random signals and orders for an installed forkd under load: what it owes to everybody else holds all the time."""
