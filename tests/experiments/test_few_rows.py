"""The warning before UniMoS trains on few rows a class."""

from types import SimpleNamespace

from factories.runs import run_spec
from factories.tasks import random_task

from unimos_pipe.experiments.few_rows import few_rows_warning
from unimos_pipe.training.batched_training import PlannedRun


class Loader:
    """In the place of a loader: tasks of five classes by the source's name."""

    def __init__(self, **rows: int):
        self.rows = rows

    def pair(self, source, *args, **options):
        pair = SimpleNamespace(task=random_task(source=self.rows[source]))
        pair.without_taught_labels = lambda: pair
        return pair


def plan(source: str, seed: int = 0) -> PlannedRun:
    return PlannedRun(run_spec(source=source, target="t", seed=seed), None)


def test_a_source_of_at_most_five_rows_a_class_is_named_once():
    loader = Loader(few=25, fewer=10, enough=26)
    plans = [plan("few"), plan("few", seed=1), plan("fewer"), plan("enough")]
    assert few_rows_warning([plan("enough")], loader) is None
    assert few_rows_warning(plans, loader).startswith("few labelled images per class: few (5.0), fewer (2.0); with ")
