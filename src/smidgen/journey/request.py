"""From what a person typed to a recipe and a run directory: a plan, a recipe file, or a run to go on with."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from smidgen.checkpoint import CATALOGUE, LoadedModel, load_model
from smidgen.config import apply_overrides
from smidgen.data.village.corpus import documents as tell_documents
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.journey.material import Shared, is_prepared, open_material, open_source
from smidgen.planning.corpus import CorpusFacts, survey_texts
from smidgen.planning.dials import Plan, PlanRequest, plan
from smidgen.planning.machine import MachineFacts
from smidgen.planning.presets import PRESETS, read_size
from smidgen.planning.units import parse_time
from smidgen.recipe import Recipe, VillageData, differing_keys, load_recipe, recipe_from
from smidgen.runs import RunDirectory

VILLAGE = "village"
_DIALS = ("size", "time", "style", "steps", "seed")
_SURVEYED_DOCUMENTS = 400


@dataclass(frozen=True)
class Request:
    """What a person typed."""

    sources: tuple[str, ...] = ()
    """Nothing (the village), a text, a recipe, a run, or a model and a text."""
    overrides: tuple[str, ...] = ()
    """`key.path=value`, laid over the recipe."""
    size: str | None = None
    """`--size`."""
    time: str | None = None
    """`--time`: of the whole command."""
    style: str | None = None
    """`--style`."""
    steps: int | None = None
    """`--steps`: a budget in optimizer steps instead."""
    seed: int | None = None
    """`--seed`."""
    name: str | None = None
    """`--name`."""
    out: Path = Path("runs")
    """`--out`: where run directories are."""
    device: str | None = None
    """`--device`."""
    shared: Shared | None = None
    """What it has in common with the other runs of a study."""

    @property
    def total_seconds(self) -> float | None:
        """What `--time` means; None if it was not given."""
        return None if self.time is None else parse_time(self.time)

    def identity(self) -> dict[str, Any]:
        """Return what makes two requests ask for the same run, as plain values."""
        sources = [str(Path(source).resolve()) if Path(source).exists() else source for source in self.sources]
        asked = {"sources": sources, "overrides": sorted(self.overrides)}
        asked |= {dial: getattr(self, dial) for dial in _DIALS}
        own = self.recipe_file
        return asked | {"recipe": None if own is None else _own_recipe(self, own).model_dump(mode="json")}

    @property
    def recipe_file(self) -> Path | None:
        """The recipe file that decides everything, if one was given."""
        return Path(self.sources[0]) if self.sources and self.sources[0].endswith(".toml") else None

    def budget_overrides(self) -> list[str]:
        """Return what `--steps` changes in a recipe."""
        return [] if self.steps is None else ["train.budget.type=steps", f"train.budget.steps={self.steps}"]


@dataclass(frozen=True)
class Settled:
    """A request, settled."""

    run: RunDirectory
    """Where it happens."""
    recipe: Recipe
    """What happens."""
    plan: Plan | None = None
    """Why the recipe is so; None for a recipe that was written by hand, or a run that goes on."""
    start: LoadedModel | None = None
    """The model to go on from."""


def read_request(
    arguments: Sequence[str], dials: Mapping[str, Any], out: Path = Path("runs"), device: str | None = None
) -> Request:
    """Tell sources from overrides (`key=value`, unless a file is called so) and check the dials against each other."""
    overrides = tuple(word for word in arguments if "=" in word and not Path(word).exists())
    sources = tuple(word for word in arguments if word not in overrides)
    request = Request(sources, overrides, out=out, device=device, **dials)
    if request.time is not None and request.steps is not None:
        raise ConfigError(f"--time {request.time} and --steps {request.steps} are two budgets. Give one.")
    dial = f"--time {request.time}" if request.time is not None else f"--steps {request.steps}"
    budgets = [override for override in overrides if re.match(r"train\.budget\b", override)]
    if budgets and (request.time, request.steps) != (None, None):
        raise ConfigError(f"{dial} and {budgets[0]} are two budgets. Give one.")
    return request


def settle(request: Request, measure: Callable[[], MachineFacts]) -> Settled:
    """Find out what a request asks for; `measure` is called only where a plan must be made. Nothing is written.

    Raises RunError if the run exists and was asked for differently, ConfigError or BudgetError if it cannot be.
    """
    run = find_run(request)
    if run is not None:
        return Settled(run, _same_recipe(run, request))
    if request.recipe_file is not None:
        recipe = _own_recipe(request, request.recipe_file)
        return Settled(_directory(request, recipe.name), recipe)
    if len(request.sources) == 2:
        return _continue(request)
    made, recipe = make_plan(request, measure)
    return Settled(_directory(request, recipe.name), recipe, made)


def plan_only(request: Request, measure: Callable[[], MachineFacts]) -> tuple[Plan, Recipe]:
    """Plan for a text, whatever runs there are. Raises ConfigError for what needs no plan: a recipe, or a model."""
    if len(request.sources) > 1 or request.recipe_file is not None:
        raise ConfigError("a plan is made for a text: smidgen plan TEXT. A recipe has decided already; see `inspect`.")
    return make_plan(request, measure)


def find_run(request: Request) -> RunDirectory | None:
    """Return the run a request goes on with, if it was begun: the directory given, or that of the request's name."""
    if len(request.sources) > 2:
        raise ConfigError(f"{request.sources[2]!r} is one name too many. Write: train TEXT, or train MODEL TEXT.")
    if len(request.sources) == 1 and RunDirectory(request.sources[0]).is_started:
        return RunDirectory(request.sources[0])
    run = _directory(request, _name_of(request))
    return run if run.is_started else None


