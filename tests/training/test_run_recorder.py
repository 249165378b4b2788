"""`run`: both stages of a recipe, what it leaves alone, and its plan; and own photos without labels."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from factories.images import draw

PLAN = """\
Office-Home, CLIP RN50 (transductive)
  stage one: 15,588 images (as published, the images are not here) of art, clipart, product, real_world to encode with \
RN50-quickgelu; 33 MB of cache; about TIME on cpu, decoding aside
  stage two: 36 runs (12 pairs x 3 seeds x 1 settings); about TIME on cpu
  next: get the images from https://www.hemanthdv.org/officeHomeDataset.html (research use; ask the authors for \
anything else),
        unpack them as a folder ROOT that holds Art, Clipart, Product, Real World; images such as \
ROOT/Art/Drill/<image>, then: unimos-pipe run office_home_rn50 --data-root ROOT
"""


def test_the_plan_without_the_data(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("unimos_pipe.experiments.dry_run.measure_encoder_speed", lambda spec, device: (0.1, 1024))
    monkeypatch.setattr("unimos_pipe.experiments.dry_run.MAX_STACK_SIZE", 1)
    answer = cli("run", "office_home_rn50", "--dry-run", "--cache", tmp_path, "--device", "cpu")
    assert (answer.code, re.sub(r"about [\d.]+ (s|min|h) ", "about TIME ", answer.out)) == (0, PLAN)
    assert "about 26 min on cpu, decoding aside" in answer.out


@pytest.fixture
def recipe(miniature, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\ndataset = "{miniature.spec}"\nseeds = 2\n[options.train]\nepochs = 2\n')
    return path


def test_both_stages_and_only_what_is_missing(cli, miniature, recipe, no_figures, tmp_path):
    place = ("--cache", tmp_path / "c", "--runs", tmp_path / "runs")
    planned = cli("run", recipe, *place, "--dry-run", "--data-root", miniature.root)
    lines = planned.out.splitlines()
    assert lines[1].startswith("  stage one: 48 images (found) of dark, light to encode with tinyclip-r24-64; ")
    assert lines[3] == f"  next: unimos-pipe run {recipe} --data-root {miniature.root}"
    assert not (tmp_path / "runs").exists()

    first = cli("run", recipe, *place, "--data-root", miniature.root, "--workers", 0)
    assert first.code == 0
    assert "mini/dark: 24 rows, 24 encoded, 0 reused" in first.err
    assert "4 run(s) trained, 0 kept, 0 failed" in first.err

    shutil.rmtree(miniature.root / "dark")  # stage two and complete features need no images
    again = cli("run", recipe, *place)
    shown, page = again.out.rsplit("\n", 2)[:2]
    assert (again.code, shown) == (0, first.out.rsplit("\n", 2)[0])
    assert page.startswith(f"{tmp_path / 'runs' / 'r' / 'report' / 'report.html'}: 4 run(s), ")
    assert again.err.startswith(f"0 run(s) trained, 4 kept, 0 failed, in {tmp_path / 'runs' / 'r'}\nnext: ")

    (features,) = (tmp_path / "c" / "mini").iterdir()
    shutil.rmtree(features / "light")
    third = cli("run", recipe, *place, "--data-root", miniature.root, "--workers", 0)
    assert third.code == 0
    assert "mini/light: 24 rows, 24 encoded, 0 reused" in third.err
    assert "mini/dark" not in third.err


def test_published_figures_stand_below_ours(cli, miniature, no_figures, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        f'name = "r"\ndataset = "{miniature.spec}"\nseeds = 1\npublished_table = "ablation.office_home"\n'
        'variants = ["full", "no-im"]\n[options.train]\nepochs = 1\n'
    )
    answer = cli("run", path, "--data-root", miniature.root, "--workers", 0, "--cache", tmp_path / "c",
                 "--runs", tmp_path / "runs")  # fmt: skip
    assert answer.code == 0
    assert [line.split("│")[1].strip() for line in answer.out.splitlines() if "no-im, published" in line]
    assert re.search(r"no-im, published\s+│[^\n]*77\.0", answer.out)


def test_a_recipe_with_an_unknown_table_is_refused(cli, recipe):
    recipe.write_text(recipe.read_text().replace("seeds", 'published_table = "x.RN50"\nprotocol = "inductive"\nseeds'))
    answer = cli("run", recipe)
    assert answer.code == 2
    assert "no published table 'x.RN50'" in answer.err
    assert "mini has no train and test splits" in answer.err


def test_sixty_photos_without_labels_in_three_commands(cli, miniature, tmp_path):
    rng = np.random.default_rng(1)
    mixed = tmp_path / "my photos"
    for index in range(60):
        draw(mixed / f"sub {index % 3}" / f"Bild {index} é.png", index % 3, rng, dark=False)
    own, out = tmp_path / "my.toml", tmp_path / "out"
    commands = [
        ("manifest", "scan", f"--domain=shop={miniature.root / 'dark'}:folders", f"--domain=phone={mixed}:none",
         "-o", own, "--encoder", "tiny"),
        ("extract", "--dataset", own, "--all", "--cache", tmp_path / "c", "--workers", 0),
        ("adapt", "--dataset", own, "--cache", tmp_path / "c", "--src", "shop", "--tgt", "phone", "--epochs", 2,
         "--out", out),
    ]  # fmt: skip
    answers = [cli(*command) for command in commands]
    assert [answer.code for answer in answers] == [0, 0, 0], answers
    assert "shop -> phone, full,epochs=2, seed 0 (transductive): 60 rows without labels predicted in" in answers[2].out
    rows = list(csv.DictReader((out / "predictions.csv").open(encoding="utf-8")))
    assert {row["path"] for row in rows} == {path.relative_to(mixed).as_posix() for path in mixed.rglob("*.png")}
    assert {row["class"] for row in rows} <= {"circle", "square", "bar"}
    assert "label" not in rows[0]
    answer = cli(*("adapt", "--dataset", own, "--cache", tmp_path / "c", "--src", "phone", "--tgt", "shop"))
    assert (answer.code, answer.err) == (
        2,
        "Error: source domain phone has images without a label; only a target may have them\n",
    )


def test_other_wording_and_words_are_prompts_of_their_own(cli, miniature, tmp_path):
    def prompts(*options):
        assert cli("extract", *miniature.args(tmp_path / "c"), "--domain", "dark", "--data-root", miniature.root,
                   "--workers", 0, *options).code == 0  # fmt: skip
        return {path.name for path in (tmp_path / "c").rglob("text/*.h5")}

    plain = prompts()
    worded = prompts("--domain-word", "dark=night") - plain
    miniature.spec.write_text(miniature.spec.read_text() + '[display]\nbar = "long bar"\n')
    displayed = prompts() - plain - worded
    averaged = prompts("--template", "a {class}", "--template", "one {domain} {class}") - plain - worded - displayed
    assert [len(names) for names in (plain, worded, displayed, averaged)] == [1, 1, 1, 1]
    assert next(iter(worded)).startswith("night-")

    adapt = ("adapt", *miniature.args(tmp_path / "c"), "--src", "light", "--tgt", "dark", "--domain-word", "dark=dusk")
    assert cli("extract", *miniature.args(tmp_path / "c"), "--all", "--data-root", miniature.root).code == 0
    answer = cli(*adapt)
    assert answer.code == 2
    assert answer.err.endswith(
        f"Run: unimos-pipe extract --dataset {miniature.spec} --domain-word dark=dusk "
        f"--cache {tmp_path / 'c'} --domain dark, with --template where it is not the default\n"
    )


def test_the_published_figure_comes_first(cli, miniature, recipe, no_figures, tmp_path):
    """As for VisDA-2017: the mean of per-class accuracies, and the overall accuracy in a row of its own."""
    for path in (miniature.root / "light" / "bar").glob("[2-7].png"):
        path.unlink()  # so that the two figures differ
    miniature.spec.write_text('metric = "per_class_mean"\n' + miniature.spec.read_text())
    few_steps = recipe.read_text().replace("epochs = 2", "epochs = 2\nmin_steps = 1")
    recipe.write_text(few_steps.replace("seeds = 2", 'seeds = 1\npairs = ["dark->light"]'))
    place = ("--cache", tmp_path / "c", "--runs", tmp_path / "runs")
    answer = cli("run", recipe, *place, "--data-root", miniature.root, "--workers", 0)
    assert answer.code == 0
    assert "r: mean of per-class target accuracies in %, last epoch unless named otherwise, transductive" in " ".join(
        answer.out.split()
    )
    (result,) = (json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json"))
    last = result["accuracy"]["last"]
    cells = dict(re.findall(r"│ (full[^│]*?)\s+│\s+([\d.]+)", answer.out))
    assert cells["full"] == f"{100 * last['per_class_mean']:.1f}"
    assert cells["full, overall accuracy"] == f"{100 * last['accuracy']:.1f}"
    assert cells["full"] != cells["full, overall accuracy"]


def test_the_plan_where_no_counts_are_known(cli, tmp_path):
    lines = cli("run", "mini_domainnet_rn50", "--dry-run", "--cache", tmp_path).out.splitlines()
    assert lines[:3] == [
        "Mini-DomainNet, CLIP RN50 (inductive)",
        "  stage one: images of clipart, painting, real, sketch to encode with RN50-quickgelu; their number and the "
        "time depend on its list files",
        "  stage two: 36 runs (12 pairs x 3 seeds x 1 settings)",
    ]
