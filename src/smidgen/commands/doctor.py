"""`smidgen doctor`: what this machine offers and what a run would use of it."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smidgen.planning.machine import MachineFacts

EXTRAS = {
    "parquet": ("pyarrow", "reading .parquet files"),
    "gguf": ("gguf", "reading GGUF weights, and `pull smollm2-135m`"),
    "hub": ("huggingface_hub", "`pull owner/name` from the hub"),
    "tensorboard": ("tensorboard", "metrics in TensorBoard as well"),
}
"""Extra to the module it brings and what that is for."""


@click.command()
@click.option("--device", metavar="NAME", help="Look at this device: cpu, cuda, cuda:1, mps.")
@click.option("--measure", is_flag=True, help="Measure the machine anew: what plans rely on. Best when it is idle.")
def command(device: str | None, measure: bool) -> None:
    """Show what this machine offers and what a run would use of it."""
    import shutil
    from importlib.util import find_spec
    from pathlib import Path

    from smidgen import __version__
    from smidgen.planning.measure import measure_machine, remembered_machine
    from smidgen.runtime import describe_hardware, open_runtime
    from smidgen.training.parallel import probe_compile

    runtime = open_runtime(device=device)
    hardware = describe_hardware()
    failure = probe_compile(runtime.device)
    machine = measure_machine(runtime, refresh=True) if measure else remembered_machine(runtime)
    dtype = str(runtime.dtype).removeprefix("torch.")
    free = shutil.disk_usage(Path.cwd()).free
    lines = [
        ("smidgen", f"{__version__} on Python {hardware['python']}, torch {hardware['torch']}"),
        ("processor", f"{hardware['cpu']}, {hardware['cores']} cores ({hardware['cpu_features']})"),
        ("graphics card", str(hardware["gpu"])),
        ("measured speed", "not yet; the first plan does it" if machine is None else _speed(machine)),
        ("disk here", f"{free / 1e9:,.0f} GB free"),
        ("", ""),
        ("device", f"{runtime.device}, chosen " + ("by you" if device else "because it is the fastest one here")),
        ("precision", f"{dtype} activations, fp32 weights"),
        ("threads", str(hardware["threads"])),
        ("attention", "torch's scaled_dot_product_attention; nothing to compile or install"),
        (
            "torch.compile",
            "works; used when a run is long enough to repay it" if failure is None else f"off: {failure}",
        ),
        ("", ""),
    ]
    for extra, (module, use) in EXTRAS.items():
        found = find_spec(module) is not None
        lines.append((f"extra {extra}", f"{use}: " + ("installed" if found else f"pip install 'smidgen[{extra}]'")))
    for name, text in lines:
        click.echo(f"{name:<18}{text}".rstrip())


def _speed(machine: "MachineFacts") -> str:
    speed = (
        f"{machine.matmul_flops / 1e12:.2f} TFLOP/s in {machine.dtype}, {machine.bandwidth / 1e9:.0f} GB/s of memory"
    )
    return f"{speed} (measured too slow on a busy machine? smidgen doctor --measure)"
