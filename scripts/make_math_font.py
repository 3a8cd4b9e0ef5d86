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

TARGET = Path(__file__).parents[1] / "book" / "_static" / "fonts" / "stix-two-math.woff2"
RANGES = [
    (0x20, 0x7E),  # letters and digits
    (0x391, 0x3C9),  # Greek, as the source has it
    (0x1D434, 0x1D467),  # italic letters
    (0x1D6E2, 0x1D714),  # italic Greek
]
CHARACTERS = (
    "\u00a0×÷·±¬′″‖…←→↔↦⇒⇔⋮⋯⋱ℎℓℒℝℕℤℂ𝔼𝟙𝒟𝒩𝒪𝒱ℛℬϵϕ∀∂∃∅∇∈∉∏∑−∓∗∘√∝∞∣∥∧∨∩∪∫∼≈≠≡≤≥≪≫⊂⊆⊕⊗⊙⊤⊥⋅⌈⌉⌊⌋⟨⟩"
    "\u2061\u2062\u2063\ufe00"
)


def main(source: str) -> None:
    options = subset.Options(flavor="woff2", layout_features=["ssty", "dtls", "flac"])
    options.name_IDs = ["*"]  # whose font it is
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    wanted = {code for first, last in RANGES for code in range(first, last + 1)}
    subsetter.populate(unicodes=wanted | set(map(ord, CHARACTERS)))
    subsetter.subset(font)
    subset.save_font(font, str(TARGET), options)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
