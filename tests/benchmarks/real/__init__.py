"""The client against rate limiters of the field and failures of real networks, on the loopback."""
