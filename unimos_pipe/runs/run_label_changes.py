"""Labels of a run's target that were changed in the CSV of its data set since the run was made."""

from pathlib import Path

from unimos_pipe.base.errors import UnimosPipeError
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.label_file import label_file
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.write_run import LABEL_COLUMN


def describe_run_label_changes(run: FinishedRun) -> str | None:
    """Return a line about labels that were changed since a run was made; None if there are none or no CSV is known."""
    file, target = run.result.dataset_file, run.spec.target
    if file is None or not Path(file).is_file():
        return None
    try:
        spec = load_spec(file)
        if target not in spec.domains or not spec.domain(target).manifest:
            return None
        labels = label_file(spec, target)
        listed = labels.read()
    except UnimosPipeError:  # the commands that need the spec tell what is wrong with it
        return None
    seen = {row["path"]: row.get(LABEL_COLUMN) or "" for row in run.predictions}
    changed = sum(
        path in listed and listed[path] != label and (listed[path], label) != (UNKNOWN_CLASS, "")
        for path, label in seen.items()
    )
    if not changed:
        return None
    return (
        f"labels of {target} changed since {run.folder} was made: {changed} of {len(seen)} images have another class "
        f"in {labels.path}. Run extract, then adapt, to use them"
    )
