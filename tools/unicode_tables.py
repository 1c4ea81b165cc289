"""Writes src/model/unicode_tables.c: what canonical composition (NFC) and lower-casing need, from Python's unicodedata.

Run from any folder: python3 tools/unicode_tables.py
"""

import os
import unicodedata

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "model", "unicode_tables.c")
HANGUL = range(0xAC00, 0xD7A4)  # composed by arithmetic


def all_characters():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def decompositions():
    """[(code, first, second or 0, may be composed again)], one step each."""
    rows = []
    for c in all_characters():
        parts = unicodedata.decomposition(chr(c))
        if parts and not parts.startswith("<") and c not in HANGUL:
            codes = [int(p, 16) for p in parts.split()] + [0]
            composes = codes[1] != 0 and unicodedata.normalize("NFC", chr(c)) == chr(c)
            rows.append((c, codes[0], codes[1], composes))
    return rows


def class_ranges():
    rows = []
    for c in all_characters():
        kind = unicodedata.combining(chr(c))
        if kind and rows and rows[-1][1] == c - 1 and rows[-1][2] == kind:
            rows[-1][1] = c
        elif kind:
            rows.append([c, c, kind])
    return rows


def lower_ranges():
    """[first, last, stride, delta]: every stride-th code of the range maps to code + delta."""
    rows = []
    for c in all_characters():
        lower = chr(c).lower()
        if len(lower) != 1 or ord(lower) == c:  # U+0130 alone becomes two characters: the caller's affair
            continue
        delta = ord(lower) - c
        last = rows[-1] if rows else None
        gap = c - last[1] if last else 0
        if last and last[3] == delta and gap <= 2 and (last[0] == last[1] or last[2] == gap):
            last[1], last[2] = c, gap
        else:
            rows.append([c, c, 1, delta])
    return rows


def table(declaration, rows):
    lines, line = [], "   "
    for row in rows:
        cell = " " + row + ","
        if len(line) + len(cell) > 120:
            lines.append(line)
            line = "   "
        line += cell
    return f"{declaration} = {{\n" + "\n".join(lines + [line]) + "\n};\n"


def main():
    steps = decompositions()
    pairs = sorted((first, second, i) for i, (_, first, second, composes) in enumerate(steps) if composes)
    classes, lowers = class_ranges(), lower_ranges()
    text = f"""/* Unicode {unicodedata.unidata_version}: canonical decompositions, combining classes, lower case. Written by tools/unicode_tables.py;
 * read by unicode.c, which says what each column means. */
#include "model/unicode_tables.h"

/* clang-format off */
"""
    text += table(f"const UnicodeStep unicode_step[{len(steps)}]", [f"{{0x{c:x},0x{a:x},0x{b:x}}}" for c, a, b, _ in steps])
    text += f"const int unicode_steps = {len(steps)};\n"
    text += table(f"const uint16_t unicode_pair[{len(pairs)}]", [str(i) for _, _, i in pairs])
    text += f"const int unicode_pairs = {len(pairs)};\n"
    text += table(f"const UnicodeClass unicode_class[{len(classes)}]", [f"{{0x{a:x},0x{b:x},{k}}}" for a, b, k in classes])
    text += f"const int unicode_classes = {len(classes)};\n"
    text += table(
        f"const UnicodeLower unicode_lower_range[{len(lowers)}]", [f"{{0x{a:x},0x{b:x},{s},{d}}}" for a, b, s, d in lowers]
    )
    text += f"const int unicode_lower_ranges = {len(lowers)};\n"
    with open(OUT, "w", encoding="ascii") as f:
        f.write(text)
    print(len(steps), "decompositions,", len(pairs), "pairs,", len(classes), "class ranges,", len(lowers), "lower-case ranges")


if __name__ == "__main__":
    main()
