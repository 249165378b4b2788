"""Random draws: whole shuffled passes, even ones over several domains, honest dropout, and states that go on."""

import torch
from factories.tasks import SMALL

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.methods.unimos.random_streams import RandomStreams, dropout_scale

HEADS = method_spec("full", SMALL).heads


def test_a_pass_visits_each_row_at_most_once_in_whole_batches():
    draws = RandomStreams(0, 25, 70, 8)
    source, target = draws.next_batches(8)
    assert source.shape == target.shape == (8, 8)
    for first in (0, 3):  # a pass over 25 rows is 3 batches, one row left out
        assert len(set(source[first : first + 3].flatten().tolist())) == 24
    assert set(source.flatten().tolist()) == set(range(25))
    assert len(set(target.flatten().tolist())) == 64  # 8 of the 8 whole batches of 70 rows


def test_draws_do_not_depend_on_how_many_are_asked_for_at_once():
    one, other = RandomStreams(5, 40, 56, 8), RandomStreams(5, 40, 56, 8)
    whole = one.next_batches(12)
    parts = [other.next_batches(steps) for steps in (5, 1, 6)]
    for side in range(2):
        assert whole[side].equal(torch.cat([part[side] for part in parts]))
    masks = one.draw_dropout_mask(6, 32, 9, 0.5)
    assert masks.equal(torch.cat([other.draw_dropout_mask(2, 32, 9, 0.5), other.draw_dropout_mask(4, 32, 9, 0.5)]))


def test_seeds_differ_in_everything_and_repeat_exactly():
    a, b, again = (RandomStreams(seed, 40, 56, 8) for seed in (1, 2, 1))
    assert not a.next_batches(5)[0].equal(b.next_batches(5)[0])
    weights = [draws.draw_parameters(16, 5, HEADS)["text_separator.weight"] for draws in (a, b, again)]
    assert weights[0].equal(weights[2]) and not weights[0].equal(weights[1])


def test_dropout_keeps_its_share():
    draws = RandomStreams(0, 40, 56, 8)
    assert draws.draw_dropout_mask(2, 8, 4, 0.0).all()
    assert abs(draws.draw_dropout_mask(50, 128, 256, 0.5).double().mean() - 0.5) < 2e-3
    assert abs(draws.draw_dropout_mask(50, 128, 256, 0.25).double().mean() - 0.75) < 2e-3
    assert [dropout_scale(dropout) for dropout in (0.0, 0.25, 0.5, 0.3)] == [1, 4 / 3, 2, 256 / 179]


def test_each_weight_generator_tensor_restarts_half_of_the_time():
    draws = RandomStreams(0, 40, 56, 8)
    params = draws.draw_parameters(16, 5, HEADS)
    counts = dict.fromkeys(("weight_fc1.weight", "weight_fc1.bias", "weight_fc2.weight", "weight_fc2.bias"), 0)
    for _ in range(400):
        for name in draws.draw_resets(params, 0.5):
            counts[name] += 1
    assert all(160 < count < 240 for count in counts.values()), counts
    assert draws.draw_resets(params, 0.0) == {} and len(draws.draw_resets(params, 1.0)) == 4


def test_state_goes_on_exactly_where_it_was():
    draws, later = RandomStreams(3, 40, 56, 8), RandomStreams(99, 40, 56, 8)
    draws.next_batches(7), draws.draw_dropout_mask(1, 8, 4, 0.5)
    later.load_state_dict({name: tensor.clone() for name, tensor in draws.state_dict().items()})
    assert draws.next_batches(6)[0].equal(later.next_batches(6)[0])
    assert draws.draw_dropout_mask(3, 8, 4, 0.5).equal(later.draw_dropout_mask(3, 8, 4, 0.5))


ORIGINS = torch.tensor([0] * 20 + [2] * 7 + [1] * 13)[torch.randperm(40, generator=torch.Generator().manual_seed(1))]


def test_a_batch_holds_as_many_rows_of_each_domain():
    """11, 11 and 10 of a batch of 32, in turn, so that three steps hold 32 of each."""
    source, target = RandomStreams(0, 40, 56, 32, ORIGINS).next_batches(6)
    counts = torch.stack([torch.bincount(ORIGINS[rows], minlength=3) for rows in source])
    assert source.shape == (6, 32) and sorted(set(counts.flatten().tolist())) == [10, 11]
    assert counts[:3].sum(0).tolist() == counts[3:].sum(0).tolist() == [32, 32, 32]
    assert target.equal(RandomStreams(0, 40, 56, 32).next_batches(6)[1])  # the target's batches are as ever


def test_every_domain_has_a_shuffled_pass_of_its_own():
    source = RandomStreams(0, 40, 56, 6, ORIGINS).next_batches(10)[0].flatten()
    for domain, rows in ((0, 20), (1, 13), (2, 7)):
        drawn = source[ORIGINS[source] == domain].tolist()
        assert len(drawn) == 20
        for start in range(0, 20 - rows + 1, rows):  # pass after pass, each row once
            assert len(set(drawn[start : start + rows])) == rows


def test_a_batch_smaller_than_the_number_of_domains_leaves_none_out():
    source = RandomStreams(0, 40, 56, 2, ORIGINS).next_batches(3)[0]
    assert torch.bincount(ORIGINS[source.flatten()]).tolist() == [2, 2, 2]


def test_even_draws_go_on_exactly_where_they_were():
    whole = RandomStreams(3, 40, 56, 8, ORIGINS).next_batches(12)[0]
    draws, later = RandomStreams(3, 40, 56, 8, ORIGINS), RandomStreams(99, 40, 56, 8, ORIGINS)
    first = draws.next_batches(5)[0]
    later.load_state_dict({name: tensor.clone() for name, tensor in draws.state_dict().items()})
    assert whole.equal(torch.cat([first, later.next_batches(7)[0]]))
