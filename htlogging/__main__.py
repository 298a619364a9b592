"""`python -m htlogging`: see `_cli`."""

import sys

from htlogging._cli.main import main

sys.exit(main())
