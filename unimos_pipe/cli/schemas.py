"""The JSON Schema of what each command answers with ``--json``; ``--json-schema`` prints one.

Accuracies and other shares are fractions, sizes bytes, times seconds. What there is none of is null, and so is a number
that is not finite. Within one ``format`` names and meanings stay and new ones may join.
"""

from unimos_pipe.cli.schema_builders import (
    ANY,
    COUNT,
    FLAG,
    NUMBER,
    SHARE,
    TEXT,
    Schema,
    by_name,
    document,
    many,
    maybe,
    record,
    record_of,
)
from unimos_pipe.runs.run_values import RunMetrics

_MEAN = record("mean, and standard deviation of the seeds' means where there are several", mean=NUMBER, std=NUMBER)
_RESULT = record_of(RunMetrics, "of the run's result.json")
_RUN = record(
    "one run: a result, or the error that says why there is none",
    folder=TEXT,
    reused={**FLAG, "description": "finished before"},
    changed_code={**many(TEXT), "description": "of a reused run: modules whose source has changed since"},
    error=maybe(TEXT),
    spec=record(
        "what shaped it",
        dataset=TEXT,
        encoder_id=TEXT,
        source=TEXT,
        target=TEXT,
        protocol=TEXT,
        method=TEXT,
        variant=TEXT,
        seed=COUNT,
        label=TEXT,
        changed=by_name(ANY, "option that is not the variant's own"),
    ),
    result=maybe(_RESULT),
)
_ROW = record(
    "a row of the table; the mean is over pairs, null where there is no figure",
    label=TEXT,
    values=by_name(by_name(NUMBER, "seed"), "pair, source->target"),
    mean=maybe(_MEAN),
    published_average={**NUMBER, "description": "of a published row"},
    seconds={**NUMBER, "description": "that a run took in the mean"},
    estimate_mae={**NUMBER, "description": "mean distance of estimated to true accuracy"},
)
_SWEEP: Schema = {
    "title": TEXT,
    "folder": TEXT,
    "protocol": TEXT,
    "metric": maybe(TEXT),
    "pairs": many(TEXT),
    "rows": many(_ROW),
    "published": many(_ROW),
    "runs": many(_RUN),
}
_SWEEP_PLAN: Schema = {
    "runs": COUNT,
    "finished": COUNT,
    "changed": {**COUNT, "description": "finished runs that were made by other code than is here"},
    "stacks": COUNT,
    "steps": COUNT,
    "seconds": NUMBER,
    "calibration_runs": {**COUNT, "description": "runs that calibrate others"},
    "fits": {**COUNT, "description": "unfinished runs of other methods than UniMoS"},
}
_EXTRACTED = record(
    "stage one",
    folder=TEXT,
    precision=TEXT,
    batch_size=COUNT,
    warnings=many(TEXT),
    reports=many(
        record(
            "a domain or split",
            domain=TEXT,
            rows=COUNT,
            encoded=COUNT,
            reused=COUNT,
            shared=by_name({**COUNT, "description": "rows copied from the cache of other domains"}, "data set"),
            seconds=NUMBER,
        )
    ),
)
_PAGE = {"page": TEXT, "runs": COUNT, "skipped": many(TEXT), "seconds": NUMBER}
_RECIPE_PLAN = record(
    "both stages before the features exist; null if not known yet",
    missing=many(TEXT),
    images=maybe(COUNT),
    cache_bytes=maybe(COUNT),
    encode_seconds=NUMBER,
    runs=COUNT,
    train_seconds=NUMBER,
    device=TEXT,
    problem={**maybe(TEXT), "description": "why the images cannot be read; counts are then the published ones"},
    unexpected_counts=many(TEXT),
)
_ENTRIES = many(
    record(
        'a folder of the cache; the domain "text" is an encoder\'s prompts',
        folder=TEXT,
        dataset=TEXT,
        encoder_id=TEXT,
        domain=TEXT,
        shards=COUNT,
        rows=COUNT,
        bytes=COUNT,
        state={**TEXT, "description": '"complete", or what is wrong at first sight'},
    )
)
_DIFFERENCE = record(
    "from the first folder: mean over pairs, its 95% interval, p of the t-test, by Holm, and of Wilcoxon's test",
    mean=NUMBER,
    interval=maybe(many(NUMBER)),
    p=NUMBER,
    p_holm=NUMBER,
    p_wilcoxon=NUMBER,
)
_RATES = record(
    "images/s of one round; written is bytes/s", bare=NUMBER, decode=NUMBER, end_to_end=NUMBER, written=NUMBER
)
_SIZE = record("of the task", source_rows=COUNT, target_rows=COUNT, dim=COUNT, classes=COUNT)
_TURNS = record("seconds per run and minor page faults per step", name=TEXT, seconds=many(NUMBER), faults=many(NUMBER))

