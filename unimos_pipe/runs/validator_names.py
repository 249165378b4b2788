"""Names of label-free validators, in the order of tables; evaluation/ computes their scores."""

EPOCH_VALIDATORS = ("im", "entropy", "bnm", "snd", "source")  # scored at every epoch of UniMoS
VALIDATORS = (*EPOCH_VALIDATORS, "rankme", "agreement")  # scored at the last epoch of every method; in runs.csv
ENSV = "ensv"  # compares runs with each other, so that a run alone has no score
SELECTION_VALIDATORS = (*VALIDATORS, ENSV)  # select the configuration of a grid
