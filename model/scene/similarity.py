"""Similarity transforms between two worlds of arbitrary scale: fitted to points or to cameras,
applied to either.

Extrinsics are world-to-camera `[R | t]` with OpenCV axes. Everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.scene.geometry import invert_extrinsics


@dataclass(frozen=True)
class Similarity:
    """`x' = scale * rotation @ x + translation`, an element of Sim(3)."""

    scale: float
    rotation: Tensor  # [3, 3]
    translation: Tensor  # [3]

    @classmethod
    def identity(cls) -> Similarity:
        return cls(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    def move_points(self, points: Tensor) -> Tensor:
        """Points `[..., 3]` of the old world in the new one."""
        return self.scale * (points.double() @ self.rotation.T) + self.translation

    def move_extrinsics(self, extrinsics: Tensor) -> Tensor:
        """Extrinsics `[..., 3, 4]` of the same cameras for points of the new world.

        Camera axes keep their directions and grow with the scale: multiply depths by `scale`.
        """
        extrinsics = extrinsics.double()
        rotation = extrinsics[..., :3] @ self.rotation.T
        translation = self.scale * extrinsics[..., 3] - rotation @ self.translation
        return torch.cat((rotation, translation[..., None]), dim=-1)


def fit_points(
    source: Tensor, target: Tensor, weights: Tensor | None = None, *, with_scale: bool = True
) -> Similarity:
    """The least-squares similarity from points `[N, 3]` to points `[N, 3]`, weighted by `[N]`.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991. The last singular direction is flipped where the optimum would be a mirror image. Points
    that all coincide leave the scale at 1, and so does `with_scale=False`. Raises ValueError for
    fewer than three points or points that are not finite.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(
            "expected two clouds [N, 3] of N >= 3 corresponding points, "
            f"got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    source, target = source.double(), target.double()
    if not bool(source.isfinite().all() and target.isfinite().all()):
        raise ValueError("clouds to align must be finite; mask invalid points before")
    weights = source.new_ones(len(source)) if weights is None else weights.double()
    weights = (weights / weights.sum())[:, None]
    source_mean, target_mean = (weights * source).sum(0), (weights * target).sum(0)
    centred, wanted = source - source_mean, target - target_mean
    u, spread, vt = torch.linalg.svd((weights * wanted).T @ centred)
    flip = source.new_ones(3)
    flip[2] = torch.det(u @ vt).sign()
    rotation = u @ torch.diag(flip) @ vt
    variance = float((weights * centred.square()).sum())
    scale = float((spread * flip).sum()) / variance if with_scale and variance > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * (rotation @ source_mean))


def fit_points_robustly(
    source: Tensor, target: Tensor, weights: Tensor, keep: float = 0.7
) -> Similarity:
    """As `fit_points`, then twice more on the share `keep` of points that fitted best: stray depths
    don't pull."""
    similarity = fit_points(source, target, weights)
    for _ in range(2):
        error = (similarity.move_points(source) - target.double()).norm(dim=-1)
        best = error.argsort()[: max(3, int(keep * len(error)))]
        similarity = fit_points(source[best], target[best], weights[best])
    return similarity


def camera_centres(extrinsics: Tensor) -> Tensor:
    """Centres `[..., 3]` of cameras `[..., 3, 4]` in their world."""
    return invert_extrinsics(extrinsics)[..., :3, 3]


def fit_cameras(source: Tensor, target: Tensor) -> Similarity:
    """The similarity that brings cameras `[S, 3, 4]` of one world to the same cameras in another.

    The rotation is the mean over all cameras, so two cameras, or a straight path, suffice; scale
    and translation are the least-squares fit of the centres. Centres that all coincide, or a single
    one, leave the scale at 1.
    """
    source, target = source.double(), target.double()
    u, _, vt = torch.linalg.svd(torch.einsum("sji,sjk->ik", target[..., :3], source[..., :3]))
    u[:, 2] *= torch.det(u @ vt).sign()
    rotation = u @ vt
    centres, wanted = camera_centres(source) @ rotation.T, camera_centres(target)
    spread, wanted_spread = centres - centres.mean(0), wanted - wanted.mean(0)
    extent = float(spread.square().sum())
    scale = float((spread * wanted_spread).sum()) / extent if extent > 0 else 1.0
    if scale <= 0:  # no similarity brings mirrored centres together: at least the extents agree
        scale = float((wanted_spread.square().sum() / extent).sqrt()) or 1.0
    return Similarity(scale, rotation, wanted.mean(0) - scale * centres.mean(0))
