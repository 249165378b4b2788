"""100 odd images with the brightness that they must have; large images; texts and profiles; reasons."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from factories.images import declared_png
from PIL import Image, PngImagePlugin, TiffImagePlugin

import unimos_pipe
from unimos_pipe.data import image_decoding
from unimos_pipe.data.dataset_check import ImageFile, inspect_files
from unimos_pipe.data.grey_range import HIGH_PERCENTILE, LOW_PERCENTILE, _percentile_rank
from unimos_pipe.data.image_decoding import decode, describe_error

SIDE = 64
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)  # mean 0.5
SHADES = {"even": 1.0, "dark": 0.6, "bright": 0.9}  # largest value, as a part of the range
TOPS = {"8": 255, "10": 1023, "12": 4095, "14": 16383, "16": 65535}


def tiff(values: np.ndarray, tags: dict[int, object] | None = None) -> bytes:
    """Return a TIFF of a grey image with further tags."""
    table, file = TiffImagePlugin.ImageFileDirectory_v2(), io.BytesIO()
    for tag, value in (tags or {}).items():
        table[tag] = value
        if isinstance(value, float):
            table.tagtype[tag] = 12  # double
    Image.fromarray(values).save(file, "TIFF", tiffinfo=table)
    return file.getvalue()


def png(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **options)
    return file.getvalue()


def with_outliers(values: np.ndarray, value: float) -> np.ndarray:
    """Return values with one pixel in 2,000 far outside."""
    changed = values.copy()
    changed[0, :2] = value
    return changed


def odd_images() -> dict[str, tuple[bytes, float]]:
    """Return file and wanted mean (0 to 255) of each image."""
    images = {}
    for name, part in SHADES.items():
        ramp, mean = RAMP * part, 127.5 * part
        for bits, top in TOPS.items():
            numbers = (ramp * top).round()
            if bits != "8" or name != "dark":
                images[f"int32 TIFF, {bits} bits, {name}"] = tiff(numbers.astype(np.int32)), mean
                images[f"float TIFF, {bits} bits, {name}"] = tiff(numbers.astype(np.float32)), mean
                low, high = with_outliers(numbers, -5.0 * (bits == "8")), with_outliers(numbers, top * 1.02)
                images[f"float TIFF, {bits} bits, overshoot, {name}"] = tiff(high.astype(np.float32)), mean
                images[f"float TIFF, {bits} bits, undershoot, {name}"] = tiff(low.astype(np.float32)), mean
            part_of_range = top / 65535  # as PNG defines it
            images[f"uint16 PNG, {bits} bits, {name}"] = png(numbers.astype(np.uint16)), mean * part_of_range
            if bits != "8":
                images[f"uint16 TIFF, {bits} bits, {name}"] = tiff(numbers.astype(np.uint16)), mean
        for overshoot in (1.0, 1.02, 1.5, 300.0, 1e6):
            images[f"float TIFF, one, outlier {overshoot}, {name}"] = (
                tiff(with_outliers(ramp, overshoot).astype(np.float32)),
                mean,
            )
    dark = RAMP * 0.1
    for high in (2.0, 50.0, 1000.0, 1e5):  # in another unit, with its range in a tag
        images[f"float TIFF, tag {high}"] = tiff((dark * high).astype(np.float32), {340: 0.0, 341: high}), 12.75
    for high in (1000, 4000, 30000):
        images[f"uint16 TIFF, tag {high}"] = tiff((dark * high).astype(np.uint16), {281: high}), 12.75
    for scale, shift in ((3.0, 0.0), (10.0, 2.0), (1.0, -0.5), (2000.0, -1000.0), (1e6, 0.0), (1e-3, 0.0)):
        wanted = 127.5 if scale > 1e-3 else 0.1  # within [0, 1]
        wanted = 127.5 if shift < 0 or scale > 1 else wanted
        images[f"float TIFF, {scale} {shift}"] = tiff((RAMP * scale + shift).astype(np.float32)), wanted
    file = io.BytesIO()
    file.write(b"P5 64 64 1023\n" + (RAMP * 1023).round().astype(">u2").tobytes())
    images["PGM, 10 bits"] = file.getvalue(), 127.5
    return images


ODD = odd_images()


def test_there_are_a_hundred():
    assert len(ODD) >= 100


@pytest.mark.parametrize("name", ODD)
def test_odd_images_have_the_brightness_that_they_must_have(name):
    """Rounding to 8 bits and the percentiles' tenth of a percent move the mean by less than 1."""
    content, mean = ODD[name]
    assert np.asarray(decode(content)).mean() == pytest.approx(mean, abs=1)


