"""PNG of figures: the size asked for, the colours of the data, and text or an error."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from claimlens.ci.figures import theme
from claimlens.ci.figures.__main__ import main
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.figures.png import NoPicture, font, plain, png
from claimlens.ci.selftests.figure_samples import SAMPLES, bars, grid, heads, hostile, tokens
from claimlens.ci.selftests.test_figure_files import written
from claimlens.circuits.figures import Bar, Bars, Heatmap

pytest.importorskip("resvg_py", reason="PNG needs the extra `png`")

CELLS = Heatmap("t", "x", "y", ["a", "b", "c"], ["d"], [[-1.0, 0.5, 2.0]])
EVERY = {**{name: make() for name, make in SAMPLES.items()}, **hostile()}
DRAWN = {name: draw(figure) for name, figure in EVERY.items() if draw(figure).suffix == "svg"}


@dataclass(frozen=True)
class Image:
    """A PNG of 8 bits, red, green, blue and alpha, read by hand."""

    width: int
    height: int
    rows: list[bytes]

    @classmethod
    def read(cls, data: bytes) -> Image:
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
        assert (depth, kind, interlaced) == (8, 6, 0)
        packed, at = b"", 8
        while at < len(data):
            (size,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
            packed += data[at + 8 : at + 8 + size] if name == b"IDAT" else b""
            at += size + 12
        return cls(width, height, _unfiltered(zlib.decompress(packed), width * 4))

    def at(self, x: float, y: float) -> tuple[int, ...]:
        return tuple(self.rows[int(y)][int(x) * 4 : int(x) * 4 + 3])


def _unfiltered(data: bytes, wide: int) -> list[bytes]:
    rows, above = list[bytes](), bytes(wide)
    for start in range(0, len(data), wide + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + wide])
        for i in range(wide):
            left, up = row[i - 4] if i > 3 else 0, above[i]
            corner = above[i - 4] if i > 3 else 0
            row[i] = (row[i] + _guess(kind, left, up, corner)) % 256
        above = bytes(row)
        rows.append(above)
    return rows


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    if kind < 4:
        return (0, left, up, (left + up) // 2)[kind]
    return min((left, up, corner), key=lambda v: abs(left + up - corner - v))


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def mixed(colors: dict[str, str], value: float, largest: float) -> tuple[float, ...]:
    color = rgb(colors["plus" if value > 0 else "minus"])
    share = abs(value) / largest
    pairs = zip(color, rgb(colors["paper"]), strict=True)
    return tuple(share * c + (1 - share) * p for c, p in pairs)


def corner_of(drawing: Drawing) -> tuple[float, float, float, float]:
    """Left and top of the cells, and a cell's width and height [px]."""
    top = re.search(r'<g transform="translate\(0 ([\d.]+)\)">', drawing.body)
    cells = re.search(r"translate\(([\d.]+) 0\) scale\(([\d.]+) ([\d.]+)\)", drawing.body)
    assert top is not None
    assert cells is not None
    return float(cells[1]), float(top[1]), float(cells[2]), float(cells[3])


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_a_png_has_the_size_that_is_asked_for(scale: float) -> None:
    drawing = draw(heads())
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', drawing.body)
    assert size is not None
    found = png(drawing, scale)
    wanted = [float(side) * scale for side in size.groups()]
    assert struct.unpack(">II", found[16:24]) == pytest.approx(wanted, abs=max(1.0, scale))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_cell_has_the_colour_of_its_value(scale: float, dark: bool) -> None:
    drawing, colors = draw(CELLS), theme.DARK if dark else theme.LIGHT
    image = Image.read(png(drawing, scale, dark))
    left, top, across, down = corner_of(drawing)
    for column, value in enumerate(CELLS.values[0]):
        x, y = left + (column + 0.5) * across, top + 0.2 * down  # beside the number
        assert value is not None
        assert image.at(x * scale, y * scale) == pytest.approx(mixed(colors, value, 2), abs=2)
    assert image.at(1, 1) == rgb(colors["paper"])


