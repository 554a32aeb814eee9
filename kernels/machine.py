"""What measured times and trials of kernels depend on beside the kernels themselves."""

from __future__ import annotations

import platform

import torch


def describe(device: torch.device) -> str:
    """A GPU by its properties, driver, CUDA and cuDNN; a CPU by its machine and threads; torch."""
    if device.type != "cuda":
        return f"{platform.node()} {torch.get_num_threads()} threads, torch {torch.__version__}"
    driver = getattr(torch._C, "_cuda_getDriverVersion", lambda: None)()
    versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties}, driver {driver}, {versions}, torch {torch.__version__}"
