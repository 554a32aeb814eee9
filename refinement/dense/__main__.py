"""Builds the library ahead of its first use: `python -m refinement.dense`."""

import sys

from kernels.cpu.build import BuildError
from refinement.dense.library import built
from refinement.dense.native import loaded

if __name__ == "__main__":
    try:
        loaded(built())
    except (BuildError, OSError) as error:
        print(f"dense depth will run in plain torch, slowly: {error}")
        sys.exit(1)
    print("dense depth has its library")
