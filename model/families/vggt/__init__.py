"""VGGT (Wang et al., "VGGT: Visual Geometry Grounded Transformer", 2025)."""
