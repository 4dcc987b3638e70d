"""Remote calls, measured: forkd's transports beside other ways to call a method of another process."""
