"""`python -m qianwen` is the command `qianwen`."""

import sys

from qianwen.cli import main

sys.exit(main())
