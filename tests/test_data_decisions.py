"""A decision over the whole corpus is the straightforward one, byte for byte, and holds what it says and no more."""

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from smidgen.data.cleaning import boilerplate, diversity, exact, minhash
from smidgen.data.cleaning.boilerplate import Boilerplate, BoilerplateConfig
from smidgen.data.cleaning.diversity import Diversity, DiversityConfig, nearest, shared_evenly
from smidgen.data.cleaning.exact import ExactConfig, ExactDocuments, ExactParts
from smidgen.data.cleaning.minhash import Near, NearConfig, agreement
from smidgen.data.cleaning.step import Columns, CorpusStep, rows_of
from smidgen.data.cleaning.words import spread
from smidgen.data.pipeline.parts import StoredTable, read_columns, write_columns
from smidgen.errors import DataError

Made = tuple[CorpusStep, Sequence[Columns]]


def _hashes(draw: np.random.Generator, count: int, different: int) -> np.ndarray:
    """Hashes of which many come again, from both ends of what 64 bits hold."""
    return spread(draw.integers(0, different, count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _keys(draw: np.random.Generator, count: int) -> np.ndarray:
    return draw.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2)


def _cut(draw: np.random.Generator, count: int) -> list[slice]:
    edges = np.sort(draw.integers(0, count + 1, 6))
    return [slice(a, b) for a, b in zip([0, *edges], [*edges, count], strict=True)]


def _sorted_by(name: str, table: Columns) -> Columns:
    order = np.argsort(table[name], kind="stable")
    return {column: values[order] for column, values in table.items()}


def near(draw: np.random.Generator, count: int = 3000) -> Made:
    """Copies of copies: minima of which some differ, bands of which some meet by accident."""
    step = Near(NearConfig())
    minima = draw.integers(0, 256, (count, step.banding.hashes)).astype(np.uint8)
    for one, of in zip(draw.integers(1, count, count // 2), draw.random(count // 2), strict=True):
        minima[one] = minima[int(one * of)]
        minima[one, : draw.integers(0, 30)] = draw.integers(0, 256)
    bands = minima[:, :: step.banding.rows].astype(np.uint32) % 50 * np.uint32(83_000_000)
    key = _keys(draw, count)
    tables = [
        {"key": key[c], "bands": np.ascontiguousarray(bands[c].T), "minima": minima[c]} for c in _cut(draw, count)
    ]
    return step, list(tables)


def documents(draw: np.random.Generator, count: int = 3000) -> Made:
    """Some the same, some that share half of their digest only."""
    key, low, high = _keys(draw, count), _hashes(draw, count, 2 * count), draw.integers(0, 2, count, dtype=np.uint64)
    tables = [_sorted_by("low", {"key": key[c], "low": low[c], "high": high[c]}) for c in _cut(draw, count)]
    return ExactDocuments(ExactConfig()), tables


def parts(draw: np.random.Generator, count: int = 3000) -> Made:
    """Lines of which some stand in hundreds of documents."""
    key, found = _keys(draw, count), _hashes(draw, count, count)
    found[draw.integers(0, count, count // 3)] = found[7]
    tables = [_sorted_by("hash", {"key": key[c], "hash": found[c]}) for c in _cut(draw, count)]
    return ExactParts(ExactConfig(unit="line")), tables


def lines(draw: np.random.Generator, count: int = 3000) -> Made:
    """Lines counted part by part."""
    tables = []
    for cut in _cut(draw, count):
        line = np.unique(_hashes(draw, cut.stop - cut.start, count // 4))
        tables.append({"line": line, "count": draw.integers(1, 9, len(line)).astype(np.uint32)})
    return Boilerplate(BoilerplateConfig()), tables


def subjects(draw: np.random.Generator, count: int = 3000) -> Made:
    """Documents about a few subjects."""
    points = draw.normal(size=(20, 64))[draw.integers(0, 20, count)] + draw.normal(size=(count, 64)) / 3
    table = {
        "key": _keys(draw, count),
        "bytes": draw.integers(100, 9000, count, dtype=np.uint64),
        "projection": points.astype(np.float16),
    }
    tables = [{name: values[cut] for name, values in table.items()} for cut in _cut(draw, count)]
    return Diversity(DiversityConfig(max_bytes=count * 1500, clusters=12)), tables


def _whole(tables: Sequence[Columns]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([t[name] for t in tables], axis=int(name == "bands")) for name in tables[0]}


def _first_of(groups: list[np.ndarray]) -> dict[int, int]:
    return {int(member): int(group.min()) for group in groups for member in group}


def straight_near(step: Near, all_: dict[str, np.ndarray]) -> Columns:
    """Clusters by lists: every pair that follows another in a group of a band, or its first, and is close."""
    cluster = {n: [n] for n in range(len(all_["key"]))}
    for band in all_["bands"]:
        for value in np.unique(band):
            members = np.flatnonzero(band == value)
            pairs = {*pairwise(members), *((members[0], member) for member in members[1:])}
            for one, other in pairs:
                close = agreement(all_["minima"], np.array([one]), np.array([other]))[0] >= step.confirmed_from
                if close and cluster[one] is not cluster[other]:
                    cluster[one] += cluster[other]
                    for member in cluster[other]:
                        cluster[member] = cluster[one]
    pairs = sorted((all_["key"][n], all_["key"][min(c)]) for n, c in cluster.items() if n != min(c))
    return {"key": np.array([p[0] for p in pairs], np.uint64), "of": np.array([p[1] for p in pairs], np.uint64)}


def straight_documents(step: ExactDocuments, all_: dict[str, np.ndarray]) -> Columns:
    """The first of each digest by a mapping."""
    first: dict[tuple[int, int], int] = {}
    pairs = []
    for key, low, high in zip(*(column.tolist() for column in all_.values()), strict=True):
        if first.setdefault((low, high), key) != key:
            pairs.append((key, first[low, high]))
    told = np.array(sorted(pairs), np.uint64).reshape(-1, 2)
    return {"key": told[:, 0], "of": told[:, 1]}


def straight_parts(step: ExactParts, all_: dict[str, np.ndarray]) -> Columns:
    """The first owner of each hash that comes twice."""
    value, at, times = np.unique(all_["hash"], return_index=True, return_counts=True)
    return {"hash": value[times > 1], "owner": all_["key"][at[times > 1]]}


def straight_lines(step: Boilerplate, all_: dict[str, np.ndarray]) -> Columns:
    """All lines counted at once."""
    line, place = np.unique(all_["line"], return_inverse=True)
    count = np.bincount(place, all_["count"], len(line)).astype(np.int64)
    often = count >= step.config.min_documents
    return {"line": line[often], "count": count[often]}


def straight_subjects(step: Diversity, all_: dict[str, np.ndarray]) -> Columns:
    """Everything in memory, all clusters in one sorting."""
    config, points = step.config, all_["projection"]
    points = points - points.mean(axis=0, dtype=np.float32).astype(np.float16)
    generator = np.random.default_rng(config.seed)
    sample = points[generator.permutation(len(points))[: diversity._TRAINED_ON]].astype(np.float32)
    cluster = nearest(points, diversity.centres(sample, config.clusters, generator))
    order = np.lexsort((spread(all_["key"] ^ np.uint64(config.seed)), cluster))
    sizes = all_["bytes"][order].astype(np.int64)
    total = np.bincount(cluster, all_["bytes"].astype(np.float64), config.clusters).astype(np.int64)
    before = np.cumsum(sizes) - sizes
    before -= np.repeat(np.cumsum(total) - total, np.bincount(cluster, minlength=config.clusters))
    dropped = order[before >= shared_evenly(total, config.max_bytes)[cluster[order]]]
    dropped = dropped[np.argsort(all_["key"][dropped])]
    return {"key": all_["key"][dropped], "cluster": cluster[dropped].astype(np.int32)}


MADE: dict[Callable[..., Made], Callable[..., Columns]] = {
    near: straight_near,
    documents: straight_documents,
    parts: straight_parts,
    lines: straight_lines,
    subjects: straight_subjects,
}


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("at_once", [None, 100])
def test_a_decision_is_the_straightforward_one_to_the_byte(
    make: Callable[..., Made], at_once: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at_once:
        for room, name in ((minhash, "_PAIRS"), (exact, "AT_ONCE"), (boilerplate, "_AT_ONCE")):
            monkeypatch.setattr(room, name, at_once)
    count = 800 if make is near else 20_000
    step, tables = make(np.random.default_rng(5), count)
    expected = MADE[make](step, _whole(tables))
    for number, table in enumerate(tables):
        write_columns(tmp_path / f"{number}.npz", table)
    stored = [StoredTable(tmp_path / f"{number}.npz") for number in range(len(tables))]
    assert sum(table.rows for table in stored) == sum(map(rows_of, tables))
    for found in (step.decide(tables), step.decide(stored)):
        assert found.keys() == expected.keys()
        assert len(next(iter(expected.values()))) > 20
        for name, column in expected.items():
            assert found[name].dtype == column.dtype
            assert found[name].tobytes() == column.tobytes()


def test_a_table_on_disk_reads_as_it_was_written_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    table = {
        "key": np.arange(5, dtype=np.uint64),
        "none": np.zeros((3, 0), np.uint32),
        "minima": np.eye(5, 7, dtype="u1"),
    }
    write_columns(tmp_path / "t.npz", table)
    stored, read = StoredTable(tmp_path / "t.npz"), read_columns(tmp_path / "t.npz")
    for name, column in table.items():
        assert stored[name].dtype == column.dtype
        np.testing.assert_array_equal(stored[name], column)
        np.testing.assert_array_equal(read[name], column)
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:-40])
    for opened in (StoredTable, read_columns):
        with pytest.raises(DataError, match="is damaged"):
            opened(tmp_path / "t.npz")


@pytest.mark.parametrize("make", [near, documents, parts, lines, subjects], ids=lambda make: make.__name__)
def test_a_decision_holds_no_more_than_it_says(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name in ((minhash, "_PAIRS"), (exact, "AT_ONCE"), (boilerplate, "_AT_ONCE"), (diversity, "_TRAINED_ON")):
        monkeypatch.setattr(room, name, 1 << 14)
    peaks, said = [], []
    for count in (100_000, 200_000):
        step, tables = _sparse(make, count)
        for number, table in enumerate(tables):
            write_columns(tmp_path / f"{number}.npz", table)
        stored = [StoredTable(tmp_path / f"{number}.npz") for number in range(len(tables))]
        said.append(step.held(sum(map(rows_of, tables))))
        del tables
        tracemalloc.start()
        step.decide(stored)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] <= 1.05 * (said[1] - said[0]) + (1 << 19)
    assert peaks[1] <= said[1] + (4 << 20)


def _sparse(make: Callable[..., Made], count: int) -> Made:
    """Tables of a corpus in which few are the same."""
    draw = np.random.default_rng(3)
    if make is near:
        step = Near(NearConfig())
        bands = draw.integers(0, 1 << 32, (step.banding.bands, count), dtype=np.uint32)
        bands[:, : count // 20] = bands[:, count // 2 : count // 2 + count // 20]
        minima = draw.integers(0, 256, (count, step.banding.hashes), dtype=np.uint8)
        minima[: count // 20] = minima[count // 2 : count // 2 + count // 20]
        key, step_rows = _keys(draw, count), range(0, count, 5000)
        return step, [
            {"key": key[n : n + 5000], "bands": np.array(bands[:, n : n + 5000]), "minima": minima[n : n + 5000]}
            for n in step_rows
        ]
    step, tables = make(draw, count)
    whole = _whole(tables)
    if make is lines:
        whole = {"line": _hashes(draw, count, 1 << 60), "count": np.ones(count, np.uint32)}
    name = {documents: "low", parts: "hash", lines: "line"}.get(make, "key")
    if make in (documents, parts):
        whole[name] = _hashes(draw, count, 1 << 60)
        whole[name][: count // 20] = whole[name][count // 2 : count // 2 + count // 20]
    pieces = [{column: values[n : n + 5000] for column, values in whole.items()} for n in range(0, count, 5000)]
    return step, [_sorted_by(name, piece) for piece in pieces]
