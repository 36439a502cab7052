"""`python -m outweigh`, and `accelerate launch -m outweigh`: the command line."""

import sys

from outweigh.cli.main import main

sys.exit(main())
