"""The leaderboard: one page that fetches nothing, sorts by a click, and says what limits each number."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Smidgen
from evaluated import answers, evaluate, make_model, rewrite
from smidgen.reports.entrants import find_entrants
from smidgen.reports.leaderboard import columns_of, leaderboard_notes, ordered, render_leaderboard
from smidgen.reports.standing import EvalFiles
from synthetic_run import write_synthetic_run
from test_reports_report import HOSTILE, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def make_run(path: Path, bits: float = 1.4, parameters: int = 10_000_000, text: str = "9f2c") -> Path:
    """Write a finished run with a model."""
    write_synthetic_run(path, steps=4)
    for name, change in (
        ("metrics.json", {"parameters": parameters}),
        ("resolved.json", {"data": {"hash": text}, "recipe": {"data": {"path": f"texts/{text}"}}}),
    ):
        content = json.loads((path / name).read_text()) | change
        if "validation" in content:
            content["validation"]["bits_per_byte"] = bits
        (path / name).write_text(json.dumps(content))
    make_model(path / "model")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, two of them evaluated, one on part of the items; a bare model, and one evaluated elsewhere."""
    folder = tmp_path / "runs"
    arc = {"arc_easy": answers(0.30), "piqa": answers(0.55, seed=1, prefix="piqa")}
    better = {"arc_easy": answers(0.50), "piqa": answers(0.60, seed=1, prefix="piqa")}
    evaluate(make_run(folder / "small", 1.50, 1_000_000) / "model", arc)
    evaluate(make_run(folder / "large", 1.30) / "model", better)
    trial = {name: rows[:20] for name, rows in better.items()}
    evaluate(make_run(folder / "trial", 0.9, text="other") / "model", trial, more={"limit": 20, "of": 400})
    make_model(folder / "bare", kilobytes=7)
    return folder


def test_every_model_below_the_folder_stands_in_it(runs: Path):
    make_run(runs / "a-study/runs/plain-0-abc")
    shutil.rmtree(runs / "a-study/runs/plain-0-abc/model")
    make_run(runs / "a-study/runs/shared-0-def")
    write_synthetic_run(runs / "going", steps=9, finished=False)
    (runs / "m.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    evaluate(runs / "m.gguf", {"arc_easy": answers(0.3)})
    shutil.copy(runs / "m.gguf", runs / "never-evaluated.gguf")
    field = find_entrants(runs)
    assert [one.name for one in field.entrants] == [
        "a-study/shared-0-def", "bare", "large", "m.gguf", "small", "trial",
    ]  # fmt: skip
    found = {one.name: one for one in field.entrants}
    assert found["a-study/shared-0-def"].group == "a-study"
    assert found["bare"].file_bytes == 7000 + 2
    assert (found["bare"].parameters, found["bare"].seconds, found["bare"].standing) == (None, None, None)
    assert (found["m.gguf"].parameters, found["m.gguf"].file_bytes) == (10_000_000, 104)
    assert field.notes == (
        "1 run is not finished and left out.",
        "1 run is without a model of its own (adaptations).",
    )


def test_parameters_are_counted_where_nobody_wrote_them_down(tmp_path: Path):
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [3, 5]}, "b": {"shape": []}})
    model = make_model(tmp_path / "runs/m")
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 30)
    assert find_entrants(tmp_path / "runs").entrants[0].parameters == 16


def test_evaluations_do_not_count_as_shipped(runs: Path):
    before = {one.name: one.file_bytes for one in find_entrants(runs).entrants}
    evaluate(runs / "bare", {"arc_easy": answers(0.3)})
    after = {one.name: one.file_bytes for one in find_entrants(runs).entrants}
    assert after == before, "nor does the card, which grows by them"


def test_the_page_tells_scores_costs_and_limits(runs: Path):
    page = Page(render_leaderboard(find_entrants(runs)))
    told = ["4 models", "1.00 M", "10.0 M", "7.00 kB", "10 min 3 s", "1.500", "1.300", "± 0.011", "chance 25%"]
    told += [
        "20 of 400",
        "limited",
        "above chance",
        "mean of 2 tasks",
        "only within one do they compare",
        "Against bytes shipped",
    ]
    assert [words for words in told if words not in page.text] == []
    assert "nan" not in re.sub(r"[^a-z]+", " ", page.text.lower()).split()


