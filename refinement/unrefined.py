"""The network's cameras as an answer."""

from __future__ import annotations

from refinement.camera_set import CameraSet
from refinement.result import Reason, RefinedPicture, Refinement


def unrefined(cameras: CameraSet, reason: Reason) -> Refinement:
    """Every picture keeps the network's camera, bit for bit."""
    return Refinement(
        pictures=network_pictures(cameras),
        method="none",
        support=None,
        network_support=None,
        reason=reason,
    )


def network_pictures(cameras: CameraSet) -> tuple[RefinedPicture, ...]:
    """Pictures with these cameras, of which nothing else is known."""
    return tuple(
        RefinedPicture(
            source="network",
            extrinsic=cameras.extrinsics[i],
            focal=float(cameras.focal[i]),
            cx=float(cameras.centre[i, 0]),
            cy=float(cameras.centre[i, 1]),
            distortion=float(cameras.distortion[i]),
            share=None,
            observations=0,
            ray_angle=None,
            depth_fit=None,
        )
        for i in range(len(cameras.focal))
    )
