"""What somebody has to know before a result is used, or before pictures are sent."""

from __future__ import annotations

from collections.abc import Iterable

from refinement.result import Reason
from service.result.document import ModelDocument, RefinementDocument, WarningDocument

NETWORK_FITS = 0.7
"""Share of verified matches below which most cameras are wrong by more than 5 degrees, and from
which on nine of ten are within."""
_NO_WARNING = ("already-supported",)


def warnings_about(
    model: ModelDocument,
    refinement: RefinementDocument | None = None,
    pictures: int = 0,
    notes: Iterable[Reason] = (),
    *,
    refinable: bool = False,
) -> list[WarningDocument]:
    """Of answers of this model, or of one answer for so many `pictures` with what its refinement
    did and noted. `refinable` says that a refinement may be asked for."""
    found = []
    kept = 0 if refinement is None else refinement.kept
    if model.domain is not None and not model.domain.photographs:
        trained = f"This model was trained on {model.domain.trained_on} only."
        if kept == pictures > 0 or _supported(refinement):
            found.append(("unverified-depth", f"{trained} {_unverified(refinement)}"))
        else:
            found.append(
                ("not-for-photographs", f"{trained} {_not_for_photographs(kept, refinable)}")
            )
    if refinement is not None:
        found += _about_refinement(refinement)
    found += [(note.code, note.message) for note in notes]
    return [WarningDocument(code=code, message=message) for code, message in found]


def warnings_about_run(passes: int, factor: float) -> list[WarningDocument]:
    """Of an answer that the network gave in so many passes, at `factor` of its full resolution."""
    found = []
    if passes > 1:
        found.append(
            (
                "chunked",
                f"The pictures were too many for one pass of the network: {passes} passes were "
                "joined, and the cameras of one pass may be a little off from those of the next.",
            )
        )
    if factor < 1:
        found.append(
            (
                "reduced-resolution",
                f"For want of memory the network saw the pictures at {factor:.0%} of its usual "
                "resolution: fine detail is lost. Fewer pictures, or more memory, avoid that.",
            )
        )
    return [WarningDocument(code=code, message=message) for code, message in found]


def _not_for_photographs(kept: int, refinable: bool) -> str:
    whose = "cameras that were not refined" if kept else "cameras"
    rescue = "have them refined on the pictures themselves (refine=dense), or " if refinable else ""
    return (
        f"On photographs its {whose}, depth and points are wrong. For photographs, {rescue}"
        "quantise a checkpoint that was trained on them, such as facebook/VGGT-1B, and use that "
        "artifact instead."
    )


def _supported(refinement: RefinementDocument | None) -> bool:
    """Whether the network's own cameras were found to be right."""
    reason = None if refinement is None else refinement.reason
    return reason is not None and reason.code in _NO_WARNING


def _unverified(refinement: RefinementDocument | None) -> str:
    cameras = (
        "The cameras agree with the pictures themselves"
        if _supported(refinement)
        else "The cameras were refined on the pictures themselves"
    )
    if refinement is not None and refinement.asked == "dense" and refinement.dense_reason is None:
        return (
            f"{cameras}, and so {'does' if _supported(refinement) else 'was'} the depth that is "
            "marked as verified; on photographs the rest of the depth is not reliable."
        )
    return (
        f"{cameras}, but depth and points are the network's: on photographs they are wrong. Ask "
        "for refine=dense."
    )


def _about_refinement(refinement: RefinementDocument) -> list[tuple[str, str]]:
    found = []
    kept, reason, no_depth = refinement.kept, refinement.reason, refinement.dense_reason
    if reason is not None and reason.code not in _NO_WARNING:
        code, what = ("partly-refined", "") if kept else ("not-refined", "No camera was refined. ")
        found.append((code, f"{what}{reason.message}"))
    if no_depth is not None and (kept or _supported(refinement)):
        found.append(("no-dense-depth", f"There is no dense depth. {no_depth.message}"))
    share = refinement.support
    if kept == 0 and share is not None and share < NETWORK_FITS:
        found.append(
            (
                "not-reliable",
                f"Only {share:.0%} of the matches between the pictures agree with these cameras, "
                "and no better ones were found: cameras, depth and points are not reliable.",
            )
        )
    return found
