"""Data-set specs: every fault in one message, and what the shipped ones bind."""

import hashlib

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import find_spec_files, load_spec

HEAD = 'name = "toy"\nclasses = ["cat", "dog"]\n[domains]\n'


def write(tmp_path, text):
    path = tmp_path / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def fault_of(tmp_path, text) -> str:
    with pytest.raises(InputError) as caught:
        load_spec(write(tmp_path, text))
    return str(caught.value).removeprefix(f"{tmp_path / 'toy.toml'}: ")


def test_the_shipped_data_sets():
    shape = {
        name: (len(spec.classes), len(spec.domains), spec.protocol(), spec.metric)
        for name, spec in ((name, load_spec(name)) for name in sorted(find_spec_files()))
    }
    assert shape == {
        "domainnet": (345, 6, "inductive", "accuracy"),
        "icons": (36, 4, "transductive", "accuracy"),
        "icons_third": (36, 8, "transductive", "accuracy"),
        "mini_domainnet": (126, 4, "inductive", "accuracy"),
        "office31": (31, 3, "transductive", "accuracy"),
        "office_home": (65, 4, "transductive", "accuracy"),
        "pacs": (7, 4, "transductive", "accuracy"),
        "visda2017": (12, 2, "transductive", "per_class_mean"),
    }


def test_label_order_and_words_are_the_published_ones():
    office_home = load_spec("office_home")
    assert office_home.classes[:3] == ("Drill", "Exit_Sign", "Bottle")
    assert office_home.classes[-1] == "Marker"
    assert office_home.domains["real_world"].word == "real world"
    assert office_home.domains["real_world"].folder == ("Real World", "RealWorld", "Real_World", "real_world", "Real")
    assert sum(domain.images for domain in office_home.domains.values()) == 15588
    domainnet = load_spec("domainnet")
    assert domainnet.classes[::100] == ("aircraft_carrier", "dumbbell", "octagon", "syringe")
    assert sum(entry.train_images + entry.test_images for entry in domainnet.domains.values()) == 586575
    for name in ("visda2017", "pacs"):
        for domain in load_spec(name).domains.values():
            assert sum(domain.per_class.values()) == domain.images


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("office_home", "95217bce36ed"),
        ("visda2017", "eb88e794f160"),
        ("domainnet", "ba29ce5a210f"),
        ("mini_domainnet", "8a44e7881ca1"),
        ("office31", "4ab1e7fb8275"),
        ("pacs", "89c745edd036"),
    ],
)
def test_no_class_has_moved(name, digest):
    """The digests are those of the published orders."""
    text = "\n".join(load_spec(name).classes)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest


def test_every_fault_is_in_one_message(tmp_path):
    text = 'name = "a/b"\nclasses = ["cat", "cat"]\nshape = 1\n[domains]\ntext = {}\nup = { folder = ["../x"] }\n'
    message = fault_of(tmp_path, text)
    assert "unknown shape" in message
    assert "domain 'text': a name is letters, digits, '-' and '_', and not 'text'" in message
    assert "domain 'up': its folder or list leaves the data root" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a/b"\nclasses = ["a", "b"]\n[domains]\nx = {}\n', "name 'a/b': letters, digits, '-' and '_' only"),
        ('name = "t"\nclasses = ["cat", "dog", "cat"]\n[domains]\nx = {}\n', "classes named twice: cat"),
        ('name = "t"\nclasses = ["cat"]\n[domains]\nx = {}\n', "at least 2 classes are needed"),
        (
            'name = "t"\nclasses = ["a_b", "a b"]\n[domains]\nx = {}\n',
            "classes with the same wording in prompts: a b",
        ),
        (HEAD + 'x = { train = ["a.txt"] }\n', "domain 'x': train and test go together"),
        (
            HEAD + 'x = { list = ["a.txt"], manifest = "b.csv" }\n',
            "domain 'x': list and manifest exclude each other",
        ),
        (HEAD + "x = { per_class = { cow = 3 } }\n", "domains.x.per_class: no class 'cow'"),
        (HEAD + 'x = {}\n[display]\ncow = "Kuh"\n', "display: no class 'cow'"),
        ('name = "t"\nclasses = ["a", "b"]\n', "expected a [domains] table with at least one domain"),
    ],
)
def test_a_spec_is_refused(tmp_path, text, message):
    assert fault_of(tmp_path, text) == message


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(InputError, match=r"unknown data set 'offfice'; did you mean office31\? known: domainnet, "):
        load_spec("offfice")


def test_wording_words_and_protocol(tmp_path):
    spec = load_spec(write(tmp_path, HEAD + 'real_photo = {}\nsketch = {}\n[display]\ncat = "house cat"\n'))
    assert spec.class_prompts() == ("house cat", "dog")
    assert spec.domains["real_photo"].word == "real photo"
    assert spec.with_words({"sketch": "pencil"}).domains["sketch"].word == "pencil"
    assert spec.protocol() == "transductive"
    with pytest.raises(InputError, match="toy has no train and test splits"):
        spec.protocol("inductive")
    with pytest.raises(InputError, match="data set toy has no domain 'phto'; known: real_photo, sketch"):
        spec.with_words({"phto": "x"})
