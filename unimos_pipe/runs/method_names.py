"""Method names, importable without torch; used by commands, recipes, folders and reports."""

UNIMOS = "unimos"
UNIMOS_NAME = "UniMoS"  # for readers
AUTO = "auto"  # one of the quick methods, chosen without target labels
QUICK = (
    "zero-shot", "source-probe", "fused", "stacked", "gda", "stata", "stata-fused", "zlap", "linear-im", "ensemble3",
)  # fmt: skip
METHODS = (UNIMOS, *QUICK, AUTO)
CITATIONS = {  # whom to cite for each
    UNIMOS: "Li et al., Split to Merge: Unifying Separated Modalities for Unsupervised Domain Adaptation, CVPR 2024, "
    "arXiv 2403.06946",
    "zero-shot": "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, "
    "arXiv 2103.00020",
    "source-probe": "the linear probe of Radford et al., ICML 2021, arXiv 2103.00020",
    "fused": "unimos-pipe's own: zero-shot and source-probe averaged",
    "stacked": "unimos-pipe's own: zero-shot and source-probe with the weights that fit the source best",
    "gda": "Wang et al., A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation, ICLR 2024, arXiv 2402.04087",
    "stata": "Zanella et al., Realistic Test-Time Adaptation of Vision-Language Models, CVPR 2025, arXiv 2501.03729",
    "stata-fused": "stata (arXiv 2501.03729), started from unimos-pipe's own fused",
    "zlap": "Stojnić et al., Label Propagation for Zero-shot Classification with Vision-Language Models, CVPR 2024, "
    "arXiv 2404.04072",
    "linear-im": "information maximisation of Shi and Sha, ICML 2012, as in Liang et al., Do We Really Need to Access "
    "the Source Data?, ICML 2020, arXiv 2002.08546, on a linear head",
    "ensemble3": "unimos-pipe's own: the mean of fused, stata-fused and linear-im",
    AUTO: "unimos-pipe's own choice among linear-im, ensemble3 and stata-fused",
}
TARGET_ONLY = (
    "stata",
    "stata-fused",
    "zlap",
    "ensemble3",
)  # transductive: they predict only the rows they were fitted on
ESTIMATE_ERROR = "of auto's answers half of 54 trial pairs lay within 5 points, 90% within 10, the worst 20 off"
ESTIMATE_WITHIN = "90% of trials lay within 10 points"  # the same, where there is little room
LABEL_SETS = ("closed", "partial")  # the target has every class of the source, or only some (partial-set adaptation)


def protocol_fault(method: str, protocol: str) -> str | None:
    """Why a method cannot make runs of a protocol, or None."""
    if protocol == "transductive" or method not in (*TARGET_ONLY, AUTO):
        return None
    whose = "auto may select a method that predicts" if method == AUTO else f"{method} predicts"
    return f"{whose} only the rows it was fitted on, and an inductive run scores others; use protocol transductive"
