"""``python -m zenovay_async`` is ``zenovay-async``."""

import sys

from zenovay_async.cli import main

sys.exit(main())
