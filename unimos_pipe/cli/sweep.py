"""``unimos-pipe sweep``: every run of a recipe, and its table."""

import sys
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command, Shard
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import compute_options, dry_run_option, recipe_options, runs_option, sweep_options
from unimos_pipe.cli.print_diagnostics import warn_of_changed_code
from unimos_pipe.runs.method_names import AUTO
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe


@click.command(cls=Command)
@recipe_options
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, if several match.")
@runs_option
@sweep_options
@click.option(
    "--shard",
    type=Shard(),
    help="Run only the K-th of N parts, for array jobs: all N may run at once on one folder. The same command without "
    "it then shows the whole table.",
)
@compute_options
@dry_run_option
@json_options
@click.pass_obj
def sweep(
    output: Output,
    resolved: ResolvedRecipe,
    runs_folder: Path,
    options: "unimos_pipe.SweepOptions",
    compute: ComputeConfig,
    dry_run: bool,
) -> None:
    """Run every pair, method, seed and variant of a recipe.

    Features come from the cache alone.

    \b
    RECIPE is a name or a .toml file. Examples:
      unimos-pipe sweep icons_ablation --dry-run
      unimos-pipe sweep pipelines/icons_ablation.toml

    Finished runs with the same options and features are kept; an interrupted sweep resumes
    from its last checkpoint.
    """
    if dry_run:
        plan = unimos_pipe.plan_sweep(resolved, None, runs_folder, options=options, compute=compute)
        print_json(output, plan, " --dry-run")
        show_plan(output, resolved, plan)
        suggest_next(output, "sweep", click.get_current_context().params["recipe"])
        return
    result = unimos_pipe.run_sweep(resolved, None, runs_folder, options=options, compute=compute, reporter=output)
    print_json(output, result)
    show_sweep(output, result)
    if result.failures:
        sys.exit(1)
    suggest_next(output, "report", result.folder)


def show_plan(output: Output, resolved: ResolvedRecipe, plan: "unimos_pipe.SweepPlan") -> None:
    """Print the planned work of a sweep with complete features, in one line."""
    fits = f"; {plan.fits} fits of other methods, a second or a few each" if plan.fits else ""
    changed = f" ({plan.changed} by other code)" if plan.changed else ""
    helpers = f" and {plan.calibration_runs} calibration runs" if plan.calibration_runs else ""
    output.result(
        f"{resolved.recipe.name}: {plan.runs} runs, {plan.finished} finished{changed}, {plan.stacks} stacks and "
        f"{plan.steps:,} steps to train{helpers}, about {plan.seconds / 60:.1f} minutes here{fits}"
    )


def show_sweep(output: Output, result: "unimos_pipe.SweepResult") -> None:
    """A sweep's table above the published figures, and what became of its runs."""
    if result.rows:
        figure = "target accuracy" if result.metric == "accuracy" else "mean of per-class target accuracies"
        head = f"{result.title}: {figure} in %, last epoch unless named otherwise, {result.protocol}"
        _show_rows(output, head, [*result.rows, *result.published], result.pairs)
        _show_auto(output, result)
    for target, (labelled, rows) in result.partly_labelled.items():
        output.note(f"accuracies on {target} are those of {labelled} labelled of {rows} rows")
    for run in result.failures:
        output.warn(f"{run.folder}: {run.error}")
    warn_of_changed_code(output, result.runs)
    failed, kept = len(result.failures), sum(run.reused for run in result.runs)
    trained = len(result.runs) - kept - failed
    output.note(f"{trained} run(s) trained, {kept} kept, {failed} failed, in {result.folder}")


def _show_auto(output: Output, result: "unimos_pipe.SweepResult") -> None:
    """Print auto's regret and the error of its accuracy estimates."""
    if regret := result.regret(AUTO):
        off = result.row(AUTO).estimate_mae
        estimates = "no accuracy could be estimated" if off is None else f"estimates {100 * off:.1f} points off"
        output.result(
            f"auto: mean regret {100 * regret[0]:.1f} points against the best row of each pair, at most "
            f"{100 * regret[1]:.1f}; {estimates}"
        )


def _show_rows(output: Output, title: str, rows: list, pairs: tuple[str, ...]) -> None:
    """Pairs in columns, as many at a time as the terminal is wide, then the average and the seconds a run took."""
    label_width = max(len(row.label) for row in rows)
    cells = max(len(row.format_pair(pair)) for row in rows for pair in pairs)
    column = max(cells, *(len(pair) for pair in pairs)) + 3
    per_block = max(1, (output.out.width - label_width - 4) // column)
    columns = [*pairs, "average", "s a run"]
    last = {
        "average": lambda row: row.format_average(pairs),
        "s a run": lambda row: "-" if row.seconds is None else f"{row.seconds:.1f}",
    }
    for start in range(0, len(columns), per_block):
        block = columns[start : start + per_block]
        body = [
            [row.label, *(last[name](row) if name in last else row.format_pair(name) for name in block)] for row in rows
        ]
        output.table(title if start == 0 else "", ["", *block], body)
