"""The training log, and a picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG = "log.jsonl"


def read_log(out: Path) -> list[dict[str, Any]]:
    """All records of `out/log.jsonl`, oldest first; empty if there is none.

    A last line without its end was being written when the run was killed; it is left out.
    """
    path = out / LOG
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def plot_curve(out: Path, png: Path) -> None:
    """Draws losses, attention-matching accuracy and the validation scores of the run in `out`.

    Raises ValueError if the run has not logged anything yet.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = read_log(Path(out))
    if not records:
        raise ValueError(f"{out} holds no {LOG} with records; train first")
    training = [record for record in records if "losses" in record]
    validation = [record for record in records if "validation" in record]
    figure, (losses, accuracy, scores) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    names = sorted({name for record in training for name in record["losses"]})
    for name in names:
        points = [
            (record["step"], record["losses"][name])
            for record in training
            if name in record["losses"]
        ]
        losses.plot(
            *zip(*points, strict=True), label=name, linewidth=2.0 if name == "total" else 1.0
        )
    losses.set(title="training losses (unweighted terms)", xlabel="step", yscale="symlog")
    taught = [record for record in training if record.get("attention_accuracy") is not None]
    accuracy.plot([r["step"] for r in taught], [r["attention_accuracy"] for r in taught])
    accuracy.set(title="attention-matching accuracy", xlabel="step", ylim=(0, 1))
    units = {  # of standard rooms
        "auc_30": "AUC@30, %",
        "rotation_deg": "rotation median, deg",
        "translation_deg": "translation median, deg",
    }
    units |= {
        name: name for r in validation for name in r["validation"] if name.endswith("_auc_30")
    }
    for name, label in units.items():
        points = [(r["step"], r["validation"][name]) for r in validation if name in r["validation"]]
        scores.plot(*zip(*points, strict=True), "o-", label=label)
    scores.set(title="validation, 2 views (averaged weights)", xlabel="step", ylim=(0, None))
    for axes in (losses, scores):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.savefig(png, dpi=120)
    plt.close(figure)
