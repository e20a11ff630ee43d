"""Sequences that begin alike, as trees of runs: what several have in common is computed once, whoever asks for it.

    Question: ... Answer: ─┬─ Paris          A run is a stretch of symbols behind another run. One with children keeps
                           ├─ Lyon           a row of memory, from which each of them starts with a copy; one without
                           └─ New ─┬─ York   has a row as long as it runs.
                                   └─ Delhi

The candidates of a question share their prompt, minimal pairs their beginning, few-shot prompts their examples: all
the same tree. Pure Python on symbols; what a model does with a run is the business of `likelihood`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from smidgen.inference.memory import common_prefix

WORTH_SHARING = 4
"""Fewest symbols to share among sequences: each saves one of theirs, a branch costs a copy of its memory, a fifth."""

WORTH_BRANCHING = 8
"""Fewest symbols to share among the branches of a run: every depth of the trees is forwards of its own."""

FORWARD_COST = 128
"""Padding that is as dear as one forward more: reading the weights, 700 calls, and narrower products. Of SmolLM2-135M
on two AMX cores 32 takes up to a fifth longer, 64 up to 5%; 256 is no different."""

MOST_ROWS = 128
"""Rows of one forward: each needs memory as long as what is before it, and more rows are hardly faster."""

KIN_SYMBOLS = 32
"""Groups of sequences that begin with this many equal symbols run in the same batch, if they fit."""


@dataclass(frozen=True, slots=True)
class Span:
    """Symbols in reading order, of which those from `first` on are asked for; `first` is at least 1."""

    ids: tuple[int, ...]
    first: int

    @property
    def read(self) -> tuple[int, ...]:
        """What the model has to read: the last symbol is only asked for."""
        return self.ids[:-1]


@dataclass(slots=True, eq=False)
class Run:
    """One stretch of symbols, to be run once behind its parent's."""

    ids: tuple[int, ...]
    start: int
    """Symbols before it."""
    parent: "Run | None"
    depth: int
    """Runs before it."""
    children: list["Run"] = field(default_factory=list)
    asks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By place in the run: which symbols are asked for behind it, and by which span."""
    row: int = -1
    """Row of the memory; -1 without one."""

    @property
    def end(self) -> int:
        """Symbols up to its end."""
        return self.start + len(self.ids)


def grow(spans: Sequence[Span]) -> list[Run]:
    """Return the runs that compute all that is asked of some spans, parents before their children."""
    order = sorted(range(len(spans)), key=lambda i: spans[i].read)
    reads = [spans[i].read for i in order]
    carriers = list(range(len(order)))
    for i in reversed(range(len(order) - 1)):  # a beginning of another sequence needs no run of its own
        if reads[i] == reads[i + 1][: len(reads[i])]:
            carriers[i] = carriers[i + 1]
    longest = [reads[i] for i in range(len(order)) if carriers[i] == i]
    runs, leaves = _branch(longest)
    leaf_of = dict(zip(sorted(set(carriers)), leaves, strict=True))
    for i, index in enumerate(order):
        _ask(leaf_of[carriers[i]], spans[index], index)
    return runs


def _branch(reads: Sequence[tuple[int, ...]]) -> tuple[list[Run], list[Run]]:
    """Return the runs of sorted sequences, none the beginning of another, and the last run of each sequence."""
    shared = [common_prefix(a, b) for a, b in pairwise(reads)]
    runs: list[Run] = []
    leaves: dict[int, Run] = {}
    todo: list[tuple[range, Run | None, int]] = [(range(len(reads)), None, WORTH_SHARING)]
    while todo:
        some, parent, least = todo.pop()
        start, depth = (parent.end, parent.depth + 1) if parent else (0, 0)
        for family in _families(shared, some, least):
            end = _common(shared, family) if len(family) > 1 else len(reads[family[0]])
            smaller = _families(shared, family, end + WORTH_SHARING)
            # Questions may begin with the same five words: better shared is each one's whole prompt.
            if sum((_common(shared, f) - start) * (len(f) - 1) for f in smaller) > (end - start) * (len(family) - 1):
                todo.append((family, parent, end + WORTH_SHARING))
                continue
            run = Run(reads[family[0]][start:end], start, parent, depth)
            runs.append(run)
            if parent:
                parent.children.append(run)
            if len(family) > 1:
                todo.append((family, run, end + WORTH_BRANCHING))
            else:
                leaves[family[0]] = run
    return runs, [leaves[i] for i in range(len(reads))]


def _families(shared: Sequence[int], some: range, least: int) -> list[range]:
    """Cut neighbours where they share less than `least`."""
    cuts = [some.start, *(i for i in some[1:] if shared[i - 1] < least), some.stop]
    return [range(first, last) for first, last in pairwise(cuts)]


def _common(shared: Sequence[int], family: range) -> int:
    """Count the symbols that all of a family begin with; 0 for a single one, which shares with nobody."""
    return min(shared[family.start : family.stop - 1], default=0)


def _ask(leaf: Run, span: Span, index: int) -> None:
    """Note at the runs up to a leaf what a span asks for behind each of its symbols."""
    run: Run | None = leaf
    while run is not None and run.end >= span.first:
        for at in range(max(span.first - 1, run.start), min(len(span.ids) - 1, run.end)):
            run.asks.setdefault(at - run.start, []).append((span.ids[at + 1], index))
        run = run.parent


def into_forwards(runs: Sequence[Run], most: int) -> list[list[Run]]:
    """Cut runs into forwards, in the order to run them, of similar lengths and at most `most` padded symbols.

    Gives every run its row of memory: one of its own if it has children, else one that the runs without children of
    each forward have in turn. -1 to all if none has children, for then no memory is needed.
    """
    by_depth: dict[int, dict[int, list[Run]]] = {}
    for run in runs:
        by_depth.setdefault(run.depth, {}).setdefault(len(run.ids), []).append(run)
    forwards = [forward for _, by_length in sorted(by_depth.items()) for forward in _cut(by_length, most)]
    parents = [run for forward in forwards for run in forward if run.children]
    for row, run in enumerate(parents):
        run.row = row
    for forward in forwards if parents else ():
        for row, run in enumerate((run for run in forward if not run.children), len(parents)):
            run.row = row
    return forwards


def _cut(by_length: Mapping[int, list[Run]], most: int) -> list[list[Run]]:
    """Cut the runs of one depth where padding costs more than another forward; the cheapest of all ways."""
    lengths = sorted(by_length, reverse=True)
    best: list[tuple[int, int]] = [(0, 0)]
    """By number of lengths: the least cost of all longer runs, and where their last cut is."""
    for last in range(1, len(lengths) + 1):
        options, rows = [], 0
        for first in reversed(range(last)):
            rows += len(by_length[lengths[first]])
            n_forwards = -(-rows // _most_rows(lengths[first], most))
            options.append((best[first][0] + rows * lengths[first] + FORWARD_COST * n_forwards, first))
        best.append(min(options))
    forwards: list[list[Run]] = []
    last = len(lengths)
    while last:
        first = best[last][1]
        together = [run for length in lengths[first:last] for run in by_length[length]]
        rows = _most_rows(lengths[first], most)
        forwards += [together[at : at + rows] for at in range(0, len(together), rows)]
        last = first
    return forwards


def _most_rows(length: int, most: int) -> int:
    return max(1, min(most // length, MOST_ROWS))


def group_neighbours(spans: Sequence[Span], most: int) -> list[list[int]]:
    """Put neighbours that share half of the shorter one together, up to `most` symbols: candidates of one question."""
    groups: list[list[int]] = []
    size = 0
    for i, span in enumerate(spans):
        before = spans[i - 1].read if i else ()
        shared = common_prefix(before, span.read)
        if shared >= max(WORTH_SHARING, min(len(before), len(span.read)) // 2) and size + len(span.ids) <= most:
            groups[-1].append(i)
        else:
            groups.append([i])
            size = 0
        size += len(span.ids)
    return groups


def plan_batches(
    spans: Sequence[Span], groups: Sequence[Sequence[int]], most: int, memory: int, at_once: int = 1
) -> list[list[int]]:
    """Cut groups of spans into batches, longest first, and those that begin alike side by side.

    A batch has about `most` symbols to compute and keeps at most `memory` in mind, rows times the longest; a group
    stays whole unless it exceeds that by itself. Where `at_once` of them run at a time, they are cut so that none of
    those waits for the last. The same groups give the same batches.
    """
    kin: dict[tuple[int, ...], int] = {}
    for group in groups:
        beginning = spans[group[0]].ids[:KIN_SYMBOLS]
        kin[beginning] = max(kin.get(beginning, 0), _longest(spans, group))

    def place(group: Sequence[int]) -> tuple[int, tuple[int, ...], int]:
        beginning = spans[group[0]].ids[:KIN_SYMBOLS]
        return -kin[beginning], beginning, -_longest(spans, group)

    ordered = sorted(groups, key=place)
    batches, costs = _plan(spans, ordered, most, memory)
    rounds = -(-len(batches) // at_once)
    share = -(-sum(costs) // max(1, rounds * at_once)) + sum(costs) // max(1, len(ordered))
    if share < most:
        even, even_costs = _plan(spans, ordered, share, memory)
        # What groups have in common is computed again in every batch: of a long few-shot prompt fewer are better.
        if _longest_wait(even_costs, at_once) < _longest_wait(costs, at_once):
            return even
    return batches


def _plan(
    spans: Sequence[Span], ordered: Sequence[Sequence[int]], most: int, memory: int
) -> tuple[list[list[int]], list[int]]:
    """Return the batches, and the symbols that each has to compute."""
    batches: list[list[int]] = []
    costs: list[int] = []
    longest = 0
    for group in ordered:
        for part in _parts(spans, group, memory):
            length = max(longest, _longest(spans, part))
            new = _cost(spans, part, batches[-1][-1] if batches else None)
            if not batches or costs[-1] + new > most or (len(batches[-1]) + len(part)) * length > memory:
                batches.append([])
                costs.append(0)
                length = _longest(spans, part)
                new = _cost(spans, part, None)
            batches[-1] += part
            costs[-1] += new
            longest = length
    return batches, costs


def _longest_wait(costs: Sequence[int], at_once: int) -> int:
    """Return the symbols that the busiest of `at_once` threads computes, each taking the next batch when it is free."""
    loads = [0] * at_once
    for cost in costs:
        loads[loads.index(min(loads))] += cost
    return max(loads)


def _longest(spans: Sequence[Span], group: Sequence[int]) -> int:
    return max(len(spans[i].ids) for i in group)


def _parts(spans: Sequence[Span], group: Sequence[int], memory: int) -> list[Sequence[int]]:
    """Cut a group that no memory holds."""
    rows = max(1, memory // _longest(spans, group))
    return [group[at : at + rows] for at in range(0, len(group), rows)]


def _cost(spans: Sequence[Span], group: Sequence[int], before: int | None) -> int:
    """Count the symbols that a group adds to a batch in which a span came before it."""
    reads = sorted(spans[i].read for i in group)
    known = 0 if before is None else common_prefix(spans[before].read, reads[0])
    cost = len(reads[0]) - (known if known >= WORTH_SHARING else 0)
    for first, second in pairwise(reads):
        shared = common_prefix(first, second)
        cost += len(second) - (shared if shared >= WORTH_SHARING else 0)
    return cost
