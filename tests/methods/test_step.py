"""One training step: who learns from which term, options, and the momentum that products fill directly."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from factories.tasks import made_batch, made_heads, random_task, small_method

from unimos_pipe.base.method_config import OUR_VARIANTS, VARIANTS
from unimos_pipe.methods.unimos.loss_terms import LOSSES, TERMS
from unimos_pipe.methods.unimos.manual_backward import bottleneck, classify, ensemble_weight
from unimos_pipe.methods.unimos.stack_key import Coefficients, StackKey
from unimos_pipe.methods.unimos.step import train_step

# float64, one step: gradients are sums of some hundred terms up to 100 (1 / temperature), which round to 1e-13;
# 1e-12 absolute and 1e-9 relative are wide of that.
pytestmark = pytest.mark.numerical
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
    "mcc": {"G_vis", "Phi_1", "Phi_2", "W"},
}
CPU = torch.device("cpu")
TASK = random_task()


def coefficients_of(method, term: str | None = None, runs: int = 1) -> Coefficients:
    """The method's coefficients; with ``term``, only its losses have a weight."""
    c = Coefficients.create([method] * runs, torch.float64, CPU)
    kept = torch.tensor([[float(term in (None, LOSSES[name].term))] for name in c.losses])
    return replace(c, weights=c.weights * kept)


def form_of(method) -> StackKey:
    return StackKey.create(method, 8, 5, 16)


def loss_terms(heads, batch, method) -> dict[str, torch.Tensor]:
    """The terms of METHOD.md by name, (R,) each."""
    still = torch.zeros(len(batch.x), dtype=torch.float64)
    found = train_step(heads, batch, coefficients_of(method, runs=len(batch.x)), form_of(method), still)
    return dict(zip(TERMS, found.T, strict=False))


def gradients(method, term: str | None = None) -> dict[str, torch.Tensor]:
    """Gradient of one term (or of all together) for every parameter of one fresh run, as the step computes it."""
    heads = made_heads(method)
    lr = torch.zeros(1, dtype=torch.float64)
    train_step(heads, made_batch(TASK, method), coefficients_of(method, term), form_of(method), lr)
    return heads.momentum  # it was zero: it now holds the gradient


@pytest.mark.parametrize("term", TERMS)
def test_gradient_reaches_exactly_the_modules_of_the_method(term):
    found = gradients(small_method(loss__mcc=0.3), term)
    for module, prefix in MODULES.items():
        tensors = [tensor for name, tensor in found.items() if name.startswith(prefix)]
        assert tensors
        if module in REACHED[term]:
            assert all(tensor.abs().max() > 0 for tensor in tensors), module
        else:
            assert all(tensor.abs().max() == 0 for tensor in tensors), module


