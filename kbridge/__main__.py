# SPDX-License-Identifier: GPL-2.0-only
"""`python -m kbridge`: the same as the `kbridge` command."""

import sys

from kbridge.cli import main

sys.exit(main())