@pytest.mark.parametrize("count", [1, 2, 7, 499, 500, 999, 1000, 1500, 4096])
def test_percentiles_are_those_of_numpy(count):
    for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE):
        wanted = np.percentile(np.arange(count), percentile, method="closest_observation")
        assert _percentile_rank(count, percentile) == wanted


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        decode(tiff(with_outliers(RAMP, np.nan).astype(np.float32)))


@pytest.fixture
def smaller_limit(monkeypatch):
    """Reduce images of more than 5,000 pixels."""
    monkeypatch.setattr(image_decoding, "REDUCED_FROM", 5000)


def test_large_images_are_decoded_at_a_fraction_of_their_size(smaller_limit):
    noise = np.asarray(Image.effect_noise((120, 80), 60).convert("RGB"))
    blocks = noise.reshape(40, 2, 60, 2, 3).mean((1, 3))
    small = np.asarray(decode(png(noise)), float)
    assert small.shape == (40, 60, 3) and np.abs(small - blocks).max() <= 1  # rounding
    for mode in ("L", "LA", "RGBA", "P", "1", "I;16"):
        file = io.BytesIO()
        Image.fromarray(noise).convert("L" if mode == "I;16" else mode).convert(mode).save(file, "PNG")
        assert decode(file.getvalue()).size == (60, 40)
    assert decode(tiff(RAMP.repeat(2, 0).astype(np.float32))).size == (32, 64)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_upright(smaller_limit, progressive):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((RAMP.repeat(4, 0).repeat(2, 1) * 255).astype(np.uint8)).save(
        file, "JPEG", exif=exif, progressive=progressive
    )
    image = decode(file.getvalue())
    assert image.size == (128, 64) or image.size == (64, 32)
    right_dark = np.asarray(image).mean((0, 2))
    assert right_dark[0] > right_dark[-1]  # the top, which is dark, is turned to the right


def test_a_limit_of_pixels_can_be_raised_and_holds_for_images_within_icons():
    bomb = declared_png(15_000, 15_000, zlib.compress(b""))
    with pytest.raises(ValueError, match=r"^15,000 x 15,000 pixels, more than 200,000,000$"):
        decode(bomb)
    with pytest.raises(OSError):  # its data are missing, which is found later
        decode(bomb, max_pixels=400_000_000)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(bomb), 22) + bomb
    with pytest.raises(ValueError, match=r"^15,000 x 15,000 pixels, more than 200,000,000$"):
        decode(icon)


@pytest.mark.parametrize("options", [{"icc_profile": bytes(2_000_000)}, {"zip": True}, {"zip": False}, {"i": True}])
def test_large_texts_and_profiles_do_not_hide_a_photo(options):
    pixels, info = (RAMP * 255).astype(np.uint8), PngImagePlugin.PngInfo()
    if "zip" in options:
        info.add_text("a", "x" * 2_000_000, zip=options.pop("zip"))
    if options.pop("i", False):
        info.add_itxt("a", "x" * 2_000_000, zip=True)
    content = png(pixels, pnginfo=info, **options)
    np.testing.assert_array_equal(np.asarray(decode(content))[..., 0], pixels)


def reason(content: bytes) -> str:
    with pytest.raises(Exception) as refused:
        decode(content)
    return describe_error(refused.value, content)


def colour_tiff(width: int, height: int) -> bytes:
    """Return a TIFF of three bands of 16-bit integers, which Pillow reads and does not write."""
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 190), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, 6 * width * height)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return head.ljust(190, b"\0") + struct.pack("<3H", 16, 16, 16) + bytes(4) + bytes(range(6)) * (width * height)


def test_the_limit_counts_the_bytes_that_a_decoder_holds():
    assert decode(colour_tiff(20, 10), max_pixels=300).size == (20, 10)  # of 6 bytes, and 4 are allowed
    with pytest.raises(ValueError, match=r"^20 x 10 pixels of 6 bytes, more than the 0 MB that 299 pixels may take$"):
        decode(colour_tiff(20, 10), max_pixels=299)
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, "JPEG2000")
    assert decode(file.getvalue(), max_pixels=600).size == (20, 10)  # 4 bytes for each of three bands
    with pytest.raises(ValueError, match=r"^20 x 10 pixels of 12 bytes, more than"):
        decode(file.getvalue(), max_pixels=599)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
