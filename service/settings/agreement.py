"""Settings that must agree with each other and with this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator

from service.settings.groups import FIELDS, Settings, fields
from service.settings.inference import ClusterSettings


def objections(settings: Settings) -> Iterator[tuple[str | None, str]]:
    """What is wrong with values that are fine each by itself: the setting's name, if it is one, and
    why."""
    import torch
    from PIL import Image

    inference, cluster, storage = settings.inference, settings.cluster, settings.storage
    for origin in settings.access.cors_origins:
        if not re.fullmatch(r"https?://[^\s/?#@]+", origin):
            yield "cors_origin", f"{origin!r} is no origin of the form https://site.example"
    if settings.refinement.refine != "off" and refinement_version() is None:
        yield (
            "refine",
            "it needs pycolmap, of Python 3.11 or newer; install it with: "
            "pip install 'quantvggt[refinement]'",
        )
    largest = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # beyond it Pillow itself refuses
    if settings.limits.max_pixels > largest:
        yield "max_pixels", f"no picture of more than {largest} pixels can be opened"
    try:
        device = torch.device(inference.device)
    except RuntimeError:
        yield "device", "not a torch device such as cpu or cuda:0"
        return
    if inference.engine == "ray":  # a replica's device, perhaps another machine's
        if device.index:
            yield "device", "each replica sees one GPU, its own; use cuda"
    elif device.type == "cuda" and not torch.cuda.is_available():
        yield "device", "this machine has no usable CUDA device; use cpu"
    if inference.engine == "ray" and len(settings.artifacts) > 1:
        yield "model", "--engine ray serves one model; start one service for each"
    for name in fields(ClusterSettings):
        if inference.engine == "local" and getattr(cluster, name) != FIELDS[name].default:
            yield name, "it belongs to --engine ray"
    if settings.models.model_memory is not None and len(settings.artifacts) == 1:
        yield "model_memory", "it is for several models; give --model more than once"
    if cluster.min_replicas is not None and cluster.min_replicas > cluster.replicas:
        yield "min_replicas", f"there are at most {cluster.replicas} replicas"
    if settings.access.first_key is not None and settings.access.api_keys is None:
        yield "first_key", "it belongs to --api-keys"
    shared = storage.database is not None or storage.database_file is not None
    if storage.database is not None and storage.database_file is not None:
        yield None, "both database and database_file are given; leave one out"
    if shared and storage.object_store is None:
        yield None, "replicas that share a database need object_store too"
    if storage.object_store is not None and not shared:
        yield None, "replicas that share an object_store need database, or database_file, too"


def refinement_version() -> str | None:
    """The version of what the extra `refinement` brings, None if it is not installed."""
    if importlib.util.find_spec("pycolmap") is None:
        return None
    return importlib.metadata.version("pycolmap")
