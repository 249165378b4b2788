"""``unimos-pipe run``: a recipe from images to its report, both stages."""

import sys
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.optional_deps import install_command
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.compose_commands import command_line, join_command
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import (
    data_root_option,
    device_option,
    dry_run_option,
    option_group,
    recipe_options,
    runs_option,
    strict_counts_option,
    sweep_options,
)
from unimos_pipe.cli.report import show_report
from unimos_pipe.cli.sweep import show_plan, show_sweep
from unimos_pipe.data.expected_layout import expected_layout
from unimos_pipe.runs.method_names import answers_new_rows
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe


def _reading(strict_counts: bool, workers: int) -> "unimos_pipe.ExtractOptions":
    return unimos_pipe.ExtractOptions(workers=workers, strict_counts=strict_counts)


@click.command(cls=Command)
@recipe_options
@data_root_option
@option_group(
    "reading",
    _reading,
    strict_counts_option,
    click.option(
        "--workers", type=click.IntRange(0, 1024), default=2, show_default=True, help="Processes that decode images."
    ),
)
@device_option
@runs_option
@sweep_options
@dry_run_option
@json_options
@click.pass_obj
def run(
    output: Output,
    resolved: ResolvedRecipe,
    data_root: Path | None,
    reading: "unimos_pipe.ExtractOptions",
    device: str,
    runs_folder: Path,
    options: "unimos_pipe.SweepOptions",
    dry_run: bool,
) -> None:
    """Run a recipe from images to its report.

    Encodes missing features, trains the runs, and writes the page.

    \b
    RECIPE is a name or a .toml file. Examples:
      unimos-pipe run office_home_rn50 --dry-run
      unimos-pipe run office_home_rn50 --data-root ~/OfficeHome

    Finished work is kept, so an interrupted command resumes. Complete features need neither images nor weights.
    """
    compute = ComputeConfig(device)
    if dry_run:
        _plan(output, resolved, data_root, runs_folder, options, compute)
        return
    result = unimos_pipe.run_recipe(
        resolved,
        data_root,
        runs_folder,
        options=options,
        reading=reading,
        compute=compute,
        reporter=output,
        on_sweep=lambda sweep: show_sweep(output, sweep),
        format_call=command_line,
    )
    print_json(output, result)
    if result.sweep.failures:
        sys.exit(1)
    if result.report is None:
        folder = result.sweep.folder
        output.note(f"for a report: {install_command('report')}, then {join_command('report', folder)}")
    else:
        show_report(output, result.report)
        answering = [run.folder for run in result.sweep.runs if answers_new_rows(run.spec.method)]
        if answering:
            suggest_next(output, "predict", "--run", answering[0], "--images", "DIR", "-o", "answers.csv")


def _plan(
    output: Output,
    resolved: ResolvedRecipe,
    data_root: Path | None,
    runs_folder: Path,
    options: "unimos_pipe.SweepOptions",
    compute: ComputeConfig,
) -> None:
    """Print the planned work: both stages if features are missing, otherwise the sweep."""
    if resolved.features.missing_domains(resolved.recipe.domains(resolved.dataset)):
        plan = unimos_pipe.plan_recipe(resolved, data_root, stack_size=options.stack_size, compute=compute)
        print_json(output, {"recipe": plan}, " --dry-run")
        _show_both_stages(output, resolved, data_root, plan)
    else:
        plan = unimos_pipe.plan_sweep(resolved, None, runs_folder, options=options, compute=compute)
        print_json(output, {"sweep": plan}, " --dry-run")
        show_plan(output, resolved, plan)
        suggest_next(output, "run", click.get_current_context().params["recipe"])


def _show_both_stages(
    output: Output, resolved: ResolvedRecipe, data_root: Path | None, plan: "unimos_pipe.RecipePlan"
) -> None:
    """Print both stages, their estimated time and the next step, before the features exist."""
    recipe, spec = resolved.recipe, resolved.dataset
    encoding = f"of {', '.join(plan.missing)} to encode with {resolved.features.encoder.model}"
    training = f"{plan.runs} runs ({len(recipe.domain_pairs(spec))} pairs x {recipe.seeds} seeds"
    training += f" x {len(recipe.variants) * len(recipe.grid_cells())} settings)"
    output.result(f"{recipe.title or recipe.name} ({recipe.protocol})")
    if plan.images is None:
        output.result(f"  stage one: images {encoding}; their number and the time depend on its list files")
        output.result(f"  stage two: {training}")
    else:
        output.result(
            f"  stage one: {plan.images:,} images "
            f"({'as published, the images are not here' if plan.problem else 'found'}) "
            f"{encoding}; {plan.cache_bytes / 1e6:,.0f} MB of cache; about {_duration(plan.encode_seconds)} on "
            f"{plan.device}, decoding aside"
        )
        output.result(f"  stage two: {training}; about {_duration(plan.train_seconds)} on {plan.device}")
    for line in plan.unexpected_counts:
        output.result(f"  counts differ from the published ones: {line}")
    name = click.get_current_context().params["recipe"]
    if plan.problem is None:
        given = ["--data-root", str(data_root)] if data_root else []
        output.result(f"  next: {join_command('run', name, *given)}")
    elif data_root is None:
        output.result(f"  next: get the images from {spec.source or 'their owner'} ({spec.terms or 'see there'}),")
        command = join_command("run", name, "--data-root", "ROOT")
        output.result(f"        unpack them as {expected_layout(spec)}, then: {command}")
    else:
        output.result(f"  next: {plan.problem}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
