"""`python -m gateway --config FILE`."""

import sys

from gateway.process import main

sys.exit(main(sys.argv[1:]))
