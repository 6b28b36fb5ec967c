"""`python -m gateway --config FILE`."""

import sys

from gateway.service import main

sys.exit(main(sys.argv[1:]))
