"""Draws the text of a terminal as an SVG: `python3 docs/images/terminal.py < run.txt > docs/images/run.svg`.

Lines that begin with `$ ` are commands. The first word of an output line gets the colour that hamflow gives it.
Lines of more than 112 characters are cut, as by `less -S`.
"""

import sys
from xml.sax.saxutils import escape

COLUMNS = 112
WIDTH_OF_CHARACTER, HEIGHT_OF_LINE, MARGIN, BAR = 8.4, 20, 18, 34
COLOURS = {"ran": "#7ee787", "cached": "#79c0ff", "finished": "#e6edf3", "failed": "#ff7b72", "skipped": "#d29922"}


def spans(text):
    """One line as SVG text: the prompt and the first word are coloured, the rest is plain."""
    if text.startswith("$ "):
        return f'<tspan fill="#7ee787">$</tspan> <tspan fill="#ffffff" font-weight="bold">{escape(text[2:])}</tspan>'
    word = text.split(" ", 1)[0]
    if word in COLOURS:
        return f'<tspan fill="{COLOURS[word]}">{word}</tspan>{escape(text[len(word):])}'
    return escape(text)


def picture(lines):
    """The SVG of a terminal that shows the lines."""
    width = round(max(map(len, lines)) * WIDTH_OF_CHARACTER + 2 * MARGIN)
    height = BAR + len(lines) * HEIGHT_OF_LINE + MARGIN
    lights = "".join(
        f'<circle cx="{MARGIN + 20 * number}" cy="17" r="6" fill="{colour}"/>'
        for number, colour in enumerate(["#ff5f57", "#febc2e", "#28c840"])
    )
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{BAR + 14 + HEIGHT_OF_LINE * number}" xml:space="preserve">{spans(text)}</text>'
        for number, text in enumerate(lines)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
  role="img" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" fill="#c9d1d9">
<title>A terminal that shows hamflow at work</title>
<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>
{lights}
{rows}
</svg>
"""


if __name__ == "__main__":
    lines = sys.stdin.read().rstrip("\n").split("\n")
    print(picture([line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…" for line in lines]), end="")
