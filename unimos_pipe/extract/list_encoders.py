"""List of encoder presets, and which of them are available without network. Imports no torch."""

from dataclasses import dataclass

from unimos_pipe.base.encoder_presets import PRESETS, Preset
from unimos_pipe.extract.hub import HubFile, cached_weights


@dataclass(frozen=True)
class EncoderListing:
    """A preset, and whether its weights are on this machine."""

    preset: Preset
    cached: bool


def list_encoders() -> dict[str, EncoderListing]:
    """Return name -> listing of all presets. Nothing is loaded or downloaded."""
    return {
        name: EncoderListing(preset, preset.hub is None or cached_weights(HubFile(preset.hub)) is not None)
        for name, preset in PRESETS.items()
    }