def test_best_is_only_what_its_interval_does_not_tell_from_the_best(runs: Path):
    columns = {column.title: column for column in columns_of(find_entrants(runs))}
    arc, bits = columns["arc_easy"], columns["bits per byte"]
    assert [name for name in arc.marks if arc.is_top(name)] == ["large"], "a trial of 20 items is never the best"
    assert [name for name in bits.marks if bits.is_top(name)] == ["large"], "another text is not compared"
    piqa = columns["piqa"]
    assert {name for name in piqa.marks if piqa.is_top(name)} == {"large"} | (
        {"small"} if piqa.marks["small"].value + piqa.marks["small"].reach >= piqa.marks["large"].value else set()
    )


def test_one_text_from_two_sources_is_one_text(tmp_path: Path):
    same = [{"id": f"d{n}", "hash": f"h{n}", "score": 1.5} for n in range(9)]
    for name, bits in (("a", 1.5), ("b", 1.3)):
        run = make_run(tmp_path / "runs" / name, bits, text=f"source {name}")
        evaluate(run / "model", {"bits_per_byte:held out": same}, more={"metric": "bits_per_byte", "corrected": None})
    make_run(tmp_path / "runs/c", 1.2, text="source b")
    [bits] = columns_of(find_entrants(tmp_path / "runs"))
    assert bits.note.startswith("held out of source")
    assert [name for name in bits.marks if bits.is_top(name)] == ["c"]


def test_the_mean_is_of_the_tasks_that_most_were_asked(runs: Path):
    more = {name: answers(0.4, prefix=name) for name in ("arc_easy", "piqa", "sciq")}
    evaluate(make_model(runs / "asked-more"), more)
    evaluate(make_model(runs / "asked-less"), {"arc_easy": answers(0.9)})
    mean = next(column for column in columns_of(find_entrants(runs)) if column.title == "above chance")
    assert mean.note == "mean of 2 tasks"
    assert set(mean.marks) == {"large", "small", "trial", "asked-more"}
    field = find_entrants(runs)
    assert [one.name for one in ordered(field, columns_of(field))][-2:] == ["asked-less", "bare"]


def test_a_mean_over_other_items_is_marked_and_no_peer(runs: Path):
    """Fewer rows in the file, without a limit, or another version of a task."""
    fewer = {"arc_easy": answers(0.99, 200), "piqa": answers(0.99, 200, seed=1, prefix="piqa")}
    evaluate(make_model(runs / "fewer"), fewer, more={"of": 400})
    whole = {"arc_easy": answers(0.98), "piqa": answers(0.98, seed=1, prefix="piqa")}
    evaluate(make_model(runs / "version"), whole, more={"version": "2.0"})
    mean = next(column for column in columns_of(find_entrants(runs)) if column.title == "above chance")
    assert mean.marks["large"].beside == ""
    assert mean.marks["fewer"].beside.startswith("limited, other items")
    assert mean.marks["version"].beside.startswith("other items")
    assert len({mean.marks[name].among for name in ("large", "fewer", "version", "trial")}) == 4
    assert [name for name in mean.marks if mean.is_top(name)] == ["large"]


def test_what_limits_it_is_said(runs: Path):
    seen = {"share": 0.021, "score_clean": {"value": 0.27}}
    evaluate(
        make_model(runs / "seen"), {"arc_easy": answers(0.3)}, more={"contamination": seen, "version": "2.0", "cut": 3}
    )
    notes = "\n".join(leaderboard_notes(find_entrants(runs)))
    for words in (
        "seen: of the items, its training text held 2.1% of arc_easy, without them 27.0% instead of",
        "arc_easy: versions 1.0, 2.0 stand in one column",
        "did not fit the context whole: seen 3 at arc_easy",
        "only so many of the published items were asked",
    ):
        assert words in notes
    assert "2.1% seen" in Page(render_leaderboard(find_entrants(runs))).text


def test_a_damaged_record_leaves_the_model_in_and_is_said(smidgen: Smidgen, runs: Path):
    (runs / "small/model/evals.json").write_text("{")
    (runs / "large/metrics.json").write_text("{")
    result = smidgen("leaderboard", runs)
    assert result.code == 0, result.err
    told = " ".join(result.out.split())
    assert "small/model/evals.json: is damaged" in told
    assert "large/metrics.json: cannot be read" in told
    assert {one.name for one in find_entrants(runs).entrants} == {"small", "large", "trial", "bare"}


