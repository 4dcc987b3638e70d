"""Tests of what users copy from: the examples and the reference configuration."""
