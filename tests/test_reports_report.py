"""The report: one file that fetches nothing, tells what the run wrote down, and trusts none of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from smidgen.errors import RunError
from smidgen.reports.plot import Mark, Plot, Series, draw_plot, nice_ticks, smooth_points, thin_points
from smidgen.reports.quantities import count, duration, number, share, size
from smidgen.reports.report import write_report
from synthetic_run import write_synthetic_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(path: Path, **options) -> Page:
    return Page(write_report(write_synthetic_run(path, **options)).read_text(encoding="utf-8"))


def test_a_finished_run_tells_everything(tmp_path: Path) -> None:
    page = report(tmp_path / "run")
    told = ["1.402", "± 0.011", "74.8%", "chance 21.4%", "30.2%", "10 min 3 s", "planned 1.66", "Repeats itself: 34%"]
    told += ["held-out text: 38", "the probe took 38 s", "an old miller", "arXiv 2407.13623", "24,548", "2.13.0+cpu"]
    assert [words for words in told if words not in page.text] == []
    headings = [
        "Curves",
        "The plan, and what happened",
        "Scores",
        "Health of what it writes",
        "Notes of the run",
        "Facts",
    ]
    assert [title for title in headings if title not in page.text] == []
    assert sum(tag == "svg" for tag, _ in page.tags) == 6


def test_it_fetches_nothing(tmp_path: Path) -> None:
    page = report(tmp_path / "run")
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "srcset", "background", "onload", "onclick"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")
    html = (tmp_path / "run" / "report.html").read_text()
    assert "@import" not in html
    assert "url(" not in html
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html


def test_it_reads_without_script(tmp_path: Path) -> None:
    html = write_report(write_synthetic_run(tmp_path / "run")).read_text()
    without = Page(re.sub(r"<script>.*?</script>", "", html, flags=re.S))
    assert "10 min 3 s" in without.text
    assert "an old miller" in without.text


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


def test_what_came_from_data_or_model_is_escaped(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "run")
    final, resolved = (json.loads((path / name).read_text()) for name in ("metrics.json", "resolved.json"))
    resolved["name"] = HOSTILE
    resolved["data"] |= {HOSTILE: HOSTILE}
    resolved["plan"]["decisions"][0] |= {"key": HOSTILE, "rule": HOSTILE, "value": HOSTILE, "source": HOSTILE}
    final["tasks"][0]["name"] = HOSTILE
    final["tasks"][0]["items"][1] |= {"prompt": HOSTILE, "answer": HOSTILE, "expected": HOSTILE}
    final["health"]["findings"][0] |= {"reason": HOSTILE, "evidence": HOSTILE, "name": HOSTILE}
    sample = {"kind": "sample", "step": 5, "prompt": HOSTILE, "text": HOSTILE}
    (path / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (path / "recipe.toml").write_text(HOSTILE)
    (path / "metrics.json").write_text(json.dumps(final))
    (path / "resolved.json").write_text(json.dumps(resolved))
    with (path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"kind": "note", "step": 9, "text": HOSTILE}) + "\n")
    page = Page(write_report(path).read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag == "img" for tag, _ in page.tags)
    assert page.text.count(HOSTILE) >= 12
    assert "49" not in re.findall(r"\{\{.*?\}\}|onerror=alert\(2\)>\"'&(\d+)", page.text)


@pytest.mark.parametrize("steps", [1, 2, 7, 5000])
@pytest.mark.parametrize("finished", [True, False])
def test_runs_of_any_length_have_a_report(tmp_path: Path, steps: int, finished: bool) -> None:
    page = report(tmp_path / "run", steps=steps, finished=finished)
    assert ("Unfinished" in page.text) is not finished
    assert "nan" not in re.sub(r"[^a-z]+", " ", page.text.lower()).split()
    size_on_disk = (tmp_path / "run" / "report.html").stat().st_size
    assert size_on_disk < 250_000


@pytest.mark.parametrize("kept", ["recipe.toml", "resolved.json", "metrics.jsonl", "metrics.json"])
def test_any_single_file_is_enough(tmp_path: Path, kept: str) -> None:
    path = write_synthetic_run(tmp_path / "run")
    for file in path.iterdir():
        if file.name != kept:
            file.unlink()
    Page(write_report(path).read_text())


def test_odd_records_are_borne(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    records = [
        {"kind": "train", "step": 1, "loss": None, "gradient_norm": 0.0, "learning_rate": 0.0},
        {"kind": "train", "step": 2, "loss": 3.5, "tokens_per_second": 5},
        {"kind": "train", "step": 3},
        {"kind": "validation", "step": 3, "bits_per_byte": None},
        {"kind": "something new", "step": 3, "value": []},
        {"kind": "note"},
        {"kind": "sample", "text": "no prompt, no step"},
    ]
    torn = '{"kind": "train", "st'
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + torn)
    (path / "metrics.json").write_text(json.dumps({"validation": None, "health": None, "tasks": None, "seconds": None}))
    (path / "resolved.json").write_text(json.dumps({"plan": None, "data": {"note": None, "odd": {"deep": [1]}}}))
    page = Page(write_report(path).read_text())
    assert "no prompt, no step" in page.text
    assert "odd › deep" in page.text


def test_a_step_sampled_twice_shows_the_later_text(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "run", steps=4)
    again = {"step": 4, "prompt": "Once upon a time", "text": " the file that ships wrote this."}
    (path / "samples.jsonl").write_text(json.dumps(again) + "\n")
    page = Page(write_report(path).read_text())
    assert page.text.count("step 4") == 2
    assert "the file that ships wrote this" in page.text


def test_what_an_untrained_model_writes_can_be_shown(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "run")
    text = "a\x00b\x1bc\x85d\udc80e\nf"
    (path / "samples.jsonl").write_text(json.dumps({"step": 1, "prompt": "", "text": text}) + "\n")
    assert "a␀b␛c\ufffdd\ufffde\nf" in Page(write_report(path).read_text()).text


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        write_report(tmp_path)


def test_a_plot_stays_in_its_frame_and_says_what_lies_beyond() -> None:
    points = [(float(step), 9.0 / (1 + step)) for step in range(100)]
    svg = draw_plot(
        Plot("Loss", "nats", [Series("training", points, "train")], [Mark("planned", 0.5)], skip_start=True)
    )
    numbers = [float(n) for path in re.findall(r' d="([^"]+)"', svg) for n in re.findall(r"-?\d+\.\d", path)]
    xs, ys = numbers[0::2], numbers[1::2]
    assert min(xs) >= 0
    assert max(xs) <= 480
    assert min(ys) >= 15.9
    assert max(ys) <= 210.1
    assert "up to 9.00" in svg
    assert "planned 0.500" in svg


def test_smoothing_and_thinning_keep_ends_and_means() -> None:
    line = [(float(i), 2.0 * i) for i in range(1001)]
    assert [y for _, y in smooth_points(line)][:980] == pytest.approx([y for _, y in line][:980])
    thin = thin_points(line, 100)
    assert len(thin) == 100
    assert sum(y for _, y in thin) / 100 == pytest.approx(1000, rel=0.01)


def test_ticks_are_round_and_inside() -> None:
    for low, high in [(0, 1), (0.013, 0.0187), (-3, 12), (1e-9, 3e-9), (0, 775), (5, 5)]:
        ticks = nice_ticks(low, high)
        assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)
        assert len(ticks) <= 8
        assert ticks


def test_numbers_read_well() -> None:
    assert [number(v) for v in (0, 1.6721, 12345, 0.00123, 3e-9, float("nan"))] == [
        "0", "1.67", "12,300", "0.00123", "3e-09", "not finite",
    ]  # fmt: skip
    assert [count(v) for v in (7, 9500, 12_345, 999_999, 10_174_080, 1.1e9)] == [
        "7", "9,500", "12.3 k", "1.00 M", "10.2 M", "1.10 G",
    ]  # fmt: skip
    assert [size(v) for v in (12, 20_391_212, 999_999)] == ["12 bytes", "20.4 MB", "1.00 MB"]
    assert [duration(v) for v in (0.31, 59.7, 603.2, 600, 12_000)] == [
        "0.3 s", "1 min", "10 min 3 s", "10 min", "3 h 20 min",
    ]  # fmt: skip
    assert [share(v) for v in (0.748, 1.0, 0.0)] == ["74.8%", "100%", "0.0%"]
