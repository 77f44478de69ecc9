"""What a call, a response, a batch and an import cost, side by side with what people write by hand."""

import sys
from pathlib import Path

# As for pytest, which the processes that run here know nothing of.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
