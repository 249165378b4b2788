"""Published results that a report compares an experiment with."""

from dataclasses import dataclass, field

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import find_spec_files, load_spec
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs import published_results

PUBLISHED_NOTE = (
    "Published figures may be those of the best epoch by target labels, which the authors' released script prints; "
    "ours are of the last epoch."
)


@dataclass(frozen=True)
class PublishedResults:
    """Published accuracies for one data set and encoder, as fractions; methods by display name."""

    pairs: dict[str, dict[str, float]] = field(default_factory=dict)  # pair -> method -> accuracy
    averages: dict[str, float] = field(default_factory=dict)  # method -> accuracy
    ablations: dict[str, float] = field(default_factory=dict)  # variant -> accuracy


def find_published(experiment: Experiment) -> PublishedResults:
    """Return the published results for an experiment's data set and encoder; empty if there are none.

    The papers used OpenAI's weights, so there are none for other weights.
    """
    model = experiment.model.removesuffix("-quickgelu")
    spec_path = find_spec_files().get(experiment.dataset)
    if spec_path is None or "_openai_" not in experiment.runs[0].spec.encoder_id:
        return PublishedResults()
    spec = load_spec(str(spec_path))
    try:
        rows = published_results.load_published_rows(f"{experiment.dataset}.{model}", spec)
    except InputError:  # nothing is published for this data set and encoder
        return PublishedResults()
    pairs: dict[str, dict[str, float]] = {}
    for row in rows:
        for pair in experiment.pairs:
            if pair in row.values:
                pairs.setdefault(pair, {})[row.label] = row.values[pair]
    has_ablation = {"office_home": "RN50", "visda2017": "RN101"}.get(experiment.dataset) == model
    ablation_rows = (
        published_results.load_published_rows(f"ablation.{experiment.dataset}", spec) if has_ablation else []
    )
    return PublishedResults(
        pairs,
        {row.label: row.average for row in rows},
        {row.label: row.average for row in ablation_rows},
    )
