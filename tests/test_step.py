"""One training step: who learns from which term, options, and the momentum that products fill directly."""

import pytest
import torch
from made import made_batch, made_heads, made_task, small_method

from unimos_pipe.config import VARIANTS
from unimos_pipe.step import TERMS, Coefficients, in_terms, loss_parts, train_step

MODULES = {
    "G_vis": "vision_separator",
    "G_txt": "text_separator",
    "Phi_1": "bottleneck",
    "Phi_2": "classifier",
    "W": "weight_fc",
    "D": "disc_fc",
}
REACHED = {  # METHOD.md section 3.4; everything else is exactly zero
    "lac": {"G_txt"},
    "vac": {"G_vis", "Phi_1", "Phi_2", "W"},
    "im": {"G_vis", "Phi_1", "Phi_2", "W"},
    "ortho": {"G_vis", "G_txt"},
    "bce_source": {"G_vis", "G_txt", "D"},
    "bce_target": {"G_vis", "G_txt"},
}
CPU = torch.device("cpu")
TASK = made_task()


def loss_terms(heads, batch, coefficients, form) -> dict[str, torch.Tensor]:
    """The terms of METHOD.md by name, (R,) each."""
    return dict(zip(TERMS, in_terms(loss_parts(heads, batch, coefficients, form)[0]), strict=True))


def gradients(method, term: str | None = None) -> dict[str, torch.Tensor]:
    """Gradient of one term (or of all together) for every parameter of one fresh run, as the step computes it."""
    heads = made_heads(method)
    batch = made_batch(TASK, method)
    terms = loss_terms(heads, batch, Coefficients.of([method], torch.float64, CPU), method.loss)
    chosen = sum(terms.values()) if term is None else terms[term]
    if chosen.requires_grad:
        chosen.sum().backward()
    heads.update(torch.zeros(1, dtype=torch.float64))  # momentum was zero: it now holds the gradient
    return heads.momentum


@pytest.mark.parametrize("term", TERMS)
def test_gradient_reaches_exactly_the_modules_of_the_method(term):
    found = gradients(small_method(), term)
    for module, prefix in MODULES.items():
        tensors = [tensor for name, tensor in found.items() if name.startswith(prefix)]
        assert tensors
        if module in REACHED[term]:
            assert all(tensor.abs().max() > 0 for tensor in tensors), module
        else:
            assert all(tensor.abs().max() == 0 for tensor in tensors), module


