"""The formats of feature files stand in the help and in the README as the readers have them."""

from unimos_pipe.cli.cache_import_export import import_command
from unimos_pipe.data.dataset_spec import PACKAGE
from unimos_pipe.interop.array_readers import ARRAY_READERS


def test_help_and_readme_list_every_format():
    readme = (PACKAGE / "interop" / "README.md").read_text(encoding="utf-8")
    assert f"FEATURES: {' '.join(ARRAY_READERS)} of" in import_command.help
    assert [suffix for suffix in ARRAY_READERS if f"`{suffix}`" not in readme] == []
