"""How well the client keeps to a rate limit, measured over real HTTP on the loopback."""

import sys
from pathlib import Path

# As for pytest, which the processes that run here know nothing of.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