def written_with_autograd(params, x, labels, pseudo, text, keep, prior, method) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of METHOD.md section 3 for one run, from torch's own functions: all but bce_target, and bce_target."""
    p, spec, loss = params, method.heads, method.loss
    half = len(x) // 2

    def layer(name, rows):
        return F.linear(rows, p[f"{name}.weight"], p[f"{name}.bias"])

    vac, lac = layer("vision_separator", x), layer("text_separator", x)
    hidden = layer("bottleneck_linear", vac)
    hidden = F.batch_norm(hidden, None, None, p["bottleneck_bn.weight"], p["bottleneck_bn.bias"], training=True)
    y_vac = F.linear(
        hidden, torch._weight_norm(p["classifier.weight_v"], p["classifier.weight_g"]), p["classifier.bias"]
    )
    y_lac = 100 * (F.normalize(lac, dim=-1) if spec.similarity == "cosine" else lac) @ text.T
    w = torch.sigmoid(layer("weight_fc2", layer("weight_fc1", vac[half:])))
    w = w if loss.weight_per == "row" else w.mean()
    w = 0.5 if loss.ensemble_weight == "fixed" else w
    fixed = y_lac[half:].detach() - (0.5 * prior.log() if loss.train_ensemble == "debiased" else 0)
    ensemble = w * y_vac[half:] + (1 - w) * fixed
    rows = ensemble.softmax(-1)

    def entropy(q):
        return -(q * (q + 1e-5).log()).sum(-1)

    if loss.ortho_form == "rows":
        ortho = (vac * lac).sum(-1).square().sum()
    else:
        ortho = sum((lac[part] @ vac[part].T).square().sum() for part in (slice(0, half), slice(half, None)))

    def bce(part, multipliers):
        both = torch.cat([vac[part], lac[part]])
        hidden = F.relu(layer("disc_fc1", both)) * multipliers
        truth = torch.arange(2).repeat_interleave(half).to(x.dtype).unsqueeze(-1)
        return F.binary_cross_entropy_with_logits(layer("disc_fc2", hidden), truth)

    student, teacher = y_lac[half:].log_softmax(-1), (100 * x[half:] @ text.T).log_softmax(-1)
    others = (
        loss.alpha * F.cross_entropy(y_lac[:half], labels)
        + loss.distill * F.kl_div(teacher, student, reduction="batchmean", log_target=True)
        + loss.beta * F.cross_entropy(y_vac[:half], labels)
        + F.cross_entropy(ensemble, pseudo)
        + loss.im * (entropy(rows).mean() - entropy(rows.mean(0)))
        + loss.gamma * (loss.ortho * ortho + loss.discriminator * bce(slice(0, half), keep[: 2 * half]))
    )
    return others, loss.gamma * loss.discriminator * bce(slice(half, None), keep[2 * half :])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads__similarity": "cosine"},
        {"loss__ortho_form": "matrix"},
        {"loss__weight_per": "row"},
        {"loss__train_ensemble": "debiased"},
        {"loss__ensemble_weight": "fixed", "loss__alpha": 0.3, "loss__beta": 0.2, "loss__gamma": 0.7},
    ],
    ids=str,
)
def test_gradients_equal_autograds(options):
    """Two different runs in one stack, term by frozen term, against torch's own layers, losses and chain rule."""
    method, runs = small_method(**({"loss__gamma": 0.05} | options)), 2
    heads = made_heads(method, runs=runs)
    heads.label_prior = F.normalize(torch.rand(runs, 5, dtype=torch.float64, generator=seeded(1)), p=1, dim=-1)
    keep = (torch.rand(runs, 32, 9, generator=seeded(2)) < 0.5).double()
    batch = replace(made_batch(TASK, method, runs=runs), dropout_mask=keep)
    wanted = []
    for run in range(runs):
        params = {name: tensor[run].clone().requires_grad_() for name, tensor in heads.params.items()}
        others, frozen = written_with_autograd(
            params, batch.x[run], batch.source_labels[run], batch.pseudo_labels[run], batch.text[run], 2 * keep[run],
            heads.label_prior[run], method,
        )  # fmt: skip
        others.backward(retain_graph=True)
        separators = {name: params[name] for name in params if name.startswith(("vision", "text"))}
        extra = torch.autograd.grad(frozen, list(separators.values()))  # the target's rows teach no discriminator
        for name, more in zip(separators, extra, strict=True):
            params[name].grad += more
        wanted.append(params)
    train_step(
        heads, batch, coefficients_of(method, runs=runs), form_of(method), torch.zeros(runs, dtype=torch.float64)
    )
    for run in range(runs):
        for name, tensor in wanted[run].items():
            plain = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            assert torch.allclose(heads.momentum[name][run], plain, rtol=1e-9, atol=1e-12), name


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
        ("fused-teacher", {}),  # its text comes with the batch
    ],
)
def test_a_variant_removes_exactly_its_term(variant, gone):
    full, method = small_method(), small_method(variant)
    batch = made_batch(TASK, full)
    values, changed = (loss_terms(made_heads(m), batch, m) for m in (full, method))
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
    ablations = {"no-ortho", "no-debias", "no-im", "no-distill", "fixed-weight", "no-discriminator"}
    assert set(VARIANTS) == {"full", *ablations, *OUR_VARIANTS}


