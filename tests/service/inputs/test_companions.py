from __future__ import annotations

import pytest

from service.inputs.companions import companions


@pytest.mark.parametrize(
    ("pictures", "others"),
    [
        pytest.param(
            ["keyframes/images/1.jpg", "keyframes/images/2.jpg"],
            ["keyframes/corrected_images/1.jpg", "keyframes/depth/1.png",
             "keyframes/confidence/1.png", "thumbnail.jpg"],
            id="Polycam",
        ),
        pytest.param(
            ["a/images/frame_00001.png"],
            ["a/images_2/frame_00001.png", "a/images_8/frame_00001.png", "a/masks/frame_00001.png",
             "a/Depth/frame_00001.png", "a/normal_maps/frame_00001.png"],
            id="Nerfstudio",
        ),
        pytest.param(
            ["frame_00000.jpg"], ["depth_00000.png", "conf_00000.png", "thumb_00000.jpg"],
            id="3D Scanner App",
        ),
        pytest.param(
            ["seq-01/frame-000000.color.png"], ["seq-01/frame-000000.depth.png"], id="7-Scenes"
        ),
        pytest.param(["a.JPG"], ["a_mask.png", "a.depth.png"], id="beside each picture"),
        pytest.param([], ["depth/0.png", "confidence/0.png"], id="Stray Scanner without its film"),
    ],
)  # fmt: skip
def test_depth_maps_masks_and_copies_are_no_pictures_of_the_scene(
    pictures: list[str], others: list[str]
) -> None:
    assert companions([*pictures, *others, "transforms.json"]) == set(others)


@pytest.mark.parametrize(
    "paths",
    [
        ["depth/1.jpg", "depth/2.jpg"],
        ["mask_1.png", "mask_2.png"],
        ["images_1/a.jpg", "images_2/a.jpg"],
        ["unmask.jpg", "depths of the sea.jpg", "confidential/1.jpg", "conf.jpg"],
        ["left/1.jpg", "right/1.jpg", "depth.txt"],
    ],
)
def test_pictures_that_only_sound_so_are_pictures(paths: list[str]) -> None:
    assert companions(paths) == set()
