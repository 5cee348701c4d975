"""``python -m spacer_lib`` is the ``spacer`` command."""

import sys

from spacer_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
