"""Calls within one host, over a Unix socket per worker slot; without a broker."""