SCHEMAS: dict[str, Schema] = {  # by the words of the command
    "adapt": document(
        "runs in the order of their seeds; mean of their published figure where several have one",
        runs=many(_RUN),
        mean=maybe(_MEAN),
    ),
    "rerun": document(
        "runs repeated from their folders; differing are the files whose bytes differ",
        runs=many(
            record(
                "a run; accuracy: first, and again",
                folder=TEXT,
                differing=many(TEXT),
                accuracy=many(SHARE),
                error=maybe(TEXT),
                changed_code=many(TEXT),
            )
        ),
    ),
    "compare": document(
        "folders of runs held against the first: rows by setting, and (what, value in each folder) of all that differs",
        names=many(TEXT),
        rows=many(record("a setting", setting=TEXT, pairs=COUNT, means=many(SHARE), differences=many(_DIFFERENCE))),
        changes=many({}),
        skipped=many(TEXT),
    ),
    "sweep": document("a sweep's table and runs", **_SWEEP),
    "sweep --dry-run": document("what a sweep would do", **_SWEEP_PLAN),
    "run": document(
        "a recipe from images to its report; extracted is null where nothing was missing, report where none was made",
        extracted=maybe(_EXTRACTED),
        sweep=record("the sweep", **_SWEEP),
        report=maybe(record("the page", **_PAGE)),
    ),
    "run --dry-run": document(
        "what it would do: recipe where features are missing, else sweep",
        recipe=maybe(_RECIPE_PLAN),
        sweep=maybe(record("stage two alone", **_SWEEP_PLAN)),
    ),
    "predict": document(
        "the table that was written; name, labelled and accuracy are those of a cached domain",
        table=TEXT,
        rows=COUNT,
        unreadable=many(record("an image without an answer", name=TEXT, reason=TEXT)),
        name=TEXT,
        labelled=COUNT,
        accuracy=SHARE,
    ),
    "cache ls": document("what the cache holds", cache=TEXT, entries=_ENTRIES),
    "cache verify": document(
        "what was looked at, and everything wrong with it", cache=TEXT, entries=_ENTRIES, problems=many(TEXT)
    ),
    "report": document("the page; skipped says which folders are left out, and why", **_PAGE),
    "encoder ls": document(
        "encoder presets, and the names of encoders from outside the package",
        encoders=many(
            record(
                "a preset; cached says whether its weights are on this machine",
                name=TEXT,
                model=TEXT,
                pretrained=TEXT,
                image_size=COUNT,
                dim=COUNT,
                context_length=COUNT,
                licence=TEXT,
                cached=FLAG,
            )
        ),
        outside=many(TEXT),
    ),
    "manifest show": document(
        "a data set; layout is null where the images are embedded, images 0 where their number is not known",
        dataset=record(
            "the data set",
            name=TEXT,
            title=TEXT,
            source=TEXT,
            terms=TEXT,
            classes=many(TEXT),
            domains=by_name(record("a domain", word=TEXT, images=COUNT), "domain"),
        ),
        layout=maybe(TEXT),
    ),
    "manifest ls": document(
        "the data sets that come with unimos-pipe",
        datasets=many(
            record(
                "a data set",
                name=TEXT,
                title=TEXT,
                classes=many(TEXT),
                domains=many(TEXT),
                protocol=TEXT,
                metric=TEXT,
                encoder=TEXT,
                embedded={**TEXT, "description": "empty where the images are yours to fetch"},
                source=TEXT,
                terms=TEXT,
            )
        ),
    ),
    "manifest check": document(
        "findings, the serious ones first; faults counts the places where extract would stumble",
        dataset=record("the data set", name=TEXT),
        rows=COUNT,
        faults=COUNT,
        findings=many(record("a kind of fault or oddity", kind=TEXT, serious=FLAG, places=many(TEXT))),
    ),
    "bench extract": document(
        "stage one; bound is what decoding and encoding allow, share the median of end to end / bare",
        rounds=many(_RATES),
        bound=NUMBER,
        share=NUMBER,
        on_cpu=FLAG,
        resident_bytes=COUNT,
        gpu_bytes=COUNT,
        speedup=maybe(
            record(
                "images/s of extract, of the simple loop and of the tuned loop, in every round",
                images=COUNT,
                batch=COUNT,
                rates=many(many(NUMBER)),
                cosine=NUMBER,
                tuned={**TEXT, "description": "precision, memory format and workers of the tuned loop"},
            )
        ),
    ),
    "bench store": document(
        "to load and verify a domain, and to read the same bytes, once per round; ratio is the median's",
        load=many(NUMBER),
        raw_read=many(NUMBER),
        ratio=NUMBER,
    ),
    "bench memory": document(
        "memory of each stage at its peak as the data grows",
        trials=many(record("a process of its own", name=TEXT, peak_bytes=COUNT, seconds=NUMBER)),
    ),
    "bench adapt --compare-rounds": document(
        "epochs in turn, a number per round; load averages before and after; cores of this process",
        size=_SIZE,
        device=TEXT,
        reference=_TURNS,
        stacks=many(_TURNS),
        load=many(NUMBER),
        cores_used=NUMBER,
        cores=COUNT,
    ),
    "bench methods": document(
        "methods on labelled features; fractions, but seconds; null where nothing is estimated",
        results=many(
            record(
                "a method on a variant of a pair",
                dataset=TEXT,
                variant=TEXT,
                pair=TEXT,
                method=TEXT,
                source_rows=COUNT,
                target_rows=COUNT,
                accuracy=SHARE,
                regret=NUMBER,
                gain={**NUMBER, "description": "over zero-shot"},
                estimate=SHARE,
                low=SHARE,
                high=SHARE,
                ece=SHARE,
                ece_matched=SHARE,
                seconds=NUMBER,
            )
        ),
    ),
    "bench adapt": document(
        "stage two on random features",
        size=_SIZE,
        device=TEXT,
        times=record(
            "rates in FLOP/s; step_rate is a lone step's share of the matrix-product rate",
            matmul_rate=NUMBER,
            step_flops=COUNT,
            step=NUMBER,
            step_rate=NUMBER,
            epoch=NUMBER,
            evaluation=NUMBER,
            runs_per_second=by_name(NUMBER, "stack size"),
            peak_memory=COUNT,
        ),
        shares=by_name(SHARE, "operator: its share of a lone step; empty without --profile"),
    ),
}
