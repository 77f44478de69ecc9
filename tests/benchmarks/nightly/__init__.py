"""Runs of the command line that are ended at random moments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
