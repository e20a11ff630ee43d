"""The curves of a run: which numbers are drawn together, in which unit, and what is said below them."""

from dataclasses import dataclass

from smidgen.reports.plot import Mark, Plot, Series, draw_plot
from smidgen.reports.quantities import count, number, share
from smidgen.reports.records import Points, RunRecord, as_table, plain


@dataclass(frozen=True)
class Figure:
    """A drawn plot with its legend and caption."""

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...]
    """Role in the style sheet and name of each series."""
    caption: str
    wide_svg: str = ""
    """The same plot for a wide page; only the first figure has one."""


def draw_curves(run: RunRecord) -> list[Figure]:
    """Return the figures of everything that was logged; a number never logged has no figure."""
    figures = [
        _reward(run),
        _wrong_moves(run),
        _bits_per_byte(run),
        _loss(run),
        _throughput(run),
        _learning_rate(run),
        _gradient_norm(run),
    ]
    return [figure for figure in figures if figure is not None]


def _reward(run: RunRecord) -> Figure | None:
    points = run.curve("rollouts", "mean_reward")
    if not points:
        return None
    plot = Plot("Reward", "mean reward of a step's answers", [Series("reward", points, "train")], from_zero=True)
    last = [y for _, y in points[-max(10, len(points) // 33) :]]
    return _figure(plot, f"{number(sum(last) / len(last), 3)} at the end, over the training prompts.", wide=True)


def _wrong_moves(run: RunRecord) -> Figure | None:
    points = run.curve("selfplay", "illegal")
    if not points:
        return None
    series = [Series("wrong moves", points, "train")]
    plot = Plot("Wrong moves", "share of its games", series, from_zero=True)
    return _figure(plot, "Share of the games it played to learn that it lost by a wrong move.", wide=True)


def _bits_per_byte(run: RunRecord) -> Figure | None:
    train, validation = run.curve("train", "bits_per_byte"), run.curve("validation", "bits_per_byte")
    expected = as_table(run.part("plan").get("expected")).get("bits_per_byte")
    marks = [Mark("planned", float(expected))] if expected else []
    series = [Series("training", train, "train"), Series("validation", validation, "validation", dots=True)]
    plot = Plot("Bits per byte", "bits per byte", series, marks, skip_start=True)
    caption = _ends(train, validation, "bits per byte")
    return _figure(plot, f"{caption} Lower is better; comparable across tokenizers.", wide=True)


def _loss(run: RunRecord) -> Figure | None:
    train, validation = run.curve("train", "loss"), run.curve("validation", "loss")
    series = [Series("training", train, "train"), Series("validation", validation, "validation", dots=True)]
    plot = Plot("Loss", "nats per symbol", series, skip_start=True)
    return _figure(plot, f"{_ends(train, validation, 'nats')} Comparable only within one tokenizer.")


def _throughput(run: RunRecord) -> Figure | None:
    points = run.curve("train", "tokens_per_second")
    if not points:
        return None
    middle = sorted(y for _, y in points)[len(points) // 2]
    mfu = sorted(y for _, y in run.curve("train", "mfu"))
    used = f", {share(mfu[len(mfu) // 2])} of what this machine's matrix products reach (MFU)" if mfu else ""
    plot = Plot("Throughput", "tokens per second", [Series("tokens/s", points, "plain")], from_zero=True)
    return _figure(plot, f"Median {count(middle)} tokens a second{used}.")


def _learning_rate(run: RunRecord) -> Figure | None:
    points = run.curve("train", "learning_rate")
    if not points:
        return None
    optimizer = as_table(as_table(run.part("recipe").get("train")).get("optimizer"))
    rates = {name: rate for name, rate in optimizer.items() if name.endswith("learning_rate")}
    peaks = ", ".join(f"{name.replace('_', ' ')} {plain(rate)}" for name, rate in rates.items())
    plot = Plot(
        "Learning rate",
        "share of peak",
        [Series("share of the peak rate", points, "plain", smooth=False)],
        from_zero=True,
    )
    return _figure(plot, f"Peaks: {peaks}." if peaks else "All rates move together.")


def _gradient_norm(run: RunRecord) -> Figure | None:
    points = run.curve("train", "gradient_norm")
    if not points:
        return None
    limit = as_table(as_table(run.part("recipe")).get("train")).get("clip_norm")
    over = sum(1 for _, y in points if limit and y > limit)
    clipped = f" {share(over / len(points))} of the logged steps were clipped to {plain(limit)}." if limit else ""
    plot = Plot("Gradient norm", "L2 norm", [Series("gradient norm", points, "plain")], logarithmic=True)
    return _figure(plot, f"Largest {number(max(y for _, y in points))}, before clipping.{clipped}")


def _figure(plot: Plot, caption: str, wide: bool = False) -> Figure | None:
    if plot.is_empty:
        return None
    drawn = [one for one in plot.series if one.points]
    legend = tuple((one.role, one.name) for one in drawn) if len(drawn) > 1 else ()
    wide_svg = draw_plot(plot, width=1000, height=330) if wide else ""
    return Figure(plot.title, draw_plot(plot), legend, caption, wide_svg)


def _ends(train: Points, validation: Points, unit: str) -> str:
    told = []
    if validation:
        told.append(f"{number(validation[-1][1], 4)} {unit} on held-out text")
    if train:
        # The last logged step is one noisy batch; the last 3% of them, or ten, are the level reached.
        last = [y for _, y in train[-max(10, len(train) // 33) :]]
        told.append(f"{number(sum(last) / len(last), 4)} in training")
    return f"At the end {', '.join(told)}." if told else ""
