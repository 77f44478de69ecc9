"""What the API means: calls, headers, bodies, errors. Pure: no clock, environment, event loop or socket."""
