"""Path tracing of the arrangement with Mitsuba 3 (extra `samples`): pictures, and depth by rays."""

from __future__ import annotations

from typing import Any

import mitsuba as mi
import numpy as np
from mitsuba_oidn import denoise
from numpy.typing import NDArray

from scenes.still_life.cameras import FIELD_OF_VIEW, Camera, intrinsic
from scenes.still_life.mesh import Mesh, box
from scenes.still_life.thing import Finish, Thing

PATHS_A_PASS = 6
_BOUNCES = 6
_EXPOSURE = 1.6
_SUN = np.array([-4.4, 3.9, 4.0])
_SUN_AIM = np.array([0.02, 0.10, -0.15])


class Studio:
    """The room, lit and ready for pictures."""

    def __init__(self, things: list[Thing]) -> None:
        mi.set_variant("llvm_ad_rgb")
        described: dict[str, Any] = {"type": "scene"}
        for index, thing in enumerate(things):
            described[f"thing{index:03d}"] = _shape(thing.name, thing.mesh, _bsdf(thing.finish))
        self._scene = mi.load_dict({**described, **_lights()})

    def picture(
        self, camera: Camera, width: int, height: int, passes: int, seed: int
    ) -> NDArray[np.float32]:
        """Linear light [height, width, 3], `passes` times 6 paths a pixel, denoised."""
        layers = np.mean(
            [self.layers(camera, width, height, 1000 * seed + k) for k in range(passes)], axis=0
        )
        return denoised(layers)

    def layers(self, camera: Camera, width: int, height: int, seed: int) -> NDArray[np.float32]:
        """One pass: noisy light, albedo and normal [height, width, 9]."""
        integrator = mi.load_dict(
            {
                "type": "aov",
                "aovs": "albedo:albedo,normal:sh_normal",
                "light": {"type": "path", "max_depth": _BOUNCES},
            }
        )
        sensor = _sensor(camera, width, height)
        drawn = mi.render(
            self._scene, sensor=sensor, integrator=integrator, spp=PATHS_A_PASS, seed=seed
        )
        return np.array(drawn)

    def depth(self, camera: Camera, width: int, height: int) -> NDArray[np.float32]:
        """Depth [height, width] along the optical axis through the pixels' centres, metres."""
        matrix = np.linalg.inv(intrinsic(width))
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ matrix.T
        length = np.linalg.norm(rays, axis=1)
        directions = (rays / length[:, None]) @ camera.extrinsic[:, :3]
        towards = mi.Vector3f(np.ascontiguousarray(directions.T, np.float32))
        start = mi.Point3f([float(value) for value in camera.centre])
        hit = self._scene.ray_intersect(mi.Ray3f(start, towards))
        distance = np.array(hit.t, dtype=np.float64)
        distance[~np.isfinite(distance)] = 0
        return (distance / length).reshape(height, width).astype(np.float32)


def denoised(layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light [h,w,3] without noise, from `Studio.layers`."""
    light, albedo, normal = (np.ascontiguousarray(part) for part in np.split(layers, 3, axis=2))
    return np.array(denoise(light, albedo=np.clip(albedo, 0, 1), normal=normal, hdr=True))


def developed(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Linear light as sRGB: bright parts roll off as on film instead of being cut."""
    x = np.clip(light, 0, None) * _EXPOSURE
    shoulder = 0.62
    over = np.clip(x - shoulder, 0, None)
    x = np.minimum(x, shoulder) + (1 - shoulder) * (1 - np.exp(-over / (1 - shoulder)))
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.clip(x, 1e-9, None) ** (1 / 2.4) - 0.055)
    return np.clip(np.rint(srgb * 255), 0, 255).astype(np.uint8)


def _sensor(camera: Camera, width: int, height: int) -> Any:
    pose = np.eye(4)
    # Mitsuba's camera has x to the left and y up
    pose[:3, :3] = camera.extrinsic[:, :3].T @ np.diag([-1.0, -1.0, 1.0])
    pose[:3, 3] = camera.centre
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": FIELD_OF_VIEW,
            "fov_axis": "x",
            "near_clip": 0.01,
            "to_world": mi.ScalarTransform4f(pose),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},
                "pixel_format": "rgb",
            },
            "sampler": {"type": "multijitter"},
        }
    )


def _bsdf(finish: Finish) -> Any:
    bitmap = mi.Bitmap(finish.texture)
    color = {"type": "bitmap", "bitmap": bitmap, "filter_type": "bilinear", "wrap_mode": "clamp"}
    inner: dict[str, Any]
    if finish.roughness >= 0.9:
        inner = {"type": "diffuse", "reflectance": color}
    else:
        inner = {
            "type": "principled",
            "base_color": color,
            "roughness": finish.roughness,
            "specular": finish.specular,
            "metallic": finish.metallic,
        }
    return mi.load_dict({"type": "twosided", "material": inner})


def _shape(name: str, mesh: Mesh, bsdf: Any) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = bsdf
    shape = mi.Mesh(
        name,
        vertex_count=len(mesh.points),
        face_count=len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    values = mi.traverse(shape)
    values["vertex_positions"] = mesh.points.astype(np.float32).ravel()
    values["faces"] = mesh.faces.astype(np.uint32).ravel()
    values["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
    values["vertex_texcoords"] = mesh.uv.astype(np.float32).ravel()
    values.update()
    return shape


def _lights() -> dict[str, Any]:
    """A window on the left, the sun through another one in front, and the room's own brightness."""
    transform = mi.ScalarTransform4f
    aim = _SUN_AIM - _SUN
    way = aim / np.linalg.norm(aim)
    lights: dict[str, Any] = {
        "window": {
            "type": "rectangle",
            "to_world": transform()
            .look_at(origin=[-2.85, 0.95, 0.75], target=[0.0, 0.3, 0.0], up=[0, 1, 0])
            .scale([0.85, 0.95, 1]),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [5.4, 6.1, 7.0]}},
        },
        "sun": {
            "type": "disk",
            "to_world": transform()
            .look_at(origin=_SUN.tolist(), target=_SUN_AIM.tolist(), up=[0, 1, 0])
            .scale([0.07, 0.07, 1]),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [11500, 9200, 6300]}},
        },
        "room": {"type": "constant", "radiance": {"type": "rgb", "value": [0.36, 0.35, 0.34]}},
    }
    dark = mi.load_dict({"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.05}})
    right = np.cross(way, [0, 1, 0])
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(right, way), -way], axis=1)
    middle = _SUN + 0.58 * aim
    bars: list[tuple[tuple[float, float], tuple[float, float]]] = []
    wide, tall, bar, far = 0.30, 0.36, 0.035, 1.2
    for x in (-wide - far, wide + far):
        bars.append(((x, 0), (2 * far, 2 * (tall + 2 * far))))
    for y in (-tall - far, tall + far):
        bars.append(((0, y), (2 * wide, 2 * far)))
    bars.append(((0, 0), (bar, 2 * tall)))
    for y in (-tall / 3, tall / 3):
        bars.append(((0, y), (2 * wide, bar)))
    for index, ((x, y), (width, height)) in enumerate(bars):
        for side, mesh in box(width, height, 0.01, 0.002).items():
            placed = mesh.moved((x, y, 0)).moved(tuple(middle), frame)
            lights[f"bar{index}{side}"] = _shape(f"bar {index} {side}", placed, dark)
    return lights
