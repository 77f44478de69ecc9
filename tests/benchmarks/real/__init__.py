"""The client against rate limiters of the field and failures of real networks, on the loopback."""

import sys
from pathlib import Path

# As for pytest, which the processes that run here know nothing of.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
