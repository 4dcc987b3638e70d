"""The deciding half of the launcher: no I/O, no clock, no process; `kernel` does what is decided here."""
