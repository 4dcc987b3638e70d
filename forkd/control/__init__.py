"""The control socket: its protocol, the launcher's end and the end of the commands."""
