from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from service.exports.links import served_at
from service.exports.records import BY_NAME, EXPORTS
from service.result.document import ReconstructionDocument
from service.result.scene import Scene


def test_no_two_exports_share_a_name_a_link_or_an_id() -> None:
    for facts in (
        [export.name for export in EXPORTS],
        [(export.of, export.link) for export in EXPORTS],
        [export.id for export in EXPORTS],
    ):
        assert [fact for fact, times in Counter(facts).items() if times > 1] == []


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.id)
def test_a_record_is_consistent_in_itself(export) -> None:
    assert ("{index}" in export.name) == export.per_picture
    assert export.id.isidentifier()
    assert not (export.orderable and export.per_picture), (
        "a request orders files of the whole scene"
    )
    assert set(export.variants.values()) <= set(BY_NAME)
    assert export.name_of(3).replace("3", "{index}") == export.name


def test_every_export_is_described_in_the_documentation_of_files() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text("utf-8")
    assert [
        export.name for export in EXPORTS if f"`{export.name.replace('{index}', 'N')}`" not in text
    ] == []


def test_metrics_name_a_file_without_its_pictures_number() -> None:
    labels = {
        BY_NAME[name].metric_label
        for name in ("depth/{index}/preview.png", "depth/{index}.npy", "points.ply")
    }
    assert labels == {"depth-preview.png", "depth.npy", "points.ply"}
    assert BY_NAME["everything.zip"].metric_label == "everything.zip"


def test_every_export_has_its_link_in_the_document(scene: Scene, refined_scene: Scene) -> None:
    for document in (scene.document, refined_scene.document):
        _check_links(served_at(document, "/reconstructions/x"))


def _check_links(document: ReconstructionDocument) -> None:
    assert document.links["self"] == "/reconstructions/x"
    for export in EXPORTS:
        for index in export.indices(document):
            picture = document.pictures[index]
            links = {
                "result": document.links,
                "picture": picture.links,
                "depth": picture.depth.links,
            }[export.of]
            address = f"/reconstructions/x/{export.name_of(index)}"
            assert links[export.link] == (address if export.fits(document) else None)
