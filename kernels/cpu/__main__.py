"""Builds the library ahead of its first use: `python -m kernels.cpu`."""

import sys

from kernels.cpu import available
from kernels.path import kernel_path

if __name__ == "__main__":
    chosen = kernel_path()
    print(f"CPU kernels: {chosen}; this machine runs: {', '.join(available()) or 'none'}")
    sys.exit(0 if available() else 1)