def test_one_step_is_sgd_with_momentum():
    """Two steps on the same batch: v1 = g1, v2 = 0.9 v1 + g2, and weights fall by lr v."""
    method = small_method(train__momentum=0.9)
    heads, batch = made_heads(method), made_batch(TASK, method)
    c, lr = Coefficients.create([method], torch.float64, CPU), torch.tensor([0.01], dtype=torch.float64)
    name = "text_separator.weight"
    start = heads.params[name].detach().clone()
    train_step(heads, batch, c, form_of(method), lr)
    first = heads.momentum[name].clone()
    assert torch.allclose(heads.params[name], start - 0.01 * first, rtol=1e-12)
    middle = heads.params[name].detach().clone()
    fresh = made_heads(method)
    for key in fresh.params:
        fresh.params[key].data.copy_(heads.params[key].data)
    train_step(heads, batch, c, form_of(method), lr)
    train_step(fresh, batch, c, form_of(method), torch.zeros(1, dtype=torch.float64))  # its momentum is g2 alone
    assert torch.allclose(heads.momentum[name], 0.9 * first + fresh.momentum[name], rtol=1e-9)
    assert torch.allclose(heads.params[name], middle - 0.01 * heads.momentum[name], rtol=1e-12)


def test_label_prior_moves_by_its_momentum():
    method = small_method(train__prior_momentum=0.99)
    heads, batch = made_heads(method), made_batch(TASK, method)
    c = Coefficients.create([method], torch.float64, CPU)
    lac = heads.lac_logits(heads.lac(batch.x), batch.text)[:, 8:].softmax(-1).mean(1)
    train_step(heads, batch, c, form_of(method), torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(heads.label_prior, 0.99 / 5 + 0.01 * lac.detach(), rtol=1e-12)


def terms_of(method, heads=None) -> dict[str, float]:
    return {n: t.item() for n, t in loss_terms(heads or made_heads(method), made_batch(TASK, method), method).items()}


def test_paper_option_cosine_similarity():
    method = small_method(heads__similarity="cosine")
    heads, batch = made_heads(method), made_batch(TASK, method)
    f_lac = heads.lac(batch.x)
    wanted = 100 * torch.nn.functional.cosine_similarity(f_lac.unsqueeze(2), batch.text.unsqueeze(1), dim=-1)
    assert torch.allclose(heads.lac_logits(f_lac, batch.text), wanted, rtol=1e-9)


def test_paper_option_one_weight_per_row():
    """With one row per domain the mean over rows is the row's own weight; with more it is not."""
    scalar, rows = small_method(), small_method(loss__weight_per="row")
    one = [loss_terms(made_heads(m), made_batch(TASK, m, half=1), m)["vac"].item() for m in (scalar, rows)]
    assert one[0] == pytest.approx(one[1], rel=1e-12)  # some thousand epsilons; a dozen sums of 16 terms
    assert terms_of(scalar)["im"] != terms_of(rows)["im"]


def test_paper_option_debiased_ensemble_uses_the_prior_before_the_step():
    method = small_method(loss__train_ensemble="debiased")
    heads = made_heads(method)
    assert terms_of(method, heads)["vac"] == pytest.approx(terms_of(small_method())["vac"], rel=1e-9)  # uniform prior
    prior = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1]], dtype=torch.float64)
    heads.label_prior.copy_(prior)
    skewed = terms_of(method, heads)["vac"]
    batch = made_batch(TASK, method)
    f_vac = heads.vac(batch.x)
    w = ensemble_weight(heads, f_vac[:, 8:])[0].mean()
    y_vac = classify(heads, bottleneck(heads, f_vac)[0])[0]
    text = heads.lac_logits(heads.lac(batch.x), batch.text)[:, 8:] - 0.5 * prior.log()
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
