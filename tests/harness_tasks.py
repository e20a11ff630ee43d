"""The harness's own tasks over our rows: its YAML, its templates, its sampler, its filters; nothing is downloaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "sciq": "sciq/sciq.yaml",
    "copa": "super_glue/copa/default.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "sst2": "glue/sst2/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
}
"""The files of the tasks that are one task; BLiMP is a group of 67."""


def harness_config(file: str) -> dict[str, Any]:
    """Read a file of the harness's tasks, with what it includes."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / file)
    for key in ("tag", "group"):
        config.pop(key, None)
    return config


def harness_task(file: str, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """Return the harness's task over some rows, with all its requests built."""
    config = harness_config(file)
    from datasets import Dataset, disable_progress_bars
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    disable_progress_bars()
    data = {split: Dataset.from_list([dict(row) for row in rows]) for split, rows in splits.items()}
    # The few-shot pool of a task is read even where nothing is drawn from it.
    wanted = [config.get(f"{kind}_split") for kind in ("training", "validation", "test", "fewshot")]
    data |= {split: next(iter(data.values())) for split in wanted if split and split not in data}
    version = (config.get("metadata") or {}).get("version")
    config["custom_dataset"] = lambda **_: data
    config["metadata"] = {} if version is None else {"version": version}
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    task.build_all_requests()
    return task
