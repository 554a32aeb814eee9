from __future__ import annotations

import json

import pytest

from service.errors import InvalidOption
from service.inputs.options import Options, read_options

IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_options_are_read_from_text_and_written_as_it_was_sent() -> None:
    sent = {
        "mode": "crop",
        "confidence": "30",
        "mask_sky": "true",
        "frames": "0,2",
        "cameras": json.dumps([None, {"extrinsic": IDENTITY}]),
        "known_distance": json.dumps(
            {"a": {"picture": 0, "x": 1, "y": 2}, "b": {"picture": 1, "x": 3, "y": 4}, "metres": 2}
        ),
        "outputs": "scene.glb,colmap.zip,scene.glb",
    }
    options = read_options(sent)
    assert options.frame_numbers == [0, 2]
    assert options.output_names == ["scene.glb", "colmap.zip"]
    assert set(options.text()) == set(sent)
    assert Options.model_validate(json.loads(json.dumps(options.text()))) == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", "101"), ("confidence", "nan"), ("confidence", ""), ("confidence", "high"),
        ("max_points", "0"), ("max_points", "1.5"), ("max_points", "99999999999999999999"),
        ("voxel_size", "0"), ("voxel_size", "inf"), ("voxel_size", "-1"), ("depth_edge", "nan"),
        ("mask_sky", "perhaps"), ("frames", "0,"), ("frames", "-1"), ("frames", "a"),
        ("mode", "stretch"), ("order", "random"), ("manifest", "[]"), ("manifest", "a.jpg"),
        ("manifest", "[1]"), ("fps", "0"), ("fps", "1e9"), ("passes", "1"), ("passes", "all"),
        ("attention_keys", "0"), ("attention_keys", "one"), ("attention_keys", "1.5"),
        ("outputs", "points.obj"),
        ("timeout", "-1"), ("dry_run", "2"), ("cameras", "{}"), ("cameras", "["),
        ("cameras", "[" * 5000), ("cameras", '[{"x": 1}]'),
        ("cameras", '[{"extrinsic": [[1,0,0,0],[0,1,0,0]]}]'),
        ("cameras", '[{"extrinsic": [[2,0,0,0],[0,1,0,0],[0,0,1,0]]}]'),
        ("cameras", '[{"extrinsic": [[-1,0,0,0],[0,1,0,0],[0,0,1,0]]}]'),
        ("cameras", '[{"extrinsic": [[1,0,0,NaN],[0,1,0,0],[0,0,1,0]]}]'),
        ("cameras", '[{"intrinsic": [[-1,0,0],[0,1,0],[0,0,1]]}]'),
        ("cameras", '[{"intrinsic": [[1,1,0],[0,1,0],[0,0,1]]}]'),
        ("cameras", '[{"extrinsic": [[1,0,0,1e38],[0,1,0,0],[0,0,1,0]]}]'),
        ("cameras", '[{"extrinsic": [[1e200,0,0,0],[0,1e200,0,0],[0,0,1,0]]}]'),
        ("cameras", '[{"intrinsic": [[1e-300,0,0],[0,1,0],[0,0,1]]}]'),
        ("cameras", '[{"intrinsic": [[1,0,1e300],[0,1,0],[0,0,1]]}]'),
        ("known_distance", '{"a":{"picture":0,"x":1,"y":2},'
                           '"b":{"picture":0,"x":1,"y":3},"metres":1e300}'),
        ("known_distance", '{"a":{"picture":0,"x":1,"y":2},'
                           '"b":{"picture":0,"x":1,"y":3},"metres":1e-300}'),
        ("known_distance", '{"a": {"picture": 0, "x": 1, "y": 2}, "metres": 1}'),
        ("known_distance", '{"a":{"picture":0,"x":1,"y":2},'
                           '"b":{"picture":0,"x":1,"y":3},"metres":0}'),
        ("known_distance", '{"a":{"picture":-1,"x":1,"y":2},'
                           '"b":{"picture":0,"x":1,"y":3},"metres":1}'),
        ("query_points", "[]"), ("query_points", "[[1]]"), ("query_points", "[[1, 2, 3]]"),
        ("modus", "fit"),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        read_options({name: value})
    assert caught.value.fields["option"] == name
    assert name in caught.value.message
    assert len(caught.value.message) < 600
