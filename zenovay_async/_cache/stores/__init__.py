"""Where responses are kept for several processes: in files, for those of a machine, or in Redis, for all machines."""
