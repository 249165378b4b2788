"""Description of a data set's folder layout."""

from unimos_pipe.data.dataset_spec import DatasetSpec, DomainSpec


def expected_layout(spec: DatasetSpec) -> str:
    """Return the required layout of a data root, in a line."""
    names = []
    for domain in spec.domains.values():
        if not domain.root:
            lists = [f"{folder_prefix(domain)}{file[0]}" for file in (domain.list, domain.train, domain.test) if file]
            names += lists or [domain.folder[0]]
    first = next(iter(spec.domains.values()))
    if first.train:
        example = f"{next(iter(spec.domains))}/{spec.classes[0]}/<image>, as the lists name them"
    else:
        example = f"{folder_prefix(first)}{spec.classes[0] + '/' if first.labels == 'folders' else ''}<image>"
    return f"a folder ROOT that holds {', '.join(names)}; images such as ROOT/{example}"


def folder_prefix(domain: DomainSpec) -> str:
    """Return the domain's folder as a prefix: ``Art/``, or empty for the data root itself."""
    return "" if domain.folder[0] == "." else f"{domain.folder[0]}/"
