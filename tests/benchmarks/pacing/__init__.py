"""How well the client keeps to a rate limit, measured over real HTTP on the loopback."""
