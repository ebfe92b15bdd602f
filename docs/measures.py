"""Write the table of measures in docs/api/microscope.md: `python docs/measures.py`."""

from pathlib import Path

from limelight.microscope import MEASURES

PAGE = Path(__file__).with_name("api") / "microscope.md"
START = "| measure | equation | range | what it says | source |\n"


def table():
    rows = [
        f"| `{m.name}` | {escaped(m.equation)} | {escaped(m.range)} | {escaped(m.meaning)} | {escaped(m.source)} |"
        for m in MEASURES
    ]
    return START + "|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def escaped(text):
    return text.replace("|", "\\|")


def page(text):
    return text.partition(START)[0] + table()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
