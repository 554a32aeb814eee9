"""Names that the parsers offer. They are written down here since importing where they come from
takes seconds.

``tests/quantvggt/test_choices.py`` holds every one of them to its source.
"""

from __future__ import annotations

HUB_FORMS = (
    "a hub repository such as facebook/VGGT-1B (owner/name, owner/name@revision, owner/name:file)"
)
CHECKPOINT_FORMS = f"'demo', a weights file, a folder, or {HUB_FORMS}"
RECIPES = ("rtn", "smoothquant", "quarot", "gptq", "dsfq-static", "dsfq", "best")
WITHOUT_CALIBRATION, WITH_CALIBRATION = "quarot", "best"
ABLATIONS = (
    "another seed", "no rotation", "no smoothing", "alpha 0.5", "no clipping",
    "rounding to nearest", "no folding", "no correction",
    "inputs of the float network", "codes for 4-bit activations alone",
    "codes for 8-bit activations alone", "blocks learned", "middle of the scene's blocks in W4A8",
)  # fmt: skip
PARTS = ("aggregator", "image_encoder", "camera_head", "camera_encoder", "depth_decoders")
SCHEMES = ("w8a8", "w4a8", "w4a4", "w4a16", "w3a4", "w2a4", "float")
ATTENTION = ("float", "int8")
DENSE_HEADS = ("float32", "bfloat16")
HEADS = ("camera", "depth", "point", "track", "rays", "metric")
PROPAGATE = ("quantised", "float")

SYNTHETIC = "synthetic"
CALIBRATION_READERS = ("co3d", "7scenes")
SAMPLINGS = ("nfds", "filter", "cluster", "random")
CALIBRATION = {"samples": 20, "frames": 4, "sampling": "nfds"}
"""What calibration takes where nothing else is asked for."""

SYNTHETIC_SCENES = 200
BOOTSTRAP = 1000
DATASETS = ("synthetic", "co3d", "dtu", "7scenes", "nrgbd", "colmap", "folder")

TRAINING_RECIPES = ("rooms", "free", "mixed", "further", "free-gpu")
TRAINING_SEED, TRAINING_PROCESSES = 0, 2

TEST_SETS = ("std", "photo", "free", "free-photo", "relief", "facade")

SAMPLES = ("still-life", "rooms")
"""Bundled pictures with known cameras."""

REFINE = ("off", "cameras", "dense")
SIMULATED = ("p1", "p2", "p3", "p4")

MODES = ("fit", "crop", "pad", "public")
OPTIONS = (
    "confidence", "max_points", "voxel_size", "depth_edge", "mask_sky", "mask_black", "mask_white",
    "frames", "points", "mode", "order", "manifest", "fps", "video_frames", "drop_blurred",
    "attention_keys", "passes", "close_loops", "cameras", "known_distance", "query_points",
    "refine", "refine_camera", "refine_distortion", "refine_pixels", "refine_seconds",
    "outputs", "model", "timeout", "callback_url", "output_urls", "output", "dry_run",
)  # fmt: skip
"""Options of a reconstruction."""

YES = ("true", "1", "on", "t", "y", "yes")
"""What an option of yes or no says yes with, in small letters."""
