"""A review's decisions are in the label file at once; undo, other writers and scores."""

import pytest
from factories.photo_runs import write_photo_run

from unimos_pipe.base.errors import InputError
from unimos_pipe.photos.label_sample import is_like_random
from unimos_pipe.photos.review_session import Decision, ReviewSession
from unimos_pipe.photos.run_photos import load_run_photos

ROWS = [("a.png", "cat", 0.9), ("b.png", "dog", 0.4), ("c.png", "a/b", 0.7), ("d.png", "cat", 0.6)]


@pytest.fixture
def made(tmp_path):
    return write_photo_run(tmp_path, ROWS, branches={"b.png": ("dog", "cat")})


def test_decisions_undo_and_scores(made):
    session = ReviewSession(load_run_photos(made.run))
    table = session.table()
    assert table["classes"] == ["cat", "dog", "a/b"] and table["predicted"] == [0, 1, 2, 0]
    assert table["labels"] == [None] * 4 and table["differ"] == [False, True, False, False]
    assert table["place"] == [0, 1, 2, 3] and not table["reordered"]
    lines = made.labels.path.read_text().splitlines(keepends=True)
    made.labels.path.write_text("".join([lines[0], lines[3], *lines[1:3], lines[4]]))
    assert session.table()["place"] == [1, 2, 0, 3] and session.table()["reordered"]
    assert session.scores().accuracy is None and session.undo() is None
    assert session.decide(1, "cat") == Decision(1, "", "cat")
    session.decide(0, "cat")
    session.decide(2, "(unknown)")
    assert made.labels.read() == {"a.png": "cat", "b.png": "cat", "c.png": "(unknown)", "d.png": ""}
    scores = session.scores()
    assert (scores.photos, scores.labelled, scores.correct) == (4, 3, 1)
    assert (round(scores.low, 3), round(scores.high, 3)) == (0.061, 0.792)  # Wilson, 1 of 3
    assert session.undo() == Decision(2, "(unknown)", "") and session.decisions == 2
    assert made.labels.read()["c.png"] == "" and session.table()["labels"] == [0, 0, None, None]
    assert session.changes_since(2) == (4, {2: ""})


def test_what_another_program_writes_is_taken_in_and_not_undone(made):
    session = ReviewSession(load_run_photos(made.run))
    session.decide(1, "cat")
    session.decide(0, "dog")
    made.labels.set({"a.png": "cat", "d.png": "dog"})
    version, labels = session.changes_since(2)
    assert (version, labels) == (4, {0: "cat", 3: "dog"})
    assert session.undo() == Decision(1, "cat", "")  # the last decision was replaced by another's
    assert made.labels.read() == {"a.png": "cat", "b.png": "", "c.png": "", "d.png": "dog"}


def test_what_cannot_be_labelled(made, tmp_path):
    session = ReviewSession(load_run_photos(made.run))
    with pytest.raises(InputError, match="no photo 4: expected 0 to 3"):
        session.decide(4, "cat")
    with pytest.raises(InputError, match="no class 'cow'"):
        session.decide(0, "cow")
    assert session.path(-1) is None and session.path(4) is None and session.decisions == 0
    made.spec.write_text(made.spec.read_text().replace('manifest = "my.phone.csv"\n', 'labels = "none"\n'))
    with pytest.raises(InputError) as caught:
        ReviewSession(load_run_photos(made.run))
    assert str(caught.value) == (
        f"the target phone of {made.run} has no label file: expected a CSV of paths and classes that the data set's "
        "spec names. Scan the photos, which writes both"
    )
    made.spec.unlink()
    with pytest.raises(InputError) as caught:
        load_run_photos(made.run, None, tmp_path)
    assert str(caught.value) == (
        f"the photos of {made.run} are not found: expected a spec file {made.spec} with their folder. "
        "Name the folder with root"
    )


def test_labels_that_are_no_random_choice_are_told():
    probabilities = [index / 100 for index in range(100)]  # mean 0.495, standard deviation 0.2887
    # of 25 rows drawn without replacement the mean has a standard error of 0.2887 * sqrt(75 / (25 * 99)) = 0.0503
    spread = [index % 4 == 0 for index in range(100)]  # mean 0.48
    lowest = [index < 25 for index in range(100)]  # mean 0.12
    assert is_like_random(probabilities, spread) and not is_like_random(probabilities, lowest)
    moved = [index in range(25, 50) for index in range(100)]  # mean 0.37, 2.5 standard errors below
    assert is_like_random(probabilities, moved)
    # of 50 rows 0.0290; without the correction for a finite number of photos it were 0.0408
    assert not is_like_random(probabilities, [index in range(35, 85) for index in range(100)])  # mean 0.595
    assert is_like_random(probabilities, [True] * 100) and is_like_random([0.5] * 3, [True, False, False])
    assert is_like_random([], [])
