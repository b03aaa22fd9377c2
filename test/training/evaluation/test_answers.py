"""Who may answer, who counts, and what is right."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.evaluation.answers import answer, is_among
from training.evaluation.describers import PatchThumbnail


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 6))
def test_is_among_is_membership(seed: int, q: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    found = rng.integers(-1, 10, (q, k))
    positives = tuple(np.unique(rng.integers(0, 12, rng.integers(0, 5))) for _ in range(q))
    for i, j in np.ndindex(q, k):
        assert is_among(found, positives)[i, j] == (found[i, j] in positives[i].tolist())


def one_part(database, queries, positives, **rest) -> RetrievalProtocol:
    return RetrievalProtocol("test", "by hand", (Part(database, queries, positives, **rest),))


def test_the_best_answer_is_the_same_texture(cache, write_images) -> None:
    database, queries = write_images("map", [4, 5, 6]), write_images("query", [6, 5, 4])
    answers = answer(PatchThumbnail(), one_part(database, queries, within_frames(3, 3, 0)), cache)
    assert answers.found[:, 0].tolist() == [2, 1, 0]
    assert answers.right[:, 0].tolist() == [False, True, False]
    assert answers.right.sum(axis=1).tolist() == [1, 1, 1]
    assert answers.found[:, 3:].max() == -1
    np.testing.assert_allclose(answers.similarity[:, 0], 1, atol=1e-5)
    assert answers.unreadable == ()


def test_images_that_cannot_be_read_neither_ask_nor_answer(cache, write_images) -> None:
    database, queries = write_images("map", [4, None, 6, 7]), write_images("query", [7, None, 6, 5])
    positives = tuple(np.array(right) for right in ([3], [2], [1, 2], [1]))
    answers = answer(PatchThumbnail(), one_part(database, queries, positives), cache)
    assert answers.found[:, 0].tolist()[:3] == [3, -1, 2]
    assert not (answers.found == 1).any()
    assert answers.right[:, 0].tolist() == [True, False, True, False]
    assert answers.positives.tolist() == [1, 1, 1, 0]
    assert answers.is_read.tolist() == [True, False, True, True]
    assert answers.counted.tolist() == [True, False, True, False]
    assert answers.unreadable == (database.paths[1], queries.paths[1])


def test_a_drive_asks_its_own_past_and_is_described_once(cache, mean_colour, write_images) -> None:
    drive = write_images("drive", [1, None, 2, 3, 1])
    asking = np.array([2, 3, 4])
    stop = np.array([0, 2, 3])
    part = one_part(drive, drive.take(asking), tuple(np.array(r, np.int64) for r in ([], [], [0])), stop=stop)
    answers = answer(mean_colour, part, cache)
    assert sum(mean_colour.described) == 4
    assert answers.found[0].max() == -1
    assert answers.found[1].tolist()[:2] == [0, -1]
    assert answers.found[2].tolist()[0] == 0
    assert sorted(answers.found[2].tolist()[:3]) == [-1, 0, 2]
    assert answers.right[:, 0].tolist() == [False, False, True]
    assert answers.wrong.tolist() == [False, True, False], "no answer is no error"
    assert answers.unreadable == (drive.paths[1],)


def test_a_borderline_answer_is_no_error(cache, write_images) -> None:
    database, queries = write_images("map", [4, 5, 6]), write_images("query", [4, 5])
    none = (np.array([], np.int64),) * 2
    borderline = (np.array([0]), np.array([0, 2]))
    answers = answer(PatchThumbnail(), one_part(database, queries, none, borderline=borderline), cache)
    assert answers.borderline[:, :3].sum(axis=1).tolist() == [1, 2]
    assert answers.borderline[:, 0].tolist() == [True, False]
    assert not answers.borderline[:, 3:].any()
    assert answers.wrong.tolist() == [False, True]
    assert not answer(PatchThumbnail(), one_part(database, queries, none), cache).borderline.any()


def test_parts_answer_from_their_own_database(cache, write_images) -> None:
    here, there = write_images("here", [4, 5]), write_images("there", [6, 4, 7])
    asking = write_images("asking", [4])
    right = (np.array([1]),)
    protocol = RetrievalProtocol("two cities", "by hand", (Part(here, asking, right), Part(there, asking, right)))
    answers = answer(PatchThumbnail(), protocol, cache)
    assert answers.part.tolist() == [0, 1]
    assert answers.query.tolist() == [0, 0]
    assert answers.found[:, 0].tolist() == [0, 1]
    assert answers.right[:, 0].tolist() == [False, True]
