"""The pure core: what a call is, what an answer means, when to try again, how fast to go.

Nothing in here opens a socket, reads a clock or sleeps; time is handed in.
"""
