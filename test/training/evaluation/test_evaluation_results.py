"""The numbers of small worlds, counted by hand."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from small_worlds import texture

from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.describers import PatchThumbnail
from training.evaluation.results import evaluate
from training.evaluation.tables import counts, footnotes, gain_table, score_table


def pass_twice(write_images, order, *, tolerance=0, **known) -> RetrievalProtocol:
    database, queries = write_images("map", range(len(order))), write_images("query", order, **known)
    positives = within_frames(len(order), len(order), tolerance)
    return RetrievalProtocol("two passes", f"+-{tolerance} images", (Part(database, queries, positives),))


@pytest.mark.parametrize(("tolerance", "share"), [(0, 0.5), (1, 0.75)])
def test_recall_of_two_passes(tolerance, share, cache, write_images) -> None:
    order = [0, 1, 2, 3, 7, 6, 5, 4]  # 5 for 6 and 6 for 5 are near enough with a tolerance of 1
    protocol = pass_twice(write_images, order, tolerance=tolerance)
    (result,) = evaluate([PatchThumbnail()], protocol, cache, Bootstrap()).results
    (score,) = result.scores
    assert (score.group, score.queries, score.counted, score.best_match) == ("all", 8, 8, None)
    assert score.recall.value[0] == share
    assert score.recall.value[7] == 1.0
    assert score.recall.units == "1 blocks of 8 images"
    assert np.isnan(score.recall.low).all()


def test_rows_per_condition(cache, write_images) -> None:
    conditions = ["night", "night", "", "day", "day", "day"]
    protocol = pass_twice(write_images, [0, 5, 2, 3, 4, 1], conditions=conditions)
    (result,) = evaluate([PatchThumbnail()], protocol, cache, Bootstrap()).results
    shares = {score.group: (score.counted, score.recall.value[0]) for score in result.scores}
    assert shares == {
        "all": (6, pytest.approx(4 / 6)),
        "condition unknown": (1, 1.0),
        "day": (3, pytest.approx(2 / 3)),
        "night": (2, 0.5),
    }


def test_rows_name_the_condition_of_the_database_if_it_has_one(cache, write_images) -> None:
    database = write_images("map", [0, 1], conditions=["summer", "summer"])
    queries = write_images("query", [0, 1], conditions=["winter", "fall"])
    protocol = RetrievalProtocol("seasons", "same frame", (Part(database, queries, within_frames(2, 2, 0)),))
    evaluation = evaluate([PatchThumbnail()], protocol, cache, Bootstrap())
    assert [score.group for score in evaluation.results[0].scores] == ["all", "summer → fall", "summer → winter"]
    table = score_table(evaluation)
    assert table.header[:3] == ("model", "of", "asked")
    assert [row[1:3] for row in table.rows] == [("all", "2"), ("summer → fall", "1"), ("summer → winter", "1")]


def test_parts_are_pooled_and_shown(cache, write_images) -> None:
    parts = []
    for city, order in (("sf", [0, 1, 2]), ("cph", [3])):
        database, queries = write_images(f"{city} map", order), write_images(city, order[::-1])
        parts.append(Part(database, queries, within_frames(len(order), len(order), 0)))
    (result,) = evaluate(
        [PatchThumbnail()], RetrievalProtocol("cities", "same", tuple(parts)), cache, Bootstrap()
    ).results
    assert [(score.group, score.counted) for score in result.scores] == [("all", 4), ("cph", 1), ("sf", 3)]
    assert [score.recall.value[0] for score in result.scores] == [0.5, 1.0, pytest.approx(1 / 3)]


def test_sequences_are_the_units(cache, write_images) -> None:
    drives = [f"drive {i // 2}" for i in range(12)]
    protocol = pass_twice(write_images, [1, 0, *range(2, 12)], sequences=drives)
    (result,) = evaluate([PatchThumbnail()], protocol, cache, Bootstrap()).results
    recall = result.scores[0].recall
    assert recall.units == "6 sequences"
    assert recall.value[0] == pytest.approx(10 / 12)
    assert recall.low[0] == pytest.approx(0.5)
    assert recall.high[0] == 1.0


def loop(write_images) -> RetrievalProtocol:
    """0 1 2 3, then again 0 (asked for), 1 (borderline), 2 (asked for, but looks like 3 from afar), 9 (new)."""
    drive = write_images("drive", [0, 1, 2, 3, 0, 1, 8, 9])
    looks_like_three = cv2.addWeighted(texture(3, 80, 60), 0.7, texture(8, 80, 60), 0.3, 0)
    cv2.imwrite(str(drive.paths[6]), looks_like_three)
    asking = np.arange(4, 8)
    positives = tuple(np.array(right, np.int64) for right in ([0], [], [2], []))
    borderline = tuple(np.array(right, np.int64) for right in ([], [1], [], []))
    return RetrievalProtocol("loop", "by hand", (Part(drive, drive.take(asking), positives, asking - 1, borderline),))


def test_loop_closure_has_the_curve_of_the_best_match(cache, write_images) -> None:
    evaluation = evaluate([PatchThumbnail()], loop(write_images), cache, Bootstrap())
    (score,) = evaluation.results[0].scores
    assert (score.queries, score.counted) == (4, 2)
    assert score.recall.value[0] == 0.5
    # retrieved in this order: 0 (right, similarity 1), then two wrong ones; the borderline 1 counts neither way
    assert score.best_match.precision.tolist() == [1, 1 / 2, 1 / 3]
    assert score.best_match.max_recall_at_full_precision == 0.5
    assert score.best_match.average_precision == 0.5
    assert score_table(evaluation).header[-3:-1] == ("AP", "max recall at 100 % precision")
    assert any("AP, max recall at 100 % precision" in note for note in footnotes([evaluation], Bootstrap()))


def test_the_second_model_is_compared_with_the_first(cache, mean_colour, write_images) -> None:
    order = [0, 1, 2, 3, 4, 5]
    protocol = pass_twice(write_images, order, sequences=[str(i) for i in order])
    mean_colour.describe = lambda images: np.tile(np.eye(1, 4, dtype=np.float32), (len(images), 1))  # all alike
    evaluation = evaluate([PatchThumbnail(), mean_colour], protocol, cache, Bootstrap())
    (gain,) = evaluation.gains
    first, second = (result.scores[0].recall.value for result in evaluation.results)
    np.testing.assert_allclose(gain.value, second - first)
    assert first[0] == 1
    assert -1 < gain.value[0] < 0
    assert gain.low[0] <= gain.value[0] <= gain.high[0]
    (row,) = gain_table(evaluation).rows
    assert row[0] == "mean colour"
    assert row[1].startswith(f"-{-gain.value[0]:.3f}".replace("0.", ".") + " [-")
    assert row[-1] == gain.units == "6 sequences"


def test_json_is_strict_and_whole(cache, mean_colour, write_images) -> None:
    evaluation = evaluate([PatchThumbnail(), mean_colour], pass_twice(write_images, [0, None, 2]), cache, Bootstrap())
    read = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert (read["protocol"], read["rule"], read["queries"], read["database"]) == ("two passes", "+-0 images", 3, 3)
    thumbnail = read["models"][0]
    assert thumbnail["id"] == PatchThumbnail().id
    assert [path.endswith("query/001.png") for path in thumbnail["unreadable"]] == [True]
    assert thumbnail["scores"][0]["counted"] == 2
    assert thumbnail["scores"][0]["recall"]["recall"][0] == 1.0
    assert thumbnail["scores"][0]["recall"]["low"][0] is None
    assert (read["gains"][0]["model"], read["gains"][0]["over"]) == ("mean colour", PatchThumbnail().name)


def test_unreadable_images_are_said(cache, write_images) -> None:
    protocol = pass_twice(write_images, [0, None, None, None, None, 5])
    sentence = counts(evaluate([PatchThumbnail()], protocol, cache, Bootstrap()))
    assert sentence.startswith(
        "6 queries, 2 of them with a right answer; 6 database images; left out: 4 images that cannot"
    )
    assert sentence.count("query/00") == 3
    assert sentence.endswith(", ...)")


def test_without_any_right_answer_there_is_no_share(cache, mean_colour, write_images) -> None:
    database, queries = write_images("map", [0]), write_images("query", [1])
    protocol = RetrievalProtocol("nothing", "never", (Part(database, queries, (np.array([], np.int64),)),))
    evaluation = evaluate([PatchThumbnail(), mean_colour], protocol, cache, Bootstrap())
    assert evaluation.gains == (None,)
    assert evaluation.results[0].scores[0].recall is None
    assert score_table(evaluation).rows[0][1:] == ("0", "–", "–", "–", "–", "–", "–")
    assert gain_table(evaluation).rows[0][1:] == ("–",) * 5
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_a_table_lines_up(cache, write_images) -> None:
    drives = [f"drive {i // 2}" for i in range(12)]
    protocol = pass_twice(write_images, [1, 0, *range(2, 12)], sequences=drives)
    header, row = score_table(evaluate([PatchThumbnail()], protocol, cache, Bootstrap())).text().splitlines()
    assert header.index("recall@1") == row.index(".833 [.500,\u00a01.000]")
    assert header.index("95 % CI over") == row.index("6 sequences")
    assert row[header.index("recall@20") :].startswith("1.000 ")
