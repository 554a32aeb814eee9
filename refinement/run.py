"""The door: pictures and a network's reconstruction in, a refinement out."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refinement.answer import AnswerError, read_answer
from refinement.network import network_scene
from refinement.options import RefineOptions
from refinement.photograph import Photograph
from refinement.process import Ending, Report, run_child
from refinement.result import NOT_FINISHED, Reason, Refinement
from refinement.task import Task, Wanted
from refinement.unrefined import unrefined

if TYPE_CHECKING:
    from model.scene.reconstruction import Reconstruction

_DEFAULTS = RefineOptions()


def refine(
    photographs: Sequence[Photograph],
    network: Reconstruction,
    wanted: Wanted = "cameras",
    options: RefineOptions = _DEFAULTS,
    report: Report = lambda stage, share: None,
) -> Refinement:
    """Cameras from the original pixels where the pictures support them, and dense depth on request.

    `photographs` are the pictures of `network`, in its order. The work is done in a process of its
    own. `report` gets the stage and its share from 0 to 1, at least ten times a second; what it
    raises ends that process and is raised again. Nothing that the pictures show raises: the answer
    then keeps the network's cameras and has a reason. Raises ValueError if the pictures are not
    those of the reconstruction.
    """
    if len(photographs) != len(network.transforms):
        raise ValueError(
            f"{len(photographs)} pictures for a reconstruction of {len(network.transforms)}"
        )
    for index, (photograph, transform) in enumerate(
        zip(photographs, network.transforms, strict=True)
    ):
        if (photograph.height, photograph.width) != tuple(transform.original_size):
            raise ValueError(
                f"picture {index} has {photograph.height} x {photograph.width} pixels, the "
                f"reconstruction's has {transform.original_size[0]} x {transform.original_size[1]}"
            )
    scene = network_scene(network)
    if len(photographs) < 2:
        return unrefined(
            scene.cameras, Reason("one-picture", "Refining needs two or more pictures.")
        )
    if importlib.util.find_spec("pycolmap") is None:
        return unrefined(
            scene.cameras,
            Reason("colmap-not-installed", "Install the extra quantvggt[refinement]."),
        )
    with tempfile.TemporaryDirectory(prefix="refinement-") as name:
        folder = Path(name)
        matching = _matching(wanted, options)
        Task(tuple(photographs), scene, wanted, options, matching).write(folder)
        ending = run_child(folder, options.seconds, options.memory_bytes, report)
        try:
            answer = read_answer(folder, photographs, options.memory_bytes)
        except AnswerError as error:
            message = f"The refinement's process gave no answer that can be used: {error}."
            ending = replace(ending, reason=Reason("invalid-answer", message))
            answer = None
    return _concluded(answer or unrefined(scene.cameras, NOT_FINISHED), ending, wanted)


def _matching(wanted: Wanted, options: RefineOptions) -> Path | None:
    """The compiled matching, where it is needed. It is found here, because the process that matches
    starts faster without torch, which comes with its builder."""
    if wanted != "dense" or options.device != "cpu":
        return None
    from refinement.dense.library import built_if_possible

    return built_if_possible()


def _concluded(answer: Refinement, ending: Ending, wanted: Wanted) -> Refinement:
    """The last answer of the process, with the reason why there is no better one.

    An answer with a reason for its dense depth has cameras that are settled: what ended the process
    after it says nothing of them.
    """
    answer = replace(answer, peak_bytes=ending.peak_bytes)
    if ending.reason is None:
        return answer
    if answer.method == "none" and answer.dense_reason is None:
        answer = replace(answer, reason=ending.reason)
    if wanted == "dense" and answer.dense is None:
        answer = replace(answer, dense_reason=ending.reason)
    return answer
