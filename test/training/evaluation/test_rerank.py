"""Re-ranking against a table of inliers, and on pictures of tilted walls."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_pages import check_page
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_worlds import texture

from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.evaluate import main
from training.evaluation.answers import Answers, answer
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.describers import PatchThumbnail
from training.evaluation.gallery import errors, successes
from training.evaluation.page import write_page
from training.evaluation.rerank import Reranker, open_reranker
from training.evaluation.results import evaluate
from training.evaluation.tables import footnotes, score_table
from vpr_ros.errors import ConfigError, ModelError
from vpr_ros.types import LocalFeatures, Verification

DATABASE, QUERIES = 12, 5


@dataclass
class Table:
    """A verifier that looks inliers up; an image is told by its grey value, and those extracted are remembered."""

    inliers: NDArray[np.int64]
    extracted: Counter[int] = field(default_factory=Counter)

    def extract(self, image: NDArray[np.uint8]) -> LocalFeatures:
        number = int(image[0, 0, 0])
        self.extracted[number] += 1
        return LocalFeatures(np.full((1, 2), number, np.float32), np.zeros((1, 1), np.uint8))

    def verify(self, query: LocalFeatures, _: object, match: LocalFeatures, __: object) -> Verification:
        if not len(query) or not len(match):
            return Verification(0, 0.0, 0.0)
        return Verification(int(self.inliers[int(query.points[0, 0]) - 100, int(match.points[0, 0])]), 0.0, 0.0)


def by(inliers: NDArray[np.int64], top: int) -> Reranker:
    return Reranker(f"table top {top}", "table 1", Table(inliers), top)


def grey_images(folder: Path, name: str, values: range) -> ImageSet:
    paths = [folder / f"{name}{value:03d}.png" for value in values]
    for path, value in zip(paths, values, strict=True):
        cv2.imwrite(str(path), np.full((4, 4, 3), value, np.uint8))
    return ImageSet.of(name, paths)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> RetrievalProtocol:
    """Database image i has the value i, query i the value 100 + i."""
    folder = tmp_path_factory.mktemp("greys")
    database = grey_images(folder, "map", range(DATABASE))
    queries = grey_images(folder, "query", range(100, 100 + QUERIES))
    return RetrievalProtocol("greys", "by hand", (Part(database, queries, within_frames(QUERIES, DATABASE, 1)),))


def some_rankings(rng: np.random.Generator, depth: int) -> NDArray[np.int64]:
    """Any order of the database for each query, of which the first `depth` are kept, or fewer."""
    found = np.stack([rng.permutation(DATABASE)[:depth] for _ in range(QUERIES)])
    found[np.arange(depth) >= rng.integers(0, depth + 1, QUERIES)[:, None]] = -1
    return found


def some_answers(rng: np.random.Generator, found: NDArray[np.int64]) -> Answers:
    """Query i asks i, all of the first part; what is right is chance."""
    return Answers(
        part=np.zeros(len(found), np.int64),
        query=np.arange(len(found)),
        found=found,
        similarity=np.where(found < 0, np.nan, -np.sort(-rng.random(found.shape), axis=1)).astype(np.float32),
        right=rng.random(found.shape) < 0.3,
        borderline=rng.random(found.shape) < 0.3,
        positives=np.ones(len(found), np.int64),
        is_read=(found >= 0).any(axis=1),
        unreadable=(),
    )


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), top=st.integers(1, 10), depth=st.integers(1, 8))
def test_the_top_is_ordered_by_inliers_and_the_rest_stays(
    greys: RetrievalProtocol, seed: int, top: int, depth: int
) -> None:
    rng = np.random.default_rng(seed)
    before = some_answers(rng, some_rankings(rng, depth))
    inliers = rng.integers(0, 4, (QUERIES, DATABASE))  # many are equal
    after = by(inliers, top).rerank(before, greys)
    for q in range(QUERIES):
        ranks = [rank for rank in range(min(top, depth)) if before.found[q, rank] >= 0]
        expected = sorted(ranks, key=lambda rank: -inliers[q, before.found[q, rank]])
        expected += [rank for rank in range(depth) if rank not in ranks]
        for name in ("found", "similarity", "right", "borderline"):
            np.testing.assert_array_equal(getattr(after, name)[q], getattr(before, name)[q, expected], err_msg=name)
        counted = inliers[q, before.found[q, expected[: len(ranks)]]]
        np.testing.assert_array_equal(after.inliers[q], [*counted, *[np.nan] * (depth - len(ranks))])
    for k in range(top, depth + 1):  # so recall@k is the same
        assert (after.right[:, :k].any(axis=1) == before.right[:, :k].any(axis=1)).all()


def test_each_image_is_extracted_once(greys: RetrievalProtocol) -> None:
    answers = some_answers(np.random.default_rng(0), np.tile(np.arange(DATABASE), (QUERIES, 1)))
    reranker = by(np.zeros((QUERIES, DATABASE), np.int64), top=3)
    reranker.rerank(answers, greys)
    assert reranker.verifier.extracted == Counter([*range(3), *range(100, 100 + QUERIES)])


def test_a_query_that_is_not_read_asks_nothing(greys: RetrievalProtocol) -> None:
    found = np.tile(np.arange(4), (QUERIES, 1))
    found[2] = -1
    reranker = by(np.ones((QUERIES, DATABASE), np.int64), top=4)
    after = reranker.rerank(some_answers(np.random.default_rng(0), found), greys)
    assert reranker.verifier.extracted[102] == 0
    assert np.isnan(after.inliers[2]).all()
    assert np.isnan(after.confidence).tolist() == [False, False, True, False, False]


def test_an_image_that_can_no_longer_be_read_is_last_and_said(tmp_path: Path, caplog) -> None:
    database, queries = grey_images(tmp_path, "map", range(3)), grey_images(tmp_path, "query", range(100, 101))
    protocol = RetrievalProtocol("gone", "by hand", (Part(database, queries, (np.array([0]),)),))
    answers = answer(Brightness(), protocol, NoCache())
    database.paths[answers.found[0, 0]].unlink()
    after = by(np.array([[5, 5, 5]]), top=3).rerank(answers, protocol)
    assert after.found[0, :3].tolist() == [*answers.found[0, 1:3], answers.found[0, 0]]
    assert after.inliers[0, :3].tolist() == [5, 5, 0]
    assert [record.message for record in caplog.records] == [
        f"no local features: {database.paths[answers.found[0, 0]]}: No such file or directory"
    ]


class Brightness:
    name = id = "brightness"

    def describe(self, images) -> NDArray[np.float32]:
        angles = [image.mean() / 255 for image in images]
        return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


class NoCache:
    def describe(self, describer, images: ImageSet) -> NDArray[np.float32]:
        return describer.describe([cv2.imread(str(path)) for path in images.paths])


def test_parts_are_looked_up_in_their_own_database(tmp_path: Path) -> None:
    here, there = grey_images(tmp_path, "here", range(3)), grey_images(tmp_path, "there", range(3, 6))
    asking = grey_images(tmp_path, "asking", range(100, 101))
    protocol = RetrievalProtocol(
        "two", "by hand", tuple(Part(images, asking, (np.array([0]),)) for images in (here, there))
    )
    after = by(np.array([[7, 8, 9, 1, 2, 3]]), top=3).rerank(answer(Brightness(), protocol, NoCache()), protocol)
    assert after.found[:, :3].tolist() == [[2, 1, 0], [2, 1, 0]]
    assert after.inliers[:, :3].tolist() == [[9, 8, 7], [3, 2, 1]]


def test_the_curve_of_the_best_match_falls_with_the_inliers(tmp_path: Path) -> None:
    """Three queries of a loop: a right answer with 90 inliers, a wrong one with 40, a right one with 30."""
    drive = grey_images(tmp_path, "drive", [0, 1, 2, 100, 101, 102])
    positives = tuple(np.array([i]) for i in range(3))
    part = Part(drive, drive.take([3, 4, 5]), positives, stop=np.full(3, 3))
    inliers = np.array([[90, 0, 0], [40, 20, 0], [0, 0, 30]])
    evaluation = evaluate(
        [Brightness()], RetrievalProtocol("loop", "by hand", (part,)), NoCache(), Bootstrap(), by(inliers, top=3)
    )
    _, reranked = evaluation.results
    curve = reranked.scores[0].best_match
    assert curve.thresholds.tolist() == [90, 40, 30]
    assert curve.precision.tolist() == [1, pytest.approx(1 / 2), pytest.approx(2 / 3)]
    assert curve.max_recall_at_full_precision == pytest.approx(1 / 3)
    assert any("some number of inliers" in note for note in footnotes([evaluation], Bootstrap()))
    wrong, right = (gallery(evaluation.protocol, reranked.answers).cases for gallery in (errors, successes))
    assert [case.pictures[1].label.split(", ")[-1] for case in (*wrong, *right)] == [
        "40 inliers", "30 inliers", "90 inliers"
    ]  # fmt: skip
    assert wrong[0].pictures[2].label.startswith("the best right one: rank 2, similarity ")
    assert wrong[0].pictures[2].label.endswith(", 20 inliers")


@pytest.fixture
def walls(tmp_path: Path) -> RetrievalProtocol:
    """Six textured walls in light of six colours, seen again from the side, in the light of the next."""
    light = np.array([[60, 0, 0], [0, 60, 0], [0, 0, 60], [60, 60, 0], [0, 60, 60], [60, 0, 60]], np.uint8)
    corners = np.array([[0, 0], [320, 0], [320, 240], [0, 240]], np.float32)
    aside = cv2.getPerspectiveTransform(
        corners, corners + np.array([[20, 8], [-6, 14], [-12, -9], [8, -4]], np.float32)
    )
    sets = {name: [tmp_path / name / f"{i}.png" for i in range(6)] for name in ("map", "query")}
    for name, paths in sets.items():
        paths[0].parent.mkdir()
        for i, path in enumerate(paths):
            wall = texture(i, 320, 240) // 4 * 3
            if name == "query":
                wall = cv2.warpPerspective(wall, aside, (320, 240), borderMode=cv2.BORDER_REFLECT)
            cv2.imwrite(str(path), wall + light[i if name == "map" else (i + 1) % 6])
    database, queries = (ImageSet.of(name, paths) for name, paths in sets.items())
    return RetrievalProtocol("walls", "same wall", (Part(database, queries, within_frames(6, 6, 0)),))


@pytest.mark.parametrize("features", ["sift", "orb"])
def test_the_right_wall_comes_first(walls: RetrievalProtocol, cache, mean_colour, features: str) -> None:
    evaluation = evaluate([mean_colour], walls, cache, Bootstrap(), open_reranker(features, 6))
    retrieved, reranked = evaluation.results
    assert retrieved.scores[0].recall.value[0] == 0
    assert reranked.scores[0].recall.value[0] == 1
    assert (reranked.answers.inliers[:, 0] > 20).all()
    np.testing.assert_allclose(
        evaluation.gains[0].value, reranked.scores[0].recall.value - retrieved.scores[0].recall.value
    )


def test_each_model_has_a_row_of_its_own_and_one_re_ranked(
    walls: RetrievalProtocol, cache, mean_colour, tmp_path: Path
) -> None:
    evaluation = evaluate([PatchThumbnail(), mean_colour], walls, cache, Bootstrap(), open_reranker("sift", 2))
    names = [PatchThumbnail().name, f"{PatchThumbnail().name} + sift top 2", "mean colour", "mean colour + sift top 2"]
    assert [row[0] for row in score_table(evaluation).rows] == names
    assert any(note.startswith("+ FEATURES top K: ") for note in footnotes([evaluation], Bootstrap()))
    read = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert [model["name"] for model in read["models"]] == names
    assert len({model["id"] for model in read["models"]}) == 4
    assert [(gain["model"], gain["over"]) for gain in read["gains"]] == [(name, names[0]) for name in names[1:]]
    write_page(tmp_path / "index.html", [evaluation], Bootstrap(), "2025-01-02 03:04")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    check_page(html)
    assert html.count("Pictures: mean colour + sift top 2") == 1
    assert " inliers<br>" in html
    assert not any(
        "FEATURES" in note for note in footnotes([evaluate([PatchThumbnail()], walls, cache, Bootstrap())], Bootstrap())
    )


def test_the_command_re_ranks(walls: RetrievalProtocol, tmp_path: Path, capsys) -> None:
    where = ["--on", f"aligned={tmp_path}/map,{tmp_path}/query,0", "--cache", str(tmp_path / "cache")]
    main(["thumbnail", *where, "--rerank", "sift", "--rerank-top", "6"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "+ sift top 6  6 " in line]
    assert "top 6  6      1.000 " in row


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="the first 21 answers cannot be re-ranked: only 20 are kept"):
        open_reranker("sift", 21)
    with pytest.raises(ModelError, match="cannot read local features surf: No such file or directory; built in are"):
        open_reranker("surf", 10)


def test_xfeat_from_the_other_side_of_a_path(shared_data: Path) -> None:
    """Three pictures, each asking the one from the other side and two from elsewhere, which rank before it."""
    sides = [
        ImageSet.of(name, [shared_data / "gardenspoint" / name / f"Image{i:03d}.jpg" for i in (0, 60, 120)])
        for name in ("day_left", "day_right")
    ]
    protocol = RetrievalProtocol("path", "same index", (Part(*sides, within_frames(3, 3, 0)),))
    found = np.array([[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    before = some_answers(np.random.default_rng(0), found)
    after = open_reranker(str(shared_data / "weights" / "xfeat.onnx"), 3).rerank(before, protocol)
    assert after.found[:, 0].tolist() == [0, 1, 2]
