"""Where a shared budget is kept: in a file, for the processes of a machine, or in Redis, for those of all machines."""
