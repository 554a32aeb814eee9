"""Textures drawn from nothing: wood, cloth, paper, glaze, skins, and pictures on the wall.

Every function gives sRGB [h, w, 3] of 8 bits. Sizes are (width, height) in texels. What wraps
around a round thing fits together at its left and right edges.
"""

from scenes.still_life.paint.cloth import linen, print_cloth
from scenes.still_life.paint.glaze import bowl_glaze, plate_glaze, stoneware, terracotta, vase_glaze
from scenes.still_life.paint.ground import (
    Generator,
    Rgb,
    Texture,
    cloud,
    flat,
    mixed,
    texture,
)
from scenes.still_life.paint.paper import book_cover, book_spine, page_edges, printed_page
from scenes.still_life.paint.picture import abstract, botanical, landscape
from scenes.still_life.paint.plant import leaf_sheet, petal
from scenes.still_life.paint.skin import apple_skin, citrus_skin, pear_skin
from scenes.still_life.paint.wall import plaster, wallpaper
from scenes.still_life.paint.wood import planks

__all__ = [
    "Generator",
    "Rgb",
    "Texture",
    "abstract",
    "apple_skin",
    "book_cover",
    "book_spine",
    "botanical",
    "bowl_glaze",
    "citrus_skin",
    "cloud",
    "flat",
    "landscape",
    "leaf_sheet",
    "linen",
    "mixed",
    "page_edges",
    "pear_skin",
    "petal",
    "planks",
    "plaster",
    "plate_glaze",
    "print_cloth",
    "printed_page",
    "stoneware",
    "terracotta",
    "texture",
    "vase_glaze",
    "wallpaper",
]
