"""The parts of an adaptation: what is measured, what is told, what is asked."""

import pytest
import torch

from model_zoo import MODELS, randomized, some_ids
from smidgen.adapting.examine import Questions
from smidgen.adapting.finish import round_numbers
from smidgen.checkpoint.adapters import load_adapter, save_adapter
from smidgen.surgery import attach, from_text, read_adapter, to_text
from smidgen.tasks import load_task
from task_files import write_rows

TOLD = ["tinylora:13", "lora_xs:r=2", "lora:r=1,maps=v_proj", "ia3:maps=v_proj", "bias:maps=v_proj"]


@pytest.mark.parametrize("rung", TOLD)
def test_what_is_measured_is_what_the_line_and_the_directory_say(rung, tmp_path):
    model = randomized(MODELS["gqa"])
    ids = some_ids(model.config)
    with torch.no_grad():
        base = model(ids)
        adapter = attach(model, read_adapter(rung))
        generator = torch.Generator().manual_seed(0)
        for weight in adapter.weights.values():
            weight += 1.5e-3 * torch.randn(weight.shape, generator=generator)
        learned = model(ids) - base
        round_numbers(adapter)
        assert (model(ids) - base - learned).norm() < 0.01 * learned.norm()
    save_adapter(tmp_path / "adapter", adapter)
    pasted = from_text(to_text(adapter), randomized(MODELS["gqa"])).state()
    kept = load_adapter(tmp_path / "adapter", randomized(MODELS["gqa"])).state()
    for name, tensor in adapter.state().items():
        assert torch.equal(tensor, pasted[name])
        assert torch.equal(tensor, kept[name])


def test_a_table_of_few_rows_has_no_control(tmp_path):
    rows = [{"question": f"q {n}", "answer": "yes"} for n in range(10)]
    task = load_task(f"{write_rows(tmp_path / 'few.jsonl', rows)}")
    exam = Questions(task, None, None)
    n_training = 10 - len(list(task.examples()))
    assert exam.why_no_control(0) is exam.why_no_control(n_training) is None
    said = exam.why_no_control(n_training + 1)
    assert (
        said
        == f"task few.jsonl: {n_training + 1} worked examples asked for, and {n_training} are there to choose from."
    )


def test_what_is_no_line_keeps_its_last_bit():
    adapter = attach(randomized(MODELS["gqa"]), read_adapter("lora:r=8"))
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += 1 / 3
    learned = {name: tensor.clone() for name, tensor in adapter.state().items()}
    round_numbers(adapter)
    assert all(torch.equal(tensor, learned[name]) for name, tensor in adapter.state().items())
