"""The simulator: the launcher's own loop and supervisor, run through seeded histories in virtual time."""
