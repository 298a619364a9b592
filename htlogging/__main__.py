"""`python -m htlogging`: see `_cli`."""

import sys

from htlogging._cli import main

if __name__ == "__main__":
    sys.exit(main())