def test_a_cell_of_another_colour_would_be_noticed() -> None:
    drawing = draw(CELLS)
    wrong = Drawing(
        "t", "svg", drawing.body.replace('class="plus"', 'class="minus"'), drawing.style
    )
    left, top, across, down = corner_of(drawing)
    found = Image.read(png(wrong)).at(left + 2.5 * across, top + 0.2 * down)
    assert found == rgb(theme.LIGHT["minus"]) != rgb(theme.LIGHT["plus"])


def test_lines_and_bars_have_their_own_colours() -> None:
    """CSS variables within variables are resolved as well."""
    image = Image.read(png(draw(grid(3, 1, 1))))
    seen = {tuple(row[i : i + 3]) for row in image.rows for i in range(0, len(row), 4)}
    assert {rgb(theme.LIGHT[f"s{i}"]) for i in range(3)} <= seen
    assert rgb(theme.LIGHT["s5"]) not in seen
    image = Image.read(png(draw(Bars("t", "y", [Bar("a", 1.0), Bar("b", -1.0)]))))
    seen = {tuple(row[i : i + 3]) for row in image.rows for i in range(0, len(row), 4)}
    assert {rgb(theme.LIGHT["plus"]), rgb(theme.LIGHT["minus"])} <= seen


@pytest.mark.parametrize("drawing", DRAWN.values(), ids=DRAWN)
def test_every_svg_becomes_a_png_without_variables(drawing: Drawing) -> None:
    assert "var(" not in plain(drawing, theme.LIGHT, "DejaVu Sans").partition("</style>")[0]
    assert png(drawing, 0.5).startswith(b"\x89PNG")


def test_text_is_drawn() -> None:
    with_text, without = draw(bars()), re.sub(r"<text.*?</text>", "", draw(bars()).body)
    assert png(with_text) != png(Drawing("t", "svg", without, with_text.style))


def test_without_a_font_there_is_an_error_and_no_bare_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoPicture, match=r"no font in .*: --fonts DIR"):
        font(tmp_path)
    run = written(tmp_path, heads().to_json())
    empty = tmp_path / "fonts"
    empty.mkdir()
    out = tmp_path / "out"
    assert main([str(run), str(out), "--png", "--fonts", str(empty)]) == 2
    assert "the text of a figure would be missing" in capsys.readouterr().err
    assert not out.exists()


def test_without_the_renderer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(NoPicture, match=r"pip install 'claimlens\[png\]'"):
        png(draw(heads()))


def test_the_command_writes_png_and_says_what_stays_html(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(tmp_path, heads().to_json(), tokens().to_json())
    assert main([str(run), str(tmp_path / "out"), "--png", "--scale", "2", "--dark"]) == 0
    told = capsys.readouterr()
    names = [Path(line).name for line in told.out.splitlines()]
    assert names == ["ioi-x_my-model-1_L1H1_1.png", "ioi-x_my-model-1_L1H1_2.html"]
    assert told.err == "note: 1 of 2 are HTML: token maps and tables have no PNG\n"
    image = Image.read((tmp_path / "out" / names[0]).read_bytes())
    assert image.at(1, 1) == rgb(theme.DARK["paper"])


def test_only_the_claims_asked_for_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(tmp_path, heads().to_json())
    assert main([str(run), str(tmp_path / "out"), "--only", "ioi/*"]) == 0
    assert main([str(run), str(tmp_path / "none"), "--only", "sae/*"]) == 2
    assert "no claim with a figure matches 'sae/*'; with figures are ioi/x" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--png", "--scale", "x"], "'x'; expected a number from 0.1 to 16"),
        (["--png", "--scale", "nan"], "'nan'; expected a number"),
        (["--png", "--scale", "1e9"], "'1e9'; expected a number"),
        (["--scale", "2"], "are for --png"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(tmp_path, heads().to_json())
    with pytest.raises(SystemExit) as ended:
        main([str(run), str(tmp_path / "out"), *options])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(NoPicture, match="give a smaller --scale"):
        png(draw(grid(5, 40, 5)), 16)


def test_html_is_no_picture() -> None:
    with pytest.raises(NoPicture, match="token maps and tables are HTML"):
        png(draw(tokens()))


def test_a_folder_of_fonts_that_is_none_is_said() -> None:
    with pytest.raises(NoPicture, match="no such folder"):
        font(Path("no-such-folder"))
