"""The methods by name, where no torch is: what commands, recipes, folders and reports call them."""

UNIMOS = "unimos"
AUTO = "auto"  # one of the quick methods, chosen without target labels
QUICK = ("zero-shot", "source-probe", "fused", "gda", "stata", "stata-fused", "zlap", "linear-im", "trio")
METHODS = (UNIMOS, *QUICK, AUTO)
TARGET_ONLY = ("stata", "stata-fused", "zlap", "trio")  # they answer the rows they were fitted on and no others
ESTIMATE_ERROR = "of auto's answers half of 54 trial pairs lay within 5 points, 90% within 10, the worst 20 off"
TARGET_CLASSES = ("all", "some")  # of the classes: those that occur in the target


def protocol_fault(method: str, protocol: str) -> str | None:
    """Why a method cannot make runs of a protocol, or None."""
    if protocol == "transductive" or method not in (*TARGET_ONLY, AUTO):
        return None
    whose = "auto may take a method that answers" if method == AUTO else f"{method} answers"
    return f"{whose} only the rows it was fitted on, and an inductive run scores others; take protocol transductive"
