"""Review of a run's photos in a browser."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.errors import Call
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.photos.review_session import ReviewScores, ReviewSession
from unimos_pipe.photos.run_photos import load_run_photos
from unimos_pipe.runs.run_calls import adapt_again_calls


@dataclass(frozen=True)
class ReviewResult:
    """Result of :func:`review_photos`: the label file, decisions of this session, scores of all labels, its end."""

    labels: Path
    decisions: int
    scores: ReviewScores
    finished: bool  # the page asked to adapt again; False: ended by Ctrl-C
    calls: tuple[Call, ...]  # that adapt again with the labels


def review_photos(
    run: str | Path,
    *,
    root: str | Path | None = None,
    cache: Path | None = None,
    port: int = 0,
    format_call: Callable[[Call], str] = str,
    on_ready: Callable[[str], None] = lambda address: None,
) -> ReviewResult:
    """Serve a page on 127.0.0.1 to label the photos of a run's target, until Ctrl-C or its button.

    Every decision is saved to the domain's label file at once.

    Args:
        run: folder of a finished run.
        root: folder of the photos; None takes what the data set's spec names.
        cache: where thumbnails and embedded images go.
        port: of the page; 0 takes a free one.
        format_call: how the page shows the calls that adapt again; Python by default.
        on_ready: called with the page's address, which holds a secret token.
    Raises:
        InputError: missing packages, no finished run, no photos, no label file, or a port in use.
    """
    require_extra("review", "serve")

    from unimos_pipe.photos.review_server import ReviewServer  # of the extra [serve]

    check_writable_folder(cache or default_cache(), "cache")
    session = ReviewSession(load_run_photos(Path(run), Path(root) if root else None, cache))
    calls = tuple(adapt_again_calls(session.photos.run, cache))
    server = ReviewServer(session, cache or default_cache(), [format_call(call) for call in calls], port)
    on_ready(server.address)
    try:
        server.serve()
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # SIGTERM
            raise
    session.changes_since(0)
    return ReviewResult(session.photos.labels.path, session.decisions, session.scores(), server.finished, calls)