@pytest.mark.parametrize(
    ("kind", "bound"),
    [("JPEG", 160), ("progressive JPEG", 600), ("PNG", 850), ("RGBA PNG", 1450), ("float TIFF", 1700)],
)
def test_photos_of_140_megapixels_are_read_at_half_their_size(kind, bound, tmp_path):
    """Bounds are in MiB above an idle process, with a tenth for the libraries.

    A progressive JPEG takes 2 bytes for each value of its coefficients; a PNG its file and 3 or 4 bytes a pixel, then
    copies of a quarter of the pixels; a float TIFF its file and 4 bytes a pixel, then two such copies.
    """
    colours = np.random.default_rng(0).integers(0, 256, (100, 140, 3), np.uint8)
    image = Image.fromarray(colours).resize((14_000, 10_000), Image.Resampling.BILINEAR)
    if kind == "float TIFF":
        Image.fromarray(np.asarray(image)[:, :, 0] / np.float32(255)).save(tmp_path / "a", "TIFF")
    elif kind.endswith("PNG"):
        image.convert(kind.replace("PNG", "").strip() or "RGB").save(tmp_path / "a", "PNG", compress_level=1)
    else:
        image.save(tmp_path / "a", "JPEG", progressive="progressive" in kind)
    code = (
        "import re, sys, time\nfrom pathlib import Path\nfrom unimos_pipe.data.image_decoding import decode\n"
        "memory = lambda: int(re.search('VmHWM: *\\\\s(.*) kB', Path('/proc/self/status').read_text())[1]) // 1024\n"
        "idle, began = memory(), time.perf_counter()\n"
        "print(*decode(Path(sys.argv[1])).size, memory() - idle, round(time.perf_counter() - began, 1))"
    )
    said = subprocess.check_output([sys.executable, "-c", code, tmp_path / "a"], text=True).split()
    print(f"{kind} of 140 megapixels: {said[2]} MiB above idle, {said[3]} s")
    assert said[:2] == ["7000", "5000"] and int(said[2]) < bound


def raw_tiff(bands: int, bits: int, kind: int) -> bytes:
    """Return a TIFF of 2 x 2 pixels that PIL may not read."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200)]
    entries += [(277, 3, 1, bands), (278, 3, 1, 2), (279, 4, 1, 4 * bands * bits // 8), (339, 3, 1, kind)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head.ljust(200, b"\0") + bytes(4 * bands * bits // 8)


def test_the_reason_is_what_the_file_holds():
    read = "; read are 8-bit colours and one band of up to 32 bits"
    assert reason(raw_tiff(3, 32, 3)) == f"a TIFF of 2 x 2 pixels with 3 bands of 32-bit floats{read}"
    assert reason(raw_tiff(7, 16, 1)) == f"a TIFF of 2 x 2 pixels with 7 bands of 16-bit integers{read}"
    for cut in (7, 30, 60):
        assert reason(raw_tiff(1, 8, 1)[:cut]) == "a damaged or cut TIFF"


def test_libtiff_says_nothing(capfd):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    for compression in ("tiff_adobe_deflate", "group4", "jpeg", "tiff_lzw"):
        file = io.BytesIO()
        Image.fromarray(noise).convert("1" if compression == "group4" else "RGB").save(
            file, "TIFF", compression=compression
        )
        content = bytearray(file.getvalue())
        content[300:2000:7] = bytes(len(content[300:2000:7]))
        try:
            decode(bytes(content))
        except Exception as error:
            assert describe_error(error, bytes(content))
    assert capfd.readouterr() == ("", "")


def test_check_names_images_without_contrast_and_guessed_ranges(tmp_path):
    (tmp_path / "flat.png").write_bytes(png(np.full((8, 8), 7, np.uint8)))
    (tmp_path / "depth.tif").write_bytes(tiff((RAMP * 10).astype(np.float32)))
    (tmp_path / "sound.png").write_bytes(png((RAMP * 255).astype(np.uint8)))
    files = [ImageFile("d", path.name, path) for path in sorted(tmp_path.iterdir())]
    found = {finding.kind: (finding.serious, finding.places) for finding in inspect_files(files, threads=1)}
    assert found == {
        "grey values scaled by percentiles": (False, ("d/depth.tif (0.00732601 to 9.99023)",)),
        "image without contrast": (False, ("d/flat.png",)),
    }


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_extract_names_images_without_contrast_and_guessed_ranges(workers, tmp_path):
    for name, content in (
        ("x/flat.png", png(np.full((8, 8), 7, np.uint8))),
        ("x/depth.tif", tiff((RAMP * 10).astype(np.float32))),
        ("y/sound.png", png((RAMP * 255).astype(np.uint8))),
    ):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(content)
    unimos_pipe.create_dataset_spec([f"d={tmp_path / 'd'}"], tmp_path / "my.toml")
    features = unimos_pipe.feature_set(str(tmp_path / "my.toml"), encoder="tiny", cache=tmp_path / "cache")
    options = unimos_pipe.ExtractOptions(workers=workers)
    assert unimos_pipe.extract_features(features, options=options).warnings == (
        "d: 1 image(s) without contrast: x/flat.png",
        "d: 1 image(s) of unknown range, whose grey values are scaled by percentiles: x/depth.tif (0.00732601 to "
        "9.99023)",
    )
    assert unimos_pipe.extract_features(features, options=options).warnings == ()  # nothing new
