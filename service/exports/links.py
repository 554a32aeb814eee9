"""The addresses of a result's files, written into its document: on a server, and in a folder on
disk."""

from __future__ import annotations

from service.exports.records import EXPORTS
from service.result.document import RESULT_FILE, Links, ReconstructionDocument


def served_at(document: ReconstructionDocument, address: str) -> ReconstructionDocument:
    """The document with links as the server answers them, the result's own one being `address`."""
    return _linked(document, f"{address}/", address)


def in_folder(document: ReconstructionDocument) -> ReconstructionDocument:
    """The document with links relative to the folder that it lies in."""
    return _linked(document, "", RESULT_FILE)


def _linked(document: ReconstructionDocument, prefix: str, own: str) -> ReconstructionDocument:
    def links(of: str, index: int = 0) -> Links:
        return {
            export.link: prefix + export.name_of(index) if export.fits(document) else None
            for export in EXPORTS
            if export.of == of
        }

    pictures = [
        picture.model_copy(
            update={
                "depth": picture.depth.model_copy(update={"links": links("depth", picture.index)}),
                "links": links("picture", picture.index),
            }
        )
        for picture in document.pictures
    ]
    around: Links = {"self": own, "events": f"{prefix}events"}
    return document.model_copy(update={"links": around | links("result"), "pictures": pictures})
