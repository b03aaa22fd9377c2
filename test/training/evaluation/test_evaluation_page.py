"""The page holds tables and pictures and loads nothing; the gallery shows the worst first."""

from __future__ import annotations

import re

import numpy as np
from html_pages import check_page

from training.data.protocol import Part, RetrievalProtocol, within_frames
from training.evaluation.answers import answer
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.describers import PatchThumbnail
from training.evaluation.gallery import MOST_ERRORS, errors, successes
from training.evaluation.page import write_page
from training.evaluation.results import evaluate


def test_the_most_confident_error_comes_first(cache, write_images) -> None:
    database = write_images("map", [0, 1, 2, 3, 4])
    queries = write_images("query", [50, 1, 0, 4])  # 50 looks like nothing; 0 and 4 look exactly like another place
    protocol = RetrievalProtocol("p", "same frame", (Part(database, queries, within_frames(4, 5, 0)),))
    answers = answer(PatchThumbnail(), protocol, cache)
    wrong, right = errors(protocol, answers), successes(protocol, answers)
    assert (wrong.total, right.total) == (3, 1)
    similarity = [float(case.pictures[1].label.removeprefix("wrong, similarity ")) for case in wrong.cases]
    assert similarity == sorted(similarity, reverse=True)
    assert similarity[1] > 0.99 > similarity[2]
    assert wrong.cases[2].pictures[0].path == queries.paths[0]
    by_query = {case.pictures[0].path.name: case for case in wrong.cases}
    assert by_query["002.png"].pictures[1].path == database.paths[0]
    assert by_query["002.png"].pictures[2].path == database.paths[2]
    assert by_query["002.png"].pictures[2].label.startswith("the best right one: rank ")
    (case,) = right.cases
    assert [picture.path for picture in case.pictures] == [queries.paths[1], database.paths[1]]


def test_a_right_answer_is_shown_even_if_it_was_not_found(cache, write_images) -> None:
    database = write_images("map", range(23))
    queries = write_images("query", [0])
    ranking = answer(
        PatchThumbnail(), RetrievalProtocol("p", "", (Part(database, queries, (np.array([0]),)),)), cache
    ).found[0]
    unfound = np.setdiff1d(np.arange(23), ranking)
    assert len(unfound) == 3
    protocol = RetrievalProtocol("p", "", (Part(database, queries, (unfound,)),))
    (case,) = errors(protocol, answer(PatchThumbnail(), protocol, cache)).cases
    assert case.pictures[2].path == database.paths[unfound[1]]
    assert case.pictures[2].label == "a right one, not among the first 20"


def test_a_loop_that_is_none_is_an_error_and_one_of_two_passes_is_not(cache, write_images) -> None:
    database, queries = write_images("map", [0, 1]), write_images("query", [1])
    nowhere = (np.array([], np.int64),)
    two_passes = RetrievalProtocol("p", "", (Part(database, queries, nowhere),))
    assert errors(two_passes, answer(PatchThumbnail(), two_passes, cache)).total == 0
    loop = RetrievalProtocol("p", "", (Part(database, queries, nowhere, stop=np.array([2])),))
    (case,) = errors(loop, answer(PatchThumbnail(), loop, cache)).cases
    assert (case.pictures[2].label, case.pictures[2].path) == ("there is no right answer", None)
    borderline = RetrievalProtocol("p", "", (Part(database, queries, nowhere, np.array([2]), (np.array([1]),)),))
    assert errors(borderline, answer(PatchThumbnail(), borderline, cache)).total == 0


def test_the_page_is_whole_and_loads_nothing(tmp_path, cache, mean_colour, write_images) -> None:
    places = range(MOST_ERRORS + 6)
    database, queries = write_images("map", places), write_images("query", places[::-1])
    protocol = RetrievalProtocol(
        "<b>backwards</b>", "same & frame", (Part(database, queries, within_frames(30, 30, 0)),)
    )
    mean_colour.name = "<script>alert(1)</script>"
    evaluation = evaluate([mean_colour, PatchThumbnail()], protocol, cache, Bootstrap())
    queries.paths[0].unlink()  # a picture that has gone since leaves a gap
    write_page(tmp_path / "index.html", [evaluation], Bootstrap(), "2025-01-02 03:04")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    check_page(html)
    assert "<b>backwards" not in html
    assert "same &amp; frame" in html
    assert html.count("data:image/jpeg;base64,") > 2 * 3 * (MOST_ERRORS - 1)
    assert '<div class="none small"></div>' in html
    assert re.search(rf"\d+,\s+{MOST_ERRORS} shown, the most confident first", html)
    assert 'aria-label="Recall over the number of answers"' in html
    for cell in evaluation.results[1].scores[0].recall.value[[0, 4]]:
        assert f"{cell:.3f}".replace("0.", ".") in html
