"""A recipe resolved to the features that it reads, without opening the cache."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unimos_pipe.base.encoder_presets import find_encoder
from unimos_pipe.base.method_config import DEFAULT_VIEWS
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.feature_set import FeatureSet, with_weights
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.runs.read_recipe import check_recipe, load_recipe
from unimos_pipe.runs.recipe import Recipe


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with a definite protocol, and its features, which may not exist yet."""

    recipe: Recipe
    features: FeatureSet

    @property
    def dataset(self) -> DatasetSpec:
        """The recipe's data set."""
        return self.features.dataset


def resolve_recipe(
    recipe: str | Path | Recipe,
    *,
    cache: Path | None = None,
    pretrained: str | None = None,
    allow_torchscript: bool = False,
    encoder_id: str | None = None,
    seeds: int | None = None,
    protocol: str | None = None,
) -> ResolvedRecipe:
    """Read a recipe and resolve its features.

    Args:
        recipe: name of a recipe of the package, a ``.toml`` file, or a recipe.
        cache: None: ``$UNIMOS_CACHE``, otherwise the user's cache folder.
        pretrained: weights (a tag or a file) of the encoder; None: those of its preset.
        allow_torchscript: whether the weights may be a TorchScript archive that is not OpenAI's; it can run code.
        encoder_id: the features' folder in the cache, if several match.
        seeds, protocol: override those of the recipe.
    Raises:
        InputError: an unknown name, or all faults of the recipe.
    """
    if isinstance(recipe, Recipe):
        recipe, spec = check_recipe(asdict(recipe), f"recipe {recipe.name}")
    else:
        recipe, spec = load_recipe(str(recipe))
    recipe = replace(recipe, seeds=seeds or recipe.seeds, protocol=spec.protocol(protocol or recipe.protocol or None))
    name = recipe.encoder or spec.encoder
    encoder = replace(with_weights(find_encoder(name), pretrained, allow_torchscript), views=recipe.views)
    cache = cache or default_cache()
    has_views = recipe.views != DEFAULT_VIEWS
    chosen = encoder if pretrained or allow_torchscript or has_views else name
    described = None
    if recipe.descriptions:
        from unimos_pipe.data.descriptions import read_descriptions  # it takes a while

        described = read_descriptions(Path(recipe.descriptions), spec)
        recipe = replace(recipe, templates=(described.template,))
    call = extract_call(
        recipe.dataset,
        encoder=chosen,
        templates=recipe.templates,
        descriptions=recipe.descriptions or None,
        cache=cache,
    )
    named = bool(recipe.encoder or pretrained or has_views)
    features = FeatureSet(spec, encoder, recipe.templates, cache, call, encoder_id, named, described)
    return ResolvedRecipe(recipe, features)
