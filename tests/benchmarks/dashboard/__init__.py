"""What a dashboard with many visitors costs: requests, 429s, pages served, and how long they took."""

import sys
from pathlib import Path

# As for pytest, which the processes that run here know nothing of.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
