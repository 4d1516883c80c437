# SPDX-License-Identifier: GPL-2.0-only
"""`python -m kbridge`, and the `kbridge` command itself."""

import os
import sys
from typing import NoReturn

import kbridge.bundled  # noqa: F401  first: it says where the rest is looked for
from kbridge import completion
from kbridge.cli import main


def command() -> NoReturn:
    """Run the command and end at once: to take some 100,000 objects apart first, as Python does at
    its end, would be a sixth of the time of gen-libkernel.  main() has flushed what it printed.
    """
    completion.answer()
    status = main()
    if sys.stderr is not None:
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    command()
