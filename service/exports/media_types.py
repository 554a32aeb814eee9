"""Media types of the files that can be had of a result."""

from __future__ import annotations

BYTES = "application/octet-stream"
EXR = "image/x-exr"
GLTF = "model/gltf-binary"
JPEG = "image/jpeg"
JSON = "application/json"
PLY = "application/ply"
PNG = "image/png"
TEXT = "text/plain"
ZIP = "application/zip"
