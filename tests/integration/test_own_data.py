"""Folders of one's own images become a spec that one can read, edit and use."""

import pytest

from unimos_pipe.data.custom_domain import CustomDomain
from unimos_pipe.data.dataset_spec import load_spec


def scan(cli, out, domain, *more):
    return cli("manifest", "scan", f"--domain={domain}", "-o", out, "--encoder", "tiny", *more)


def test_the_files_it_writes(cli, miniature, tmp_path):
    (miniature.root / "light" / "labels.csv").write_text("file;label\nbar/0.png;bar\ncircle/1.png;\n")
    out = tmp_path / "own data.toml"
    answer = cli(
        *("manifest", "scan", "--name", "own", "--encoder", "tiny", "-o", out, "--domain", f"a={miniature.root}/dark"),
        *("--domain", f"b={miniature.root}/light:labels.csv", "--domain", f"c_d={miniature.root}/light:none"),
    )
    assert answer.out == f"{out}: 3 classes (bar, circle, square); images: a: 24, b: 2, c_d: 24\n"
    assert out.read_text() == (
        "# A data set of one's own, for unimos-pipe. Label ids follow the order of `classes`; rows are in the CSV "
        f'files.\nname = "own"\nid = "{load_spec(str(out)).id}"\nencoder = "tiny"\n'
        'classes = [  # in label order\n  "bar",\n  "circle",\n  "square",\n]\n'
        '\n[display]  # other wording for a class in the prompts, such as: flipflops = "flip-flops"\n'
        '\n[domains.a]\nroot = "images/dark"\nmanifest = "own data.a.csv"\nword = "a"\nimages = 24\n'
        '\n[domains.b]\nroot = "images/light"\nmanifest = "own data.b.csv"\nword = "b"\nimages = 2\n'
        '\n[domains.c_d]\nroot = "images/light"\nmanifest = "own data.c_d.csv"\nword = "c d"\nimages = 24\n'
    )
    assert (tmp_path / "own data.b.csv").read_text() == "path,class\nbar/0.png,bar\ncircle/1.png,\n"
    assert load_spec(str(out)).classes == ("bar", "circle", "square")
    assert cli("manifest", "check", out).code == 0


def test_classes_are_sorted_whichever_domain_has_them_first(cli, miniature, tmp_path):
    for domain, classes in (("dark", ("square", "zebra")), ("light", ("apple", "square"))):
        for old, new in zip(("circle", "bar"), classes, strict=True):
            (miniature.root / domain / old).rename(tmp_path / "moved")
            (tmp_path / "moved").rename(miniature.root / domain / f"{new}s")
    out = tmp_path / "own.toml"
    answer = scan(cli, out, f"a={miniature.root}/dark", f"--domain=b={miniature.root}/light")
    assert answer.out.startswith(f"{out}: 4 classes (apples, square, squares, zebras); ")
    assert load_spec(str(out)).classes == ("apples", "square", "squares", "zebras")


def test_an_existing_spec_is_kept(cli, miniature, tmp_path):
    out = tmp_path / "own.toml"
    out.write_text("mine")
    answer = scan(cli, out, f"a={miniature.root}/dark")
    assert (answer.code, answer.err) == (
        2,
        f"Error: {out} exists; add --force to replace what an earlier scan wrote\n",
    )
    assert out.read_text() == "mine"
    assert scan(cli, out, f"a={miniature.root}/dark", "--force").err == (
        f"Error: {out} is not a spec that this tool wrote and is left alone; choose another --out\n"
    )
    assert out.read_text() == "mine"


def test_force_replaces_an_earlier_scan_and_no_table_of_the_users(cli, miniature, tmp_path):
    out, table = tmp_path / "own.toml", tmp_path / "own.a.csv"
    table.write_text("path;class\nbar/0.png;bar\n")
    domain = f"a={miniature.root}/dark"
    assert scan(cli, out, domain).err == f"Error: {table} exists; add --force to replace what an earlier scan wrote\n"
    assert scan(cli, out, domain, "--force").err == (
        f"Error: {table} is not a table of images that this tool wrote and is left alone; choose another --out\n"
    )
    table.write_text("path,class\nbar/0.png,bar\n")
    assert scan(cli, out, f"{domain}:{table}", "--force").err == (
        f"Error: {table} holds the labels to read and would be replaced; choose another --out\n"
    )
    assert not out.exists() and table.read_text() == "path,class\nbar/0.png,bar\n"
    assert scan(cli, out, domain, "--force").err.startswith(f"Error: {table} has been edited since it was written, or ")
    table.unlink()
    for _ in range(2):
        assert scan(cli, out, domain, "--force").code == 0
    assert len(table.read_text().splitlines()) == 25


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("dark", "--domain dark: expected NAME=DIR:folders, NAME=DIR:none or NAME=DIR:FILE.csv"),
        ("a={root}/nowhere", "--domain a={root}/nowhere: no folder {root}/nowhere"),
        ("a={root}/dark:none", "no domain has labels; adaptation needs a labelled source, DIR:folders or DIR:FILE.csv"),
        (
            "a={root}/dark/bar:folders",
            "domain a: {root}/dark/bar holds images but no class folders: expected <class>/<image>. Say "
            "a={root}/dark/bar:none if they have no labels, or name a CSV file instead",
        ),
        ("a={root}/dark:gone.csv", "list file gone.csv: cannot be read: No such file or directory"),
        ("text={root}/dark", "{out}: domain 'text': a name is letters, digits, '-' and '_', and not 'text'"),
    ],
)
def test_what_is_refused(cli, miniature, tmp_path, domain, message):
    out = tmp_path / "own.toml"
    answer = scan(cli, out, domain.format(root=miniature.root))
    assert (answer.code, answer.err) == (2, f"Error: {message.format(root=miniature.root, out=out)}\n")
    assert not out.exists()


def test_a_colon_may_be_part_of_a_folders_name(tmp_path):
    folder = tmp_path / "2024:07"
    folder.mkdir()
    assert CustomDomain.parse(f"a={folder}") == CustomDomain("a", folder, "folders")
    assert CustomDomain.parse(f"a={folder}:none") == CustomDomain("a", folder, "none")
