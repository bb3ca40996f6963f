"""``python -m shared.dev COMMAND...``: runs a command beside a real Redis."""

import sys

from shared.dev.launcher import main

if __name__ == "__main__":
    sys.exit(main())
