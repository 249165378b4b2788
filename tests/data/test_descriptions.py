"""Sentences by class in the place of templates: read, checked, encoded, and found again by their digest."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.tasks import TINY
from torch.nn.functional import normalize

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.cache.cache_paths import encoder_folders
from unimos_pipe.cache.shard import read_text_shard
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.descriptions import read_descriptions
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import encode_descriptions
from unimos_pipe.runs.cache_usage import find_needed_features

SENTENCES = {
    "Circle": ["a round {domain} shape.", "a ring."],
    "square": ["a box."],
    "BAR": ["a bar."],
    "cat": ["a cat."],
}


def write(folder: Path, values: object) -> Path:
    file = folder / "cupl.json"
    file.write_text(json.dumps(values))
    return file


def test_names_are_compared_without_case_and_separators(miniature, tmp_path):
    spec = load_spec(str(miniature.spec))
    found = read_descriptions(write(tmp_path, SENTENCES), spec)
    assert found.sentences == (("a round {domain} shape.", "a ring."), ("a box.",), ("a bar.",))
    assert found.prompts("light") == [["a round light shape.", "a ring."], ["a box."], ["a bar."]]
    named = replace(spec, classes=("Alarm_Clock", "tv"), display={"tv": "television set"})
    values = {"alarm clock": ["it rings."], "Television-Set": ["a screen."]}
    again = read_descriptions(write(tmp_path, values), named)
    assert again.sentences == (("it rings.",), ("a screen.",)) and again.template != found.template
    assert found.template == f"descriptions:{found.template[13:]}" and len(found.template) == 13 + 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"circle": ["a"]}, ": expected all 3 classes of mini, got none of square, bar"),
        ([], ': expected {"class": ["sentence", ...], ...}, got []'),
        (SENTENCES | {"bar": "a bar."}, ": 'bar': expected {\"class\": [\"sentence\", ...], ...}, got 'a bar.'"),
        (SENTENCES | {"bar": []}, ': \'bar\': expected {"class": ["sentence", ...], ...}, got []'),
        (SENTENCES | {"bar": ["a bar."]}, ": BAR, bar are one class; keep one of them"),
    ],
)
def test_faults_of_a_file(values, message, miniature, tmp_path):
    file = write(tmp_path, values)
    with pytest.raises(InputError) as caught:
        read_descriptions(file, load_spec(str(miniature.spec)))
    assert str(caught.value) == f"descriptions {file}{message}"


def test_files_that_cannot_be_read(miniature, tmp_path):
    spec = load_spec(str(miniature.spec))
    with pytest.raises(InputError, match=r"^descriptions .*absent\.json: No such file or directory$"):
        read_descriptions(tmp_path / "absent.json", spec)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"^descriptions .*bad\.json is not JSON: "):
        read_descriptions(tmp_path / "bad.json", spec)


def test_a_class_is_the_normalised_mean_of_its_sentences():
    encoder = ClipEncoder(TINY, torch.device("cpu"))
    sentences = [["a round shape.", "a ring.", "a hoop."], ["a box."]]
    found = encode_descriptions(encoder, sentences)
    slow = [sum(encoder.encode_texts([text])[0] for text in texts) / len(texts) for texts in sentences]
    # float32 sums of 128 products in a batch of four and of one
    assert np.abs(found - normalize(torch.stack(slow), dim=-1).numpy()).max() < 1e-5


def test_commands_take_descriptions_as_other_prompts(cli, miniature, tmp_path):
    file = write(tmp_path, SENTENCES)
    data = miniature.args(tmp_path / "cache")
    own = (*data, "--data-root", miniature.root)
    answer = cli("extract", "--all", *own, "--descriptions", file)
    assert answer.code == 0 and f"--descriptions {file}" in answer.err.splitlines()[-1]
    folder = next((tmp_path / "cache" / "mini").glob("tiny*"))
    headers = {path.name.partition("-")[0]: read_text_shard(path).header for path in folder.glob("text/*.h5")}
    template = read_descriptions(file, load_spec(str(miniature.spec))).template
    assert headers["light"].templates == (template,) and headers["light"].prompts == ((template,),)
    assert headers["light"].origin["sentences"][1] == ["a box."]
    pair = ("--src", "dark", "--tgt", "light", "--method", "zero-shot", "--out")
    refused = cli("adapt", *data, *pair, tmp_path / "other")
    assert refused.code == 2 and "the prompts of light ('a light photo of a circle.', ...) are not in" in refused.err
    assert cli("adapt", *data, *pair, tmp_path / "run", "--descriptions", file).code == 0
    file.unlink()  # the digest is enough
    assert cli("adapt", *data, *pair, tmp_path / "again", "--template", template).code == 0
    same = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("run", "again")]
    assert same[0] == same[1]
    missing = cli("extract", "--all", *own, "--template", f"{template}0")
    what = f"Error: the sentences of the template '{template}0' are not in the cache"
    assert (missing.code, missing.err.splitlines()[-1]) == (2, f"{what}. Pass their file as --descriptions")
    both = cli("adapt", *data, *pair, tmp_path / "both", "--descriptions", file, "--template", "a {class}")
    assert (both.code, both.err) == (2, "Error: --template and --descriptions exclude each other\n")
    assert unimos_pipe.feature_set(str(miniature.spec), templates=[template]).descriptions is None


def test_a_recipe_with_views_and_descriptions_runs_from_images_and_again_from_its_runs(
    cli, miniature, no_figures, tmp_path
):
    file, recipe, cache = write(tmp_path, SENTENCES), tmp_path / "both.toml", tmp_path / "cache"
    recipe.write_text(
        f'name = "both"\ndataset = "{miniature.spec}"\nviews = ["flip", "center"]\ndescriptions = "{file}"\n'
        'pairs = ["dark->light"]\nmethods = ["zero-shot"]\n'
    )
    place = ("--cache", cache, "--runs", tmp_path / "runs")
    answer = cli("run", recipe, "--data-root", miniature.root, *place, "--workers", 0)
    assert answer.code == 0 and "mini/light: 24 rows, 24 encoded, 0 reused, " in answer.err
    (folder,) = encoder_folders(cache, "mini", replace(TINY, views=("center", "flip")))
    assert (folder.parent.name, folder.name) in find_needed_features(cache, tmp_path / "none", [str(recipe)])[0]
    (config,) = (tmp_path / "runs").rglob("config.json")
    template = read_descriptions(file, load_spec(str(miniature.spec))).template
    assert json.loads(config.read_text())["spec"]["templates"] == [template]
    saved = tmp_path / "runs" / "both" / "recipe.json"
    assert "0 run(s) trained, 1 kept, 0 failed" in cli("sweep", saved, *place).err
    write(tmp_path, SENTENCES | {"BAR": ["a long bar."]})
    changed = cli("sweep", saved, *place)
    other = read_descriptions(file, load_spec(str(miniature.spec))).template
    assert (changed.code, changed.err) == (
        2,
        f"Error: {saved}: templates beside descriptions {file}: expected none, or {other} of its sentences, "
        f"got {template}\n",
    )
    file.unlink()  # the digest is enough
    again = cli("rerun", config.parent, "--cache", cache, "--dataset", miniature.spec)
    assert again.code == 0 and "1 of 1" in again.out + again.err
