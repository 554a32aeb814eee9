"""Scores of one way to reconstruct, over several sets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.depth_metrics import depth_errors
from evaluation.pose_metrics import AUC_THRESHOLDS, pose_auc, relative_pose_errors
from evaluation.refined.picture_sets import Array, PictureSet
from refinement.result import NO_DATA, VERIFIED, Refinement


@dataclass(frozen=True)
class Record:
    """One set of pictures, reconstructed in one way. Depth figures are None without true depth."""

    name: str
    rotation_deg: tuple[float, ...]  # one a pair of pictures, see `relative_pose_errors`
    translation_deg: tuple[float, ...]
    placed: int  # pictures whose cameras this way found; of the network all
    pictures: int
    seconds: float
    support: float | None = None
    reason: str | None = None
    abs_rel: float | None = None  # of all pixels, one scale a scene
    verified_abs_rel: float | None = None  # of verified pixels
    verified_median: float | None = None
    coverage: float | None = None  # share of pixels that are verified
    points: int | None = None  # verified pixels


def pose_record(
    pictures: PictureSet, extrinsics: Array, placed: NDArray[np.bool_], seconds: float
) -> Record:
    """Cameras alone; a picture without a camera (NaN) makes each of its pairs wrong.

    `placed` [S] says which cameras this way found itself. Poses are compared in the frame of the
    first of those: the published protocol takes the first picture, and would count every pair as
    wrong where that is the one that was not placed.
    """
    order = np.argsort(~placed, kind="stable")
    predicted = torch.from_numpy(extrinsics[order])
    true = torch.from_numpy(pictures.extrinsics[order])
    rotation, translation = relative_pose_errors(predicted, true)
    return Record(
        pictures.name,
        tuple(rotation.tolist()),
        tuple(translation.tolist()),
        int(placed.sum()),
        len(extrinsics),
        seconds,
    )


def network_depth_error(pictures: PictureSet, depth: Sequence[NDArray[np.float32]]) -> float | None:
    """AbsRel of depth maps on the pictures' own grids, NaN where there is none; None where no true
    depth is known.

    The grid of true depth may be another: it is read at the pixels' centres.
    """
    if pictures.depth is None:
        return None
    predicted = _flat(depth)
    true = _flat(
        [_nearest(one, view.shape) for one, view in zip(pictures.depth, depth, strict=True)]
    )
    valid = predicted.isfinite()
    if not bool((valid & (true > 0)).any()):
        return None
    return depth_errors(predicted.nan_to_num(), true, valid).abs_rel


@dataclass(frozen=True)
class DenseScore:
    """See `Record`."""

    abs_rel: float | None
    verified_abs_rel: float | None
    verified_median: float | None
    coverage: float
    points: int


def dense_score(pictures: PictureSet, refinement: Refinement) -> DenseScore | None:
    """How right the dense depth is; None where there is none.

    Its grid may be smaller than the picture's: true depth is then read at the pixels' centres.
    """
    if refinement.dense is None:
        return None
    source = np.concatenate([view.source.ravel() for view in refinement.dense])
    verified = int((source == VERIFIED).sum())
    coverage = verified / max(source.size, 1)
    if pictures.depth is None:
        return DenseScore(None, None, None, coverage, verified)
    predicted = _flat([view.depth for view in refinement.dense])
    true = _flat(
        [
            _nearest(depth, view.depth.shape)
            for depth, view in zip(pictures.depth, refinement.dense, strict=True)
        ]
    )
    sources = torch.from_numpy(source)
    everywhere = (sources != NO_DATA) & predicted.isfinite()
    certain = (sources == VERIFIED) & (true > 0)
    predicted = predicted.nan_to_num()
    abs_rel = None
    if bool((everywhere & (true > 0)).any()):
        abs_rel = depth_errors(predicted, true, everywhere).abs_rel
    if not bool(certain.any()):
        return DenseScore(abs_rel, None, None, coverage, verified)
    found = depth_errors(predicted, true, certain)
    errors = (predicted[certain] * found.scale - true[certain]).abs() / true[certain]
    return DenseScore(abs_rel, found.abs_rel, float(errors.median()), coverage, verified)


@dataclass(frozen=True)
class Summary:
    """Means over sets of pictures; the AUC is that of all their pairs together."""

    sets: int
    auc: dict[int, float]
    placed: float  # share of the pictures
    seconds: float
    support: float | None
    abs_rel: float | None
    verified_abs_rel: float | None
    verified_median: float | None
    coverage: float | None
    points: float | None


def summarise(records: Sequence[Record]) -> Summary:
    """Pool the records of one way to reconstruct. Raises ValueError without records."""
    if not records:
        raise ValueError("no set of pictures was scored")
    rotation = torch.tensor([angle for record in records for angle in record.rotation_deg])
    translation = torch.tensor([angle for record in records for angle in record.translation_deg])

    def mean(name: str) -> float | None:
        known = [value for record in records if (value := getattr(record, name)) is not None]
        return float(np.mean(known)) if known else None

    return Summary(
        len(records),
        {limit: pose_auc(rotation, translation, limit) for limit in AUC_THRESHOLDS},
        sum(record.placed for record in records) / sum(record.pictures for record in records),
        float(np.mean([record.seconds for record in records])),
        mean("support"),
        mean("abs_rel"),
        mean("verified_abs_rel"),
        mean("verified_median"),
        mean("coverage"),
        mean("points"),
    )


def _flat(maps: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(
        np.concatenate([np.asarray(values, np.float32).ravel() for values in maps])
    )


def _nearest(depth: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """True depth at the centres of the pixels of a grid of another size."""
    rows = ((np.arange(size[0]) + 0.5) * depth.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * depth.shape[1] / size[1]).astype(int)
    return depth[rows[:, None], columns[None]]
