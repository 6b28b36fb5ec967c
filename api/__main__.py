"""`python -m api --config FILE`: the API as a process of its own."""

import sys

from api.service import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
