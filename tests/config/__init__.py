"""Tests of the configuration: its texts, its files, its reader."""
