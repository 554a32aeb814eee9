import sys

from quantvggt.command import main

if __name__ == "__main__":
    sys.exit(main(program="python -m quantization"))
