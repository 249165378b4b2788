"""`manifest check` finds what a test broke, all of it, and says so in lines."""

import os
from pathlib import Path

from PIL import Image

from unimos_pipe.data.dataset_check import ImageFile


def test_each_fault_is_found(cli, miniature, tmp_path):
    assert cli("manifest", "check", miniature.spec, "--data-root", miniature.root).out == (
        "mini: 48 rows, nothing to report\n"
    )
    one = cli("manifest", "check", miniature.spec, "--data-root", miniature.root, "--domain", "dark")
    assert one.out == "mini: 24 rows, nothing to report\n" and "--domain dark" in one.err.splitlines()[-1]
    own = tmp_path / "own.toml"
    places = [f"--domain={name}={miniature.root / name}" for name in ("dark", "light")]
    assert cli("manifest", "scan", *places, "-o", own, "--encoder", "tiny").code == 0
    dark, light = miniature.root / "dark", miniature.root / "light"
    (dark / "bar/0.png").write_bytes((light / "bar/1.png").read_bytes())
    (dark / "bar/1.png").unlink()
    (dark / "bar/2.png").write_bytes(b"")
    (dark / "bar/3.png").write_bytes((dark / "bar/4.png").read_bytes()[:100])
    (dark / "circle/4.png").unlink()
    (dark / "circle/4.png").symlink_to("4.png")
    Image.new("RGB", (3, 3)).save(light / "new one.png")
    csv = tmp_path / "own.light.csv"
    csv.write_text("".join(line for line in csv.read_text().splitlines(True) if "square" not in line))
    own.write_text(own.read_text().replace("classes = [  # in label order\n", 'classes = [\n  "yak",\n'))
    answer = cli("manifest", "check", own, "--max-examples", "9")
    extra = ", ".join(f"light/square/{index}.png" for index in range(8))
    lines = answer.out.replace("truncated (0 bytes not processed)", "truncated").splitlines()  # by PIL's version
    assert lines == [
        f"notice: note, 1: {dark}: 1 left out: broken link 1 (.png 1)",
        "notice: missing, a broken link, or no file, 2: dark/bar/1.png, dark/circle/4.png",
        f"notice: image not in the manifest, 9: light/new one.png, {extra}",
        "notice: counts differ from the published ones, 1: own/light: 16 images, 8 fewer than the expected 24; "
        "per class: 8 (bar) to 8 (circle); empty: yak, square",
        "notice: class without an image, 1: yak",
        "notice: class absent in a domain, 1: square in light",
        "notice: unreadable image, 2: dark/bar/2.png (an empty file), dark/bar/3.png (OSError: image file is "
        "truncated)",
        "notice: same contents, 1: dark/bar/0.png = light/bar/1.png",
        "own: 40 rows of 48: counts differ from the published ones, nothing more serious to report",
    ]
    assert answer.code == 0


def test_a_row_of_a_split_is_named_by_its_path_below_the_root():
    path = Path("/data/clipart/dog/1.jpg")
    assert str(ImageFile("clipart.train", "clipart/dog/1.jpg", path)) == "clipart/dog/1.jpg"
    assert str(ImageFile("clipart", "dog/1.jpg", path)) == "clipart/dog/1.jpg"


def test_a_part_of_which_nothing_is_readable_or_there_is_an_error(cli, miniature, tmp_path):
    for image in (miniature.root / "dark").rglob("*.png"):
        image.write_bytes(b"")
    for image in (miniature.root / "light").rglob("*.png"):
        image.unlink()
    spec = tmp_path / "own.toml"
    domains = "".join(
        f'{name} = {{ root = "{miniature.root / name}", manifest = "{name}.csv" }}\n' for name in ("dark", "light")
    )
    spec.write_text(f'name = "own"\nclasses = ["circle", "bar"]\n[domains]\n{domains}')
    for name in ("dark", "light"):
        (tmp_path / f"{name}.csv").write_text("path,class\ncircle/0.png,circle\nbar/0.png,bar\n")
    answer = cli("manifest", "check", spec)
    assert answer.out.splitlines()[:2] == [
        "error: missing, a broken link, or no file, 2: light/circle/0.png, light/bar/0.png",
        "error: unreadable image, 2: dark/circle/0.png (an empty file), dark/bar/0.png (an empty file)",
    ]
    assert (answer.code, answer.err) == (1, "Error: 4 fault(s) in 4 rows of own; fix them, then check again\n")


def test_rows_that_cannot_be_read_and_other_names(cli, miniature, tmp_path):
    spec = tmp_path / "other.toml"
    spec.write_text(
        'name = "other"\nclasses = ["circle", "square", "bar"]\nencoder = "tiny"\n[domains]\n'
        'dark = { labels = "none" }\nlight = { manifest = "light.csv" }\n'
    )
    (tmp_path / "light.csv").write_text("path,class\n../dark/bar/1.png,bar\n")
    (miniature.root / "dark/bar/1.png").rename(miniature.root / "dark/bar" / os.fsdecode(b"\xff.png"))
    answer = cli("manifest", "check", spec, "--data-root", miniature.root)
    assert answer.code == 1
    assert answer.out.splitlines()[:2] == [
        "error: name is not UTF-8, 1: dark/b'bar/\\xff.png'",
        f"error: rows cannot be read, 1: list file {tmp_path / 'light.csv'}: '../dark/bar/1.png' leaves the images' "
        "folder",
    ]