def survey(request: Request) -> tuple[dict[str, Any], CorpusFacts]:
    """Return a request's [data] table and what a plan needs to know of the text. Raises DataError if there is none."""
    source = request.sources[-1] if request.sources else VILLAGE
    if _is_village(source):
        data = VillageData()
        texts = [d.text for d in islice(tell_documents(data.world, "train"), _SURVEYED_DOCUMENTS) if d.text]
        return {"type": "village"}, replace(survey_texts(texts, 0, 1), bytes=None)
    if is_prepared(Path(source)):
        return _survey_prepared(Path(source).resolve())
    _refuse_model(source)
    table = {"type": "text", "path": str(Path(source).resolve())}
    given = apply_overrides({"data": table}, [o for o in request.overrides if o.startswith("data.")])
    opened = open_source(recipe_from(given, "options"))
    texts = [_words(document) for document in islice(opened.documents, _SURVEYED_DOCUMENTS)]
    return table, survey_texts(texts, opened.text_bytes, len(texts))


def _survey_prepared(path: Path) -> tuple[dict[str, Any], CorpusFacts]:
    """Survey shards: how much there is, and in which symbols, is known to the byte."""
    material = open_material(RunDirectory(path))
    train = material.shards.train
    facts = survey_texts(islice(material.training_texts(), _SURVEYED_DOCUMENTS), train.text_bytes, len(train.lengths))
    per_symbol = train.text_bytes / max(1, train.symbols)
    settled = replace(facts, bytes_per_symbol=per_symbol, vocab_size=material.tokenizer.vocab_size)
    return {"type": "prepared", "path": str(path)}, settled


def make_plan(request: Request, measure: Callable[[], MachineFacts]) -> tuple[Plan, Recipe]:
    """Turn the dials and a text into a plan and its recipe, overrides included."""
    size = None if request.size is None else read_size(request.size)
    table, corpus = survey(request)
    made = plan(
        PlanRequest(
            corpus,
            measure(),
            size,
            request.total_seconds,
            request.style,
            name=_name_of(request),
            seed=request.seed or 0,
            data=table,
        )
    )
    overrides = [*request.budget_overrides(), *request.overrides]
    recipe = recipe_from(apply_overrides(made.recipe, overrides), "the planned recipe with your overrides")
    return replace(made, recipe=recipe.model_dump(mode="json")), recipe


def _continue(request: Request) -> Settled:
    """Settle on more training of a model that exists: its shape and tokenizer, small steps, AdamW."""
    _refuse_shape(request, "a model that exists. Leave it out.")
    model = request.sources[0]
    _refuse_preset(model, request.sources[1], known=CATALOGUE)
    start = load_model(model, dtype=torch.float32)
    table, _ = survey(request)
    config = start.model.config
    seq_len = min(512, config.max_seq_len)
    recipe = {
        "name": _name_of(request),
        "seed": request.seed or 0,
        "start_from": str(Path(model).resolve()) if Path(model).exists() else model,
        "data": table,
        "model": config.model_dump(mode="json", exclude_none=True),
        "train": {
            "budget": {"type": "time", "seconds": request.total_seconds or 600.0},
            "seq_len": seq_len,
            "batch_tokens": 8 * seq_len,
            # AdamW, because weights that AdamW made do not take to Muon; a tenth of their peak rate, no decay.
            # Source: Liu et al. 2025, arXiv 2502.16982 (section 3.5); Ben Allal et al. 2025, arXiv 2502.02737.
            "optimizer": {"type": "adamw", "learning_rate": 3e-4, "weight_decay": 0.0},
            "schedule": {"type": "wsd", "warmup": 0.05, "decay": 0.5},
        },
    }
    overrides = [*request.budget_overrides(), *request.overrides]
    settled = recipe_from(apply_overrides(recipe, overrides), "the recipe with your overrides")
    return Settled(_directory(request, settled.name), settled, start=start)