def test_gradients_equal_plain_autograd():
    """The buffers that products fill directly hold what autograd would have computed, term by frozen term."""
    method = small_method()
    fused = gradients(method)
    heads = made_heads(method)
    heads.momentum, momentum = None, heads.momentum  # plain layers; BatchNorm would go to evaluation mode
    batch, c = made_batch(TASK, method), Coefficients.of([method], torch.float64, CPU)
    bn = torch.nn.functional.batch_norm

    def training_bn(x, mean, var, weight, bias, training, momentum, eps):
        return bn(x, mean, var, weight, bias, training=True, momentum=momentum, eps=eps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "batch_norm", training_bn)
        terms = loss_terms(heads, batch, c, method.loss)
    others = sum(loss for name, loss in terms.items() if name != "bce_target")
    params = heads.params
    plain = dict(zip(params, torch.autograd.grad(others.sum(), list(params.values()), retain_graph=True), strict=True))
    separators = [name for name in params if name.startswith(("vision", "text"))]
    frozen = torch.autograd.grad(terms["bce_target"].sum(), [params[name] for name in separators])
    for name, extra in zip(separators, frozen, strict=True):
        plain[name] = plain[name] + extra
    for name in momentum:
        assert torch.allclose(fused[name], plain[name], rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize(
    ("variant", "gone"),
    [
        ("full", {}),
        ("no-ortho", {"ortho": "all"}),
        ("no-im", {"im": "all"}),
        ("no-distill", {"lac": "part"}),
        ("no-discriminator", {"bce_source": "all", "bce_target": "all"}),
        ("fixed-weight", {}),
        ("no-debias", {}),
    ],
)
def test_a_variant_removes_exactly_its_term(variant, gone):
    full, method = small_method(), small_method(variant)
    batch = made_batch(TASK, full)
    values, changed = (
        loss_terms(made_heads(m), batch, Coefficients.of([m], torch.float64, CPU), m.loss) for m in (full, method)
    )
    for term in TERMS:
        if gone.get(term) == "all":
            assert changed[term].item() == 0 and values[term].item() != 0
            assert all(tensor.abs().max() == 0 for tensor in gradients(method, term).values())
        elif gone.get(term) == "part":  # the source cross-entropy stays
            assert 0 < changed[term].item() < values[term].item()
        elif variant == "fixed-weight" and term in ("vac", "im"):
            assert changed[term].item() != values[term].item()
        else:
            assert changed[term].item() == values[term].item()
    weight_learns = any(t.abs().max() > 0 for name, t in gradients(method).items() if name.startswith("weight_fc"))
    assert weight_learns == (variant != "fixed-weight")
    assert set(VARIANTS) == {"full", "no-ortho", "no-debias", "no-im", "no-distill", "fixed-weight", "no-discriminator"}


def test_one_step_is_sgd_with_momentum():
    """Two steps on the same batch: v1 = g1, v2 = 0.9 v1 + g2, and weights fall by lr v."""
    method = small_method(train__momentum=0.9)
    heads, batch = made_heads(method), made_batch(TASK, method)
    c, lr = Coefficients.of([method], torch.float64, CPU), torch.tensor([0.01], dtype=torch.float64)
    name = "text_separator.weight"
    start = heads.params[name].detach().clone()
    train_step(heads, batch, c, method.loss, lr)
    first = heads.momentum[name].clone()
    assert torch.allclose(heads.params[name], start - 0.01 * first, rtol=1e-12)
    middle = heads.params[name].detach().clone()
    fresh = made_heads(method)
    for key in fresh.params:
        fresh.params[key].data.copy_(heads.params[key].data)
    train_step(heads, batch, c, method.loss, lr)
    train_step(fresh, batch, c, method.loss, torch.zeros(1, dtype=torch.float64))  # its momentum is g2 alone
    assert torch.allclose(heads.momentum[name], 0.9 * first + fresh.momentum[name], rtol=1e-9)
    assert torch.allclose(heads.params[name], middle - 0.01 * heads.momentum[name], rtol=1e-12)


def test_label_prior_moves_by_its_momentum():
    method = small_method(train__prior_momentum=0.99)
    heads, batch = made_heads(method), made_batch(TASK, method)
    c = Coefficients.of([method], torch.float64, CPU)
    lac = heads.lac_logits(heads.lac(batch.x), batch.text)[:, 8:].softmax(-1).mean(1)
    train_step(heads, batch, c, method.loss, torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(heads.label_prior, 0.99 / 5 + 0.01 * lac.detach(), rtol=1e-12)


def terms_of(method, heads=None) -> dict[str, float]:
    heads = heads or made_heads(method)
    c = Coefficients.of([method], torch.float64, CPU)
    return {n: t.item() for n, t in loss_terms(heads, made_batch(TASK, method), c, method.loss).items()}


def test_paper_option_cosine_similarity():
    method = small_method(heads__similarity="cosine")
    heads, batch = made_heads(method), made_batch(TASK, method)
    f_lac = heads.lac(batch.x)
    wanted = 100 * torch.nn.functional.cosine_similarity(f_lac.unsqueeze(2), batch.text.unsqueeze(1), dim=-1)
    assert torch.allclose(heads.lac_logits(f_lac, batch.text), wanted, rtol=1e-9)


def test_paper_option_one_weight_per_row():
    """With one row per domain the mean over rows is the row's own weight; with more it is not."""
    scalar, rows = small_method(), small_method(loss__weight_per="row")
    c = Coefficients.of([scalar], torch.float64, CPU)
    one = [loss_terms(made_heads(m), made_batch(TASK, m, half=1), c, m.loss)["im"].item() for m in (scalar, rows)]
    assert one[0] == one[1]
    assert terms_of(scalar)["im"] != terms_of(rows)["im"]


def test_paper_option_debiased_ensemble_uses_the_prior_before_the_step():
    method = small_method(loss__train_ensemble="debiased")
    heads = made_heads(method)
    assert terms_of(method, heads)["vac"] == pytest.approx(terms_of(small_method())["vac"], rel=1e-9)  # uniform prior
    heads.label_prior.copy_(torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1]], dtype=torch.float64))
    skewed = terms_of(method, heads)["vac"]
    batch = made_batch(TASK, method)
    f_vac = heads.vac(batch.x)
    w = heads.ensemble_weight(f_vac[:, 8:]).mean()
    y_vac = heads.classify(heads.bottleneck(f_vac))
    text = heads.lac_logits(heads.lac(batch.x), batch.text)[:, 8:] - 0.5 * heads.label_prior.log()
    ensemble = (w * y_vac[:, 8:] + (1 - w) * text)[0]
    ce = torch.nn.functional.cross_entropy
    wanted = ce(y_vac[0, :8], batch.source_labels[0]) + ce(ensemble, batch.pseudo_labels[0])
    assert skewed == pytest.approx(wanted.item(), rel=1e-9)


def test_paper_option_matrix_orthogonality_is_per_domain():
    method = small_method(loss__ortho_form="matrix")
    heads, batch = made_heads(method), made_batch(TASK, method)
    f_lac, f_vac = heads.lac(batch.x)[0], heads.vac(batch.x)[0]
    wanted = sum((f_lac[half] @ f_vac[half].T).square().sum() for half in (slice(0, 8), slice(8, 16)))
    assert terms_of(method)["ortho"] == pytest.approx(0.01 * wanted.item(), rel=1e-9)
