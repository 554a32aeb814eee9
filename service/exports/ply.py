"""A cloud as PLY, binary or text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.exports.points import Cloud

_RECORD = np.dtype([("position", "<f4", 3), ("color", "u1", 3), ("confidence", "<f4")])


def write_ply(cloud: Cloud, path: Path, *, ascii: bool = False) -> None:
    """Points with sRGB colours and the network's confidence; binary little-endian unless
    `ascii`."""
    format = "ascii" if ascii else "binary_little_endian"
    header = ["ply", f"format {format} 1.0", f"element vertex {len(cloud)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header.append("property float confidence")
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode())
        if ascii:
            rows = np.concatenate([cloud.points, cloud.colors, cloud.confidence[:, None]], axis=1)
            np.savetxt(file, rows, fmt=["%.9g"] * 3 + ["%d"] * 3 + ["%.6g"])
        else:
            records = np.empty(len(cloud), _RECORD)
            records["position"], records["color"] = cloud.points, cloud.colors
            records["confidence"] = cloud.confidence
            file.write(records.tobytes())
