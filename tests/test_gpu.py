"""What must hold on a CUDA device; run by `make gpu`."""

import pytest
import torch

from model_zoo import MODELS
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import build_model
from smidgen.runtime import Runtime, choose_dtype
from smidgen.training import Outside, fit
from smidgen.training.objectives.next_token import next_token
from test_training_loop import config_for, endless, weights_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device"),
]


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_cpus(name):
    config = MODELS[name]
    ids = torch.randint(0, config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))
    on_cpu, on_gpu = build_model(config).eval(), build_model(config, device="cuda").eval()
    torch.testing.assert_close(on_gpu(ids.cuda()).cpu(), on_cpu(ids), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_training_in_the_device_dtype_learns_and_resumes(compiled):
    device = torch.device("cuda")
    runtime = Runtime(device, choose_dtype("auto", device))
    config = config_for(30, precision="auto", compile=compiled)
    saved = []

    def keep(step, tensors, meta):
        saved.append((step, {name: tensor.cpu().clone() for name, tensor in tensors.items()}, dict(meta)))

    straight = build_model(MODELS["best"], device=device)
    done = fit(straight, endless(), next_token, config, runtime, Outside(save_state=keep, checkpoint_steps=10))
    assert done.ended == "budget"
    assert [state[0] for state in saved] == [10, 20, 30]
    resumed = build_model(MODELS["best"], seed=5, device=device)
    fit(resumed, endless(), next_token, config, runtime, Outside(load_state=lambda: saved[1]))
    for one, two in zip(weights_of(straight), weights_of(resumed), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)


def test_the_engine_gives_the_cpus_greedy_symbols():
    prompts = [[1, 5, 9], [3], [7, 7, 2, 8, 4]]
    answers = []
    for device in ("cpu", "cuda"):
        model = prepare_for_decoding(build_model(MODELS["gqa"], device=device).eval(), torch.float32)
        engine = Engine(model, max_rows=2)
        params = SamplingParams(temperature=0.0, max_symbols=12)
        answers.append([sequence.symbols for sequence in engine.generate(prompts, params)])
    assert answers[0] == answers[1]
