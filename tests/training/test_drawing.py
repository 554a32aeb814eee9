from __future__ import annotations

import torch

from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SceneRequest, draw_scenes, render
from training.drawing import DrawingProcesses


def test_scenes_drawn_in_processes_are_the_same_scenes() -> None:
    first, second = (
        SceneRequest(range(start, start + 3), "train", 2, 24, 36, SceneDistribution.at_dial(1.0))
        for start in (0, 10)
    )
    drawing = DrawingProcesses(2)
    try:
        drawing.ask(second)
        for request in (first, second):  # the first was not asked for
            found, expected = drawing.take(request), draw_scenes(request)
            assert list(found.request.seeds) == list(request.seeds)
            assert all(
                torch.equal(a, b) for a, b in zip(found.frames, expected.frames, strict=True)
            )
            assert torch.equal(render(found).images, render(expected).images)
    finally:
        drawing.close()