def _own_recipe(request: Request, path: Path) -> Recipe:
    _refuse_shape(request, f"a recipe. Edit [model] in {path}, or give a text instead.")
    overrides = [*request.budget_overrides(), *request.overrides]
    if request.seed is not None:
        overrides.append(f"seed={request.seed}")
    if request.name is not None:
        overrides.append(f"name={request.name}")
    if request.total_seconds is not None:
        overrides += ["train.budget.type=time", f"train.budget.seconds={request.total_seconds}"]
    recipe = load_recipe(path, overrides)
    if isinstance(recipe.data, VillageData):
        return recipe
    resolved = recipe.data.model_copy(update={"path": recipe.data.path.resolve()})
    return recipe.model_copy(update={"data": resolved})


def _refuse_shape(request: Request, what: str) -> None:
    for option, value in (("--size", request.size), ("--style", request.style)):
        if value is not None:
            raise ConfigError(f"{option} {value} cannot change {what}")


def _same_recipe(run: RunDirectory, request: Request) -> Recipe:
    """Return the recipe of a run that goes on. Raises RunError naming what was asked for differently this time."""
    before: Mapping[str, Any] | None = run.read_resolved().get("asked")
    if before is None:
        raise RunError(f"{run.resolved}: is missing, so the run cannot go on. Start anew with another --name.")
    by_its_name = not request.sources or Path(request.sources[0]).resolve() == run.path.resolve()
    now = _as_before(request, before, () if by_its_name else request.sources).identity()
    if now["recipe"] is not None:
        differing = differing_keys(before["recipe"] or {}, now["recipe"])
    else:
        keys = ("overrides", *_DIALS) if by_its_name else ("sources", "overrides", *_DIALS)
        differing = [f"{key} ({before.get(key)}, now {now[key]})" for key in keys if now[key] != before.get(key)]
    if differing:
        raise RunError(
            f"{run.path}: was started with another recipe; it differs in {', '.join(differing[:6])}. "
            f"Go on as it began with: smidgen train {run.path}; or use another --name."
        )
    return load_recipe(run.recipe)


def _as_before(request: Request, before: Mapping[str, Any], sources: tuple[str, ...]) -> Request:
    """Return a request in which what is not said this time is as it was; a budget that is said replaces either kind."""
    dials = {dial: before.get(dial) for dial in _DIALS if getattr(request, dial) is None}
    if (request.time, request.steps) != (None, None):
        dials |= {dial: None for dial in ("time", "steps") if dial in dials}
    return replace(request, sources=sources, overrides=request.overrides or tuple(before["overrides"]), **dials)


def _directory(request: Request, name: str) -> RunDirectory:
    return RunDirectory(request.out / name)


def _name_of(request: Request) -> str:
    """Return the run's name: as asked, or after what it reads."""
    if request.name is not None:
        return request.name
    if not request.sources:
        return VILLAGE
    if request.recipe_file is not None:
        return load_recipe(request.recipe_file, request.overrides).name
    words = [Path(source).resolve().name if Path(source).exists() else source for source in request.sources]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(word.partition(".")[0] for word in words)).strip("-._") or "run"


def _is_village(source: str) -> bool:
    return source == VILLAGE and not Path(source).exists()


def _refuse_preset(source: str, text: str = "TEXT", known: Collection[str] = ()) -> None:
    if source in PRESETS and source not in known and not Path(source).exists():
        raise ConfigError(f"{source}: is a shape, not a model. Train one of that shape: train {text} --size {source}")


def _refuse_model(source: str) -> None:
    _refuse_preset(source)
    if (Path(source) / "config.json").is_file() or source.endswith((".gguf", ".safetensors")):
        raise DataError(f"{source}: is a model, not text. Name the text to train it on: smidgen train {source} TEXT")


def _words(document: Any) -> str:
    return document.text or "\n".join(message.content for message in document.messages)
