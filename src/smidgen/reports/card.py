"""The model card: README.md of a model directory, with the front matter that model hubs read.

Every sentence is a fact of the run; what was not measured is not mentioned.
"""

import json
import re
from pathlib import Path

from smidgen.reports import views
from smidgen.reports.quantities import count, duration, number, share, size
from smidgen.reports.records import Record, RunRecord, as_rows, as_table, read_run, show_controls

_LIMITS = """\
A model of this size knows what its training text repeats often and little else. It states falsehoods fluently, has no
knowledge of the world beyond its text, and was not trained to refuse anything. Measure it on your own task before
relying on it."""


def write_card(path: Path) -> str:
    """Return the model card of a run, finished or not. Raises RunError if there is no run."""
    return show_controls(render_card(read_run(path)))


def render_card(run: RunRecord) -> str:
    """Return the card as Markdown with YAML front matter."""
    sections = [
        _front_matter(run),
        f"# {run.name}",
        _what_it_is(run),
        _table("Sizes", _sizes(run)),
        _scores(run),
        _table("Training", _training(run)),
        _table("Data", _data(run)),
        _usage(run),
        f"## Limits\n\n{_LIMITS}{_health(run)}",
        _samples(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(run: RunRecord) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags:", "- smidgen", "- tiny"]
    bits = run.validation().get("bits_per_byte")
    if bits is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(run.name)}",
            "  results:",
            "  - task: {type: text-generation}",
            "    dataset: {name: held-out part of the training text, type: own}",
            "    metrics:",
            f"    - {{type: bits_per_byte, name: bits per byte, value: {bits:.4f}}}",
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
