"""Telling lm-eval that there is a model called `smidgen`.

Releases after 0.4.13 look for the entry point group `lm_eval.models`, where pyproject.toml names the model; nothing
here is needed for them. Up to 0.4.13 nothing outside of the harness is looked for, so `lm_eval --model smidgen` can
only be understood if somebody adds the name before it is looked up. lm-eval imports torch before that, and torch calls
what the entry point group `torch.backends` names, which is meant for extensions of torch; `on_torch_import` stands
there. It does nothing unless lm-eval is what imported torch. TORCH_DEVICE_BACKEND_AUTOLOAD=0 turns it off; then
`python -m smidgen.harness` takes the place of `lm_eval`, with the same arguments.
"""

import sys

NAME = "smidgen"
MODEL = "smidgen.harness.model:SmidgenLM"


def announce() -> None:
    """Add the model to the harness's registry, by name: it is imported when somebody asks for it."""
    import lm_eval.models  # noqa: F401  # registers the harness's own, which it does only into an empty registry
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=MODEL)


def on_torch_import() -> None:
    """Announce the model if the harness is what imports torch. Never fails, or torch could not be imported."""
    if "lm_eval" not in sys.modules:
        return
    try:
        announce()
    except Exception as error:  # whatever an older harness lacks: torch must be imported all the same
        print(f"smidgen is not known to this lm-eval ({error}). Try: python -m smidgen.harness", file=sys.stderr)
