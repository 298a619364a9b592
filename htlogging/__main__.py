"""`python -m htlogging`: see `_cli`."""

import sys

from htlogging._cli import main

sys.exit(main())
