"""``python -m quantvggt``: the command by another way."""

import sys

from quantvggt.command import main

if __name__ == "__main__":
    sys.exit(main(program="python -m quantvggt"))
