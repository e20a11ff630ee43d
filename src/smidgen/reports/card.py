"""The model card: README.md of a model directory, with the front matter that model hubs read.

Every sentence is a fact of the run; what was not measured is not mentioned.
"""

import json
import re
from math import isfinite
from pathlib import Path

from smidgen.reports import views
from smidgen.reports.quantities import count, duration, number, share, size
from smidgen.reports.records import Record, RunRecord, as_rows, as_table, read_run, show_controls
from smidgen.reports.standing import OWN_TEXT, EvalFiles, Score, Standing, read_standing
from smidgen.runs import RunDirectory

_LIMITS = """\
A model of this size knows what its training text repeats often and little else. It states falsehoods fluently, has no
knowledge of the world beyond its text, and was not trained to refuse anything. Measure it on your own task before
relying on it."""


_EVALS, _EVALS_END = "<!-- evaluations -->", "<!-- /evaluations -->"
"""Around the table that `smidgen eval` keeps up to date; the rest of a card is its owner's to edit."""


def write_card(path: Path) -> str:
    """Return the model card of a run, finished or not, with what its model's evaluations found.

    Raises RunError if there is no run, or the record of the evaluations is damaged.
    """
    return show_controls(render_card(read_run(path), read_standing(EvalFiles.beside(RunDirectory(path).model))))


def with_scores(card: str, standing: Standing) -> str:
    """Return a card with the table of a model's evaluations brought up to date; at its end, if it had none."""
    table = f"{_EVALS}\n{_evaluations(standing)}\n{_EVALS_END}"
    before, mark, rest = card.partition(_EVALS)
    if mark and _EVALS_END in rest:
        return before + table + rest.partition(_EVALS_END)[2]
    return f"{card.rstrip()}\n\n{table}\n" if card.strip() else f"{table}\n"


