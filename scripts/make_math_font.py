"""Make the font of the book's formulas: the part of STIX Two Math that formulas use.

    npm pack @fontsource/stix-two-math@5.3.0 && tar xf fontsource-stix-two-math-5.3.0.tgz
    pip install brotli
    python scripts/make_math_font.py package/files/stix-two-math-latin-400-normal.woff2

The font has 5,000 characters and weighs 400 kB. What is left of it, with the heights that brackets,
roots and sums grow to, is a tenth. Add a range here when a formula needs a sign that looks odd.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

TARGET = Path(__file__).parents[1] / "book" / "_static" / "fonts" / "stix-two-math.woff2"
RANGES = [
    (0x20, 0x7E),  # letters and digits
    (0x391, 0x3C9),  # Greek, as the source has it
    (0x1D434, 0x1D467),  # italic letters
    (0x1D6E2, 0x1D714),  # italic Greek
]
CHARACTERS = (
    "\u00a0×÷·±¬′″‖…←→↔↦⇒⇔⋮⋯⋱ℎℓℒℝℕℤℂ𝔼𝟙𝒟𝒩𝒪𝒱ℛℬϵϕ∀∂∃∅∇∈∉∏∑−∓∗∘√∝∞∣∥∧∨∩∪∫∼≈≠≡≤≥≪≫⊂⊆⊕⊗⊙⊤⊥⋅⌈⌉⌊⌋⟨⟩⏞⏟ˆ˜"
    "\u2061\u2062\u2063\ufe00"
)


def narrow_the_root(font: TTFont) -> None:
    """Leave two heights of the root's sign, of one width.

    A browser keeps room for the widest of all heights behind every root in a line, whichever it
    draws. The book's roots need two; the higher one is drawn as narrow as the other.
    """
    variants = font["MATH"].table.MathVariants
    place = variants.VertGlyphCoverage.glyphs.index(font.getBestCmap()[ord("√")])
    root = variants.VertGlyphConstruction[place]
    root.MathGlyphVariantRecord = root.MathGlyphVariantRecord[:2]  # reads the rest of it, too
    root.GlyphAssembly = None
    low, high = (record.VariantGlyph for record in root.MathGlyphVariantRecord)
    glyphs, widths = font.getGlyphSet(), font["hmtx"]
    pen, factor = TTGlyphPen(glyphs), widths[low][0] / widths[high][0]
    glyphs[high].draw(TransformPen(pen, (factor, 0, 0, 1, 0, 0)))
    font["glyf"][high] = pen.glyph()
    font["glyf"][high].recalcBounds(font["glyf"])
    widths[high] = (widths[low][0], round(factor * widths[high][1]))


def level_the_indices(font: TTFont) -> None:
    """Indices stand equally low on q and on k, exponents equally high on k and on x.

    For a single letter TeX leaves its own height and depth out of account; browsers do not.
    """
    constants = font["MATH"].table.MathConstants
    depth, height = -220, 700  # of q and of k
    constants.SubscriptBaselineDropMin.Value = depth + constants.SubscriptShiftDown.Value
    constants.SuperscriptBaselineDropMax.Value = height - constants.SuperscriptShiftUp.Value


def main(source: str) -> None:
    options = subset.Options(flavor="woff2", layout_features=["ssty", "dtls", "flac"])
    options.name_IDs = ["*"]  # whose font it is
    font = subset.load_font(source, options)
    narrow_the_root(font)
    level_the_indices(font)
    subsetter = subset.Subsetter(options)
    wanted = {code for first, last in RANGES for code in range(first, last + 1)}
    subsetter.populate(unicodes=wanted | set(map(ord, CHARACTERS)))
    subsetter.subset(font)
    subset.save_font(font, str(TARGET), options)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
