"""The reconstruction service: pictures in over HTTP, cameras, depth maps and a point cloud out."""

from __future__ import annotations

__version__ = "0.1.0"
