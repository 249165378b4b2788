"""auto: the average and its parts, centring by hand, and the head that predicts new rows."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from factories.tasks import random_task

from unimos_pipe.methods import auto, fused, stata, zero_shot
from unimos_pipe.methods.auto import center_task, fit_auto, fit_head
from unimos_pipe.methods.ensemble3 import average_logits
from unimos_pipe.methods.stacked import fit_stacked
from unimos_pipe.methods.task import LabelledFeatures

TASK = random_task()


def centered_rows(rows: list[list[float]]) -> torch.Tensor:
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    apart = [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]
    return torch.tensor([[value / sum(v * v for v in row) ** 0.5 for value in row] for row in apart]).double()


def test_each_domain_and_the_prompts_lose_their_mean():
    found = center_task(TASK)
    pairs = (
        (found.source.features, TASK.source.features),
        (found.target.features, TASK.target.features),
        (found.text_features, TASK.text_features),
    )
    for ours, rows in pairs:
        torch.testing.assert_close(ours, centered_rows(rows.tolist()), atol=1e-6, rtol=0)  # the loop is in float32
    assert torch.equal(found.source.labels, TASK.source.labels)


def test_every_domain_of_a_source_loses_its_own_mean():
    origins = (torch.arange(40) >= 8).long()
    found = center_task(replace(TASK, source=replace(TASK.source, origins=origins))).source.features
    first = center_task(replace(TASK, source=LabelledFeatures(TASK.source.features[:8], TASK.source.labels[:8])))
    torch.testing.assert_close(found[:8], first.source.features)


@pytest.mark.parametrize("said", [None, "closed", "partial"])
def test_the_average_is_that_of_its_parts(monkeypatch, said):
    averaged = []
    monkeypatch.setattr(auto, "fit_head", lambda task, average: averaged.append(average) or fit_head(task, average))
    fit_auto(TASK, said)
    centered = center_task(TASK)
    stacked = fit_stacked(centered)
    starts = stacked.model, fused.fit_model(centered, stacked.probe.model)
    anchors = [stata.fit_from_logits(centered, model.logits(centered.target.features)).logits for model in starts]
    parts = [zero_shot.fit(TASK).logits, *anchors]
    parts += [stata.fit_from_fused(TASK).logits] if said == "partial" else []
    assert torch.equal(averaged[0], average_logits(parts))


def test_the_head_predicts_as_the_average_does():
    found = fit_auto(TASK)
    assert found.head_agreement >= 0.95
    assert torch.equal(found.output.model.logits(TASK.target.features), found.output.logits)
    average = average_logits([zero_shot.fit(TASK).logits, *auto.fit_centered_anchors(TASK)])
    same = (found.output.classes == average.argmax(-1)).double().mean()
    assert found.head_agreement == float(same)


def test_the_heads_loss_is_level_where_it_is_fitted():
    """The gradient of mean CE + 1e-5 ||W - W0||^2 is below the tolerance; W0 is the prompts' of deviation 6."""
    average = average_logits([zero_shot.fit(TASK).logits, stata.fit(TASK).logits])
    model = fit_head(TASK, average)
    rows, text = TASK.target.features, TASK.text_features.mT - TASK.text_features.mean(0).unsqueeze(-1)
    start = 6 / (rows @ text).std(correction=0) * text
    wanted, found = (6 * average).softmax(-1), model.logits(rows).softmax(-1)
    gradient = rows.mT @ (found - wanted) / len(rows) + 2e-5 * (model.weight - start)
    assert gradient.abs().max() < 1e-5 and (found - wanted).mean(0).abs().max() < 1e-5
    assert (model.weight - start).abs().max() > 0.1


def test_of_many_rows_the_head_is_fitted_to_evenly_spaced_ones(monkeypatch):
    average = zero_shot.fit(TASK).logits
    monkeypatch.setattr(auto, "MAX_HEAD_ROWS", 12)
    drawn = replace(TASK, target=replace(TASK.target, features=TASK.target.features[::5]))
    torch.testing.assert_close(fit_head(TASK, average).weight, fit_head(drawn, average[::5]).weight)


def test_the_reason_counts_the_rows_that_text_alone_would_give_another_class():
    found = fit_auto(TASK)
    same = (found.output.classes == zero_shot.fit(TASK).classes).double().mean()
    assert found.text_agreement == float(same)
    percent = round(100 * float(same))
    assert found.reason == (
        f"{percent}% of the images keep the class that the text alone gives them; for the other {100 - percent}% "
        "your labelled images and the images most like them said otherwise"
    )


def test_a_row_at_the_mean_stays_finite():
    rows = F.normalize(torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]]).double(), dim=-1)
    task = random_task(dim=2, classes=2)
    found = fit_auto(replace(task, target=replace(task.target, features=rows.repeat(12, 1))))
    assert found.output.logits.isfinite().all()
