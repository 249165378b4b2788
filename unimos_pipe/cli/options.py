"""Options that several commands share, and what they mean as values."""

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from unimos_pipe.base.config import DEFAULT_TEMPLATE, EncoderSpec, PromptSpec, build
from unimos_pipe.base.encoders import ENCODERS
from unimos_pipe.base.errors import UserError, listing
from unimos_pipe.cache.identity import names_its_weights
from unimos_pipe.cache.layout import default_cache, find_encoder_folder
from unimos_pipe.data.manifest import PROTOCOLS, DatasetSpec, load_spec


@dataclass(frozen=True)
class DataOptions:
    """Which data set, encoded by what, kept where."""

    dataset: DatasetSpec
    encoder: EncoderSpec
    encoder_id: str | None
    templates: tuple[str, ...]
    cache: Path
    extract_command: str

    def encoder_folder(self) -> Path:
        """The cache folder of these features, found without the weights."""
        return find_encoder_folder(
            self.cache, self.dataset.name, self.encoder, self.encoder_id, f"{self.extract_command} --all"
        )


def folder_option(*names: str, help: str, default: Path | None = None) -> Callable[[Callable], Callable]:
    """An option that names a folder."""
    return click.option(
        *names,
        type=click.Path(path_type=Path),
        metavar="DIR",
        default=default,
        show_default=default is not None,
        help=help,
    )


cache_option = folder_option(
    "--cache", help="Where features are kept. Default: $UNIMOS_CACHE, else the user's cache folder."
)
runs_option = folder_option("--runs", "runs_folder", default=Path("runs"), help="Where run folders go.")

trust_option = click.option(
    "--trust-weights",
    is_flag=True,
    help="Open a weights file that is a TorchScript archive though it is not OpenAI's: it can run code.",
)


def data_options(command: Callable) -> Callable:
    """Add the options of :class:`DataOptions` to a command, which gets them as ``data``."""

    @click.option(
        "--dataset",
        default="office_home",
        show_default=True,
        metavar="NAME|FILE.toml",
        help="Data set: a known name, or a spec file of your own.",
    )
    @click.option("--encoder", metavar="NAME", help=f"Encoder preset: {', '.join(ENCODERS)}. Default: the data set's.")
    @click.option(
        "--model", metavar="NAME", help="open_clip model, hf-hub:OWNER/NAME or local-dir:PATH, instead of the preset's."
    )
    @click.option(
        "--pretrained", metavar="TAG|FILE", help="open_clip weights tag or a local file, instead of the preset's."
    )
    @trust_option
    @click.option(
        "--precision",
        type=click.Choice(["fp32", "fp16", "bf16", "auto"]),
        default="fp32",
        show_default=True,
        help="Arithmetic of the encoder; auto takes 16 bits where the hardware has them and features stay the same.",
    )
    @click.option(
        "--template",
        "templates",
        multiple=True,
        metavar="TEXT",
        help=f"Prompt template, repeatable; several are averaged. Default: {DEFAULT_TEMPLATE!r}",
    )
    @click.option(
        "--word",
        "words",
        multiple=True,
        metavar="DOMAIN=WORD",
        help="Another word for a domain in its prompts; repeatable.",
    )
    @cache_option
    @functools.wraps(command)
    def wrapped(
        *args,
        dataset,
        encoder,
        model,
        pretrained,
        trust_weights,
        precision,
        templates,
        words,
        cache,
        encoder_id=None,
        **kwargs,
    ):
        spec = load_spec(dataset).with_words(dict(_word(text) for text in words))
        chosen = encoder_spec(encoder or spec.encoder, model, pretrained, precision, trust_weights)
        template_list = build(PromptSpec, {"templates": templates or (DEFAULT_TEMPLATE,)}, "--template").templates
        given = [("--encoder", encoder), ("--model", model), ("--pretrained", pretrained)]
        given += [("--template", text) for text in templates] + [("--word", text) for text in words]
        extract = shlex.join(
            ["unimos-pipe", "extract", "--dataset", dataset]
            + [part for pair in given if pair[1] for part in pair]
            + ["--trust-weights"] * trust_weights
        )
        data = DataOptions(spec, chosen, encoder_id, template_list, cache or default_cache(), extract)
        return command(*args, data=data, **kwargs)

    return wrapped


def _word(text: str) -> tuple[str, str]:
    domain, equals, word = text.partition("=")
    if not equals or not word.strip():
        raise UserError(f"--word {text}", expected="DOMAIN=WORD, such as real='real world'", got=repr(text))
    return domain, word


def data_root_options(command: Callable) -> Callable:
    """Add ``--data-root`` and ``--strict-counts``."""
    command = click.option(
        "--strict-counts", is_flag=True, help="Counts other than the published ones are an error, not a warning."
    )(command)
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        envvar="UNIMOS_DATA_ROOT",
        show_envvar=True,
        metavar="DIR",
        help="Folder that holds the domains' folders, or the data set's. Not needed for embedded data.",
    )(command)


def protocol_option(command: Callable) -> Callable:
    """Add ``--protocol``."""
    return click.option(
        "--protocol",
        type=click.Choice(PROTOCOLS),
        help="Inductive (default where there are splits): learn from the target's train rows, score its test rows.",
    )(command)


def encoder_spec(
    preset: str, model: str | None, pretrained: str | None, precision: str, trust: bool = False
) -> EncoderSpec:
    """The spec of a preset with its model or weights replaced. Raises UserError for an unknown preset."""
    if preset not in ENCODERS:
        raise UserError(
            f"unknown encoder {preset!r}; known: {listing(ENCODERS, 20)}; others by --model and --pretrained"
        )
    if model and names_its_weights(model) and pretrained:
        raise UserError(f"--model {model} names its own weights; leave out --pretrained")
    if model and not pretrained and not names_its_weights(model):
        raise UserError("--model needs --pretrained: which weights it is to load (a tag or a file)")
    chosen = {"model": model, "pretrained": pretrained, "trust_weights": trust}
    return replace(ENCODERS[preset], precision=precision, **{key: value for key, value in chosen.items() if value})


def device_option(command: Callable) -> Callable:
    """Add ``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes a CUDA GPU where there is one.",
    )(command)


def lockstep_option(command: Callable) -> Callable:
    """Add ``--lockstep``."""
    return click.option(
        "--lockstep",
        type=click.IntRange(1),
        metavar="N",
        help="Runs trained together as one stack. Default: what memory allows, at most 36.",
    )(command)


ALSO = ("im", "entropy", "bnm", "snd", "source", "oracle")


def also_option(command: Callable) -> Callable:
    """Add ``--also``."""
    return click.option(
        "--also",
        type=click.Choice(ALSO),
        multiple=True,
        help="Also show the epoch a label-free validator picks, or the best one by target labels (oracle); repeatable.",
    )(command)


def engine_options(command: Callable) -> Callable:
    """Add ``--engine``, ``--address`` and ``--cpus-per-job``."""
    for option in (
        click.option(
            "--cpus-per-job",
            type=click.FloatRange(0, min_open=True),
            default=1.0,
            show_default=True,
            help="Cores per Ray job.",
        ),
        click.option(
            "--address", metavar="HOST:PORT|auto", help="Ray cluster to use. Default: one started on this machine."
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where to compute: in this process, or on every machine of a Ray cluster.",
        ),
    ):
        command = option(command)
    return command
