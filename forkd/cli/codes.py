"""The exit codes of the commands; scripts and units rely on them."""

DONE, FAILED, USAGE, NOT_RUNNING, NOT_AS_WANTED, BAD_CONFIG, INTERRUPTED = 0, 1, 2, 3, 4, 78, 130
