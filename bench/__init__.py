"""Measurements of forkd beside its peers: they print figures and never pass or fail."""
