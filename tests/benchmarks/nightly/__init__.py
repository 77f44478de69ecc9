"""Runs of the command line that are ended at random moments."""

import sys
from pathlib import Path

# As for pytest, which the processes that run here know nothing of.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