def render_card(run: RunRecord, standing: Standing | None = None) -> str:
    """Return the card as Markdown with YAML front matter."""
    sections = [
        _front_matter(run, standing),
        f"# {run.name}",
        _what_it_is(run),
        _table("Sizes", _sizes(run)),
        _scores(run),
        with_scores("", standing).strip() if standing else f"{_EVALS}\n{_EVALS_END}",
        _table("Training", _training(run)),
        _table("Data", _data(run)),
        _usage(run),
        f"## Limits\n\n{_LIMITS}{_health(run)}",
        _samples(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(run: RunRecord, standing: Standing | None) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags:", "- smidgen", "- tiny"]
    bits = run.validation().get("bits_per_byte")
    results = [] if bits is None else [("held-out part of the training text", "own", "bits_per_byte", bits)]
    whole = [score for score in (standing.scores if standing else ()) if not score.is_part and isfinite(score.value)]
    whole = [score for score in whole if score.name != OWN_TEXT]  # which the line above tells
    results += [(score.name, "evaluation", score.metric, score.value) for score in whole]
    if results:
        lines += ["model-index:", f"- name: {json.dumps(run.name)}", "  results:"]
    for name, kind, metric, value in results:
        lines += [
            "  - task: {type: text-generation}",
            f"    dataset: {{name: {json.dumps(name)}, type: {kind}}}",
            "    metrics:",
            f"    - {{type: {json.dumps(metric)}, name: {json.dumps(metric.replace('_', ' '))}, value: {value:.4f}}}",
        ]
    return "\n".join([*lines, "---"])


def _what_it_is(run: RunRecord) -> str:
    parameters = run.figure("parameters") or run.part("model").get("parameters")
    seconds, tokens = run.figure("seconds"), run.figure("tokens", "symbols")
    opening = f"A language model of {count(parameters)} parameters" if parameters else "A small language model"
    trained = f", trained from scratch on {count(tokens)} tokens" if tokens else ""
    took = f" in {duration(seconds)}" if seconds else ""
    machine = run.part("hardware")
    where = machine.get("gpu") if machine.get("gpu") not in (None, "none") else machine.get("cpu")
    on = f" on {machine.get('cores')} cores of {where}" if where and where == machine.get("cpu") else ""
    on = on or (f" on {where}" if where else "")
    unfinished = "" if run.final else " The run is not finished; the figures are those so far."
    return f"{opening}{trained}{took}{on} with Smidgen.{unfinished}"


def _sizes(run: RunRecord) -> list[tuple[str, str]]:
    model, file_bytes = run.part("model"), run.figure("file_bytes")
    parameters = run.figure("parameters") or model.get("parameters")
    shape = as_table(run.part("recipe").get("model"))
    rows = [
        ("Parameters", f"{parameters:,}" if parameters else None),
        ("Weights on disk", size(file_bytes) if file_bytes else None),
        ("Vocabulary", f"{shape['vocab_size']:,} symbols" if shape.get("vocab_size") else None),
        ("Context", f"{shape['max_seq_len']:,} symbols" if shape.get("max_seq_len") else None),
        ("FLOPs per symbol", count(model["flops_per_symbol"]) if model.get("flops_per_symbol") else None),
        ("Cache per symbol", size(model["kv_bytes_per_symbol"]) if model.get("kv_bytes_per_symbol") else None),
    ]
    return [(name, value) for name, value in rows if value]


def _scores(run: RunRecord) -> str:
    lines, measured = [], run.validation()
    if measured.get("bits_per_byte") is not None:
        error = measured.get("standard_error")
        reach = f" ± {number(1.96 * error, 2)} (95%)" if error else ""
        lines.append(f"**Bits per byte** on held-out text: **{number(measured['bits_per_byte'], 4)}**{reach}.")
        lines.append(_protocol(measured))
    tasks = [task for task in as_rows((run.final or {}).get("tasks")) if as_table(task.get("strict"))]
    if tasks:
        lines.append("")
        lines.append("| Task | Examples | Exact | 95% interval | Lenient | Chance | Most frequent answer |")
        lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        lines += [_task_row(task) for task in tasks]
    return "\n".join(["## Scores", "", *lines]) if lines else ""


def _protocol(measured: Record) -> str:
    protocol = as_table(measured.get("protocol"))
    if not protocol:
        return ""
    how = "each document alone" if protocol.get("isolate_documents") else "documents streamed"
    scored = f", {measured['documents']:,} documents, {size(measured['bytes'])}" if measured.get("documents") else ""
    return (
        f"Protocol: context {protocol.get('context')}, stride {protocol.get('stride')}, {how}{scored}; bytes are the "
        "UTF-8 length of the text, document ends not counted."
    )


def _task_row(task: Record) -> str:
    strict, lenient = as_table(task.get("strict")), as_table(task.get("lenient"))
    known = [share(task[key]) if task.get(key) is not None else "–" for key in ("chance", "majority")]
    middle = share(lenient["value"]) if lenient else "–"
    interval = f"{share(strict['low'])} – {share(strict['high'])}"
    return (
        f"| {_plain_cell(task.get('name'))} | {strict.get('n')} | {share(strict['value'])} | {interval} | {middle} | "
        + (" | ".join(known) + " |")
    )


def _evaluations(standing: Standing) -> str:
    """Return the table of what was evaluated, and in words what limits it."""
    looked = any(score.contamination for score in standing.scores)
    head = ["Task", "Version", "Metric", "Score", "95% interval", "Chance", "Above chance", "Items"]
    rows = [[*head, "Found in training text"] if looked else head]
    rows.append(["---"] * len(rows[0]))
    rows += [_evaluation(score) + ([_found(score)] if looked else []) for score in standing.scores]
    said = []
    if any(score.is_part for score in standing.scores):
        said.append("“Of” means that only a part of the published items was asked.")
    if any(score.cut for score in standing.scores):
        cut = ", ".join(f"{score.name} {score.cut:,}" for score in standing.scores if score.cut)
        said.append(f"Items that did not fit the model's context whole: {cut}.")
    lines = [f"| {' | '.join(map(_plain_cell, row))} |" for row in rows]
    return "\n".join(["## Evaluations", "", *lines, *(["", " ".join(said)] if said else [])])


def _evaluation(score: Score) -> list[str]:
    reach = "–" if score.low is None else f"{score.told(score.low)} – {score.told(score.high)}"
    chance = [share(value) if value is not None else "–" for value in (score.chance, score.corrected)]
    metric = score.metric.replace("_", " ")
    return [score.name, score.version, metric, score.told(score.value), reach, *chance, score.asked()]


def _found(score: Score) -> str:
    """Say how many items stood in the training text, and what the score is without them."""
    told, clean = score.contamination, as_table(score.contamination.get("score_clean"))
    if not told or told.get("share") is None:
        return "not looked"
    without = f"; {share(clean['value'])} without" if clean.get("value") is not None and told["share"] else ""
    return f"{share(told['share'])} of items{without}"


def _training(run: RunRecord) -> list[tuple[str, str]]:
    rows = [(row.name, f"{row.happened} (planned {row.planned})") for row in views.comparisons(run)]
    speed = run.figure("tokens_per_second")
    return [*rows, ("Throughput", f"{count(speed)} tokens a second")] if speed else rows


def _data(run: RunRecord) -> list[tuple[str, str]]:
    return next((rows for title, rows in views.facts(run) if title == "Data"), [])


def _usage(run: RunRecord) -> str:
    name = re.sub(r"[^\w./-]+", "-", run.name) or "model"
    return f"""## Use

```sh
smidgen chat {name}
smidgen generate {name} "Once upon a time"
```

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
ids = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```

The second form needs a model of plain Llama shape (preset `llama`)."""


def _health(run: RunRecord) -> str:
    reasons = [f"- {finding['reason']}" for finding in views.findings(run) if finding.get("reason")]
    return "\n\nMeasured on generated text:\n\n" + "\n".join(reasons) if reasons else ""


def _samples(run: RunRecord) -> str:
    trails = views.sample_trails(run)[:3]
    if not trails:
        return ""
    texts = [_fenced(f"{trail.prompt}{trail.texts[0][1]}") for trail in trails]
    return "\n\n".join(["## Samples", "Written by the model, not chosen.", *texts])


def _fenced(text: str) -> str:
    """Quote text so that nothing in it can end the quotation."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    body = "\n".join(f"| {_plain_cell(name)} | {_plain_cell(value)} |" for name, value in rows)
    return f"## {title}\n\n| | |\n| --- | --- |\n{body}"


def _plain_cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 120 else f"{text[:110]} …"