@pytest.mark.parametrize(
    ("key", "value"), [("parameters", "x"), ("parameters", -1), ("file_bytes", 10**400), ("parameters", True)]
)
def test_a_cost_that_is_no_count_is_passed_over(runs: Path, key: str, value: object):
    rewrite(runs / "large/model", lambda content: content["evals"][0].update({key: value}))
    assert "large" in render_leaderboard(find_entrants(runs))


def test_a_perplexity_beyond_all_numbers_stands_in_the_table_and_in_no_figure(runs: Path):
    rewrite(runs / "large/model", lambda content: content["evals"][0]["tasks"][0].update(value=None))
    assert "large" in render_leaderboard(find_entrants(runs))


def test_the_verb_writes_the_page_and_a_table(smidgen: Smidgen, runs: Path, tmp_path: Path):
    result = smidgen("leaderboard", runs)
    assert result.code == 0, result.err
    assert f"Wrote {runs / 'leaderboard.html'}" in result.out.replace("\n", "")
    assert "1.300" in result.out
    assert smidgen("leaderboard", runs, "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_text() == (runs / "leaderboard.html").read_text()


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "only an unfinished run"])
def test_a_folder_without_models_is_one_clear_line(smidgen: Smidgen, tmp_path: Path, kind: str):
    folder = tmp_path / "runs"
    if kind == "a file":
        folder.write_text("")
    elif kind != "missing":
        folder.mkdir()
    if kind.startswith("only"):
        write_synthetic_run(folder / "going", steps=9, finished=False)
    result = smidgen("leaderboard", folder)
    assert result.code == 2
    assert ("no such folder" if kind in ("missing", "a file") else "holds no model") in result.err
    assert ("1 run is not finished" in result.err) is kind.startswith("only")
    assert len(result.err.splitlines()) == 1


def test_it_fetches_nothing_and_trusts_nothing(runs: Path):
    evil = answers(0.3, 30, prefix="x")
    evaluate(make_model(runs / "a b&<i>"), {HOSTILE: evil, "arc_easy": evil}, more={"version": HOSTILE})
    html = render_leaderboard(find_entrants(runs))
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "srcset", "background", "onload", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert HOSTILE in page.text
    assert "a b&<i>" in page.text
    assert "default-src 'none'" in html
    assert "url(" not in html


CLICKS = """<script>
const order = () => [...document.querySelectorAll(".board tbody tr")].map((row) => row.cells[1].textContent).join(",");
const click = (n) => document.querySelectorAll(".board thead button")[n].click();
const told = [order()];
for (const n of [2, 2, 1, 5, 7]) { click(n); told.push(order()); }
const sorted = document.querySelectorAll("[aria-sort]");
told.push(sorted.length + sorted[0].getAttribute("aria-sort"));
document.querySelector("label[for=panel-2]").click();
told.push([...document.querySelectorAll(".panel")].map((p) => getComputedStyle(p).display).slice(0, 3).join(","));
document.body.textContent = told.join(";");
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to click in")
def test_a_click_sorts_in_a_real_browser(runs: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text(render_leaderboard(find_entrants(runs)).replace("</body>", f"{CLICKS}</body>"))
    asked = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run([*asked, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60)
    told = re.search(r"<body>(.*?)</body>", shown.stdout, re.DOTALL)
    assert told, shown.stderr
    assert told[1].strip().split(";") == [
        "large,trial,small,bare",  # as written: the best mean first
        "small,large,trial,bare",  # by parameters, fewest first; what has none stays last
        "large,trial,small,bare",
        "bare,large,small,trial",  # by name
        "trial,large,small,bare",  # by bits per byte, least first
        "large,trial,small,bare",  # by a task, most first
        "1descending",
        "none,block,none",
    ]


def test_there_is_one_place_for_the_evaluations_of_a_file_and_of_a_folder(tmp_path: Path):
    assert EvalFiles.beside(tmp_path / "m.gguf").file == tmp_path / "m.evals.json"
    assert EvalFiles.beside(tmp_path / "m").folder == tmp_path / "m/evals"
