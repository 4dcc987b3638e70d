"""Random requests, mostly broken, against real servers: what they serve has to be what others read in the same bytes."""
