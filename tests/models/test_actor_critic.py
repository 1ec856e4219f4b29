"""Returns, advantages and the clipped loss of GRPO, by hand."""

import numpy as np
import pytest
import torch

from models.actor_critic import action_nll, clipped_policy_loss, group_advantage, returns
from models.gpt import Logits
from models.vqvae import Codes


def test_returns_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 2.0, 4.0]])
    torch.testing.assert_close(returns(rewards, 0.5, look_back=0), torch.tensor([[2.0, 2.0, 4.0, 4.0]]))
    torch.testing.assert_close(returns(rewards, 0.5), torch.tensor([[2.0, 2.0, 2.0, 4.0]]))
    torch.testing.assert_close(returns(rewards, 1.0), torch.tensor([[7.0, 7.0, 6.0, 6.0]]))
    assert torch.equal(rewards, torch.tensor([[1.0, 0.0, 2.0, 4.0]]))


def test_advantages_compare_dances_at_one_place_of_the_music():
    found = torch.tensor([[1.0, 10.0], [3.0, 10.0], [2.0, 16.0]])
    advantage = group_advantage(found)
    centred = np.array([[-1, -2], [1, -2], [0, 4]])
    np.testing.assert_allclose(advantage, centred / np.sqrt((centred**2).mean()), rtol=1e-5)
    assert not group_advantage(torch.full((4, 7), 3.0)).any()


def test_nll_of_actions():
    torch.manual_seed(0)
    logits = Logits(torch.randn(2, 3, 5), torch.randn(2, 3, 4))
    actions = Codes(torch.randint(5, (2, 3)), torch.randint(4, (2, 3)))
    for temperature in (1.0, 0.5):
        found = action_nll(logits, actions, temperature)
        for i in range(2):
            for t in range(3):
                halves = [(half[i, t] / temperature).softmax(0) for half in logits]
                p = halves[0][actions.upper[i, t]] * halves[1][actions.lower[i, t]]
                assert float(found[i, t]) == pytest.approx(-float(p.log()), rel=1e-5)


def test_the_clipped_loss_and_its_gradient():
    """A gradient flows unless the ratio has left the interval on the side that the advantage favours."""
    ratio = torch.tensor([[1.0, 1.3, 0.7, 1.3, 0.7, 1.1]])
    advantage = torch.tensor([[2.0, 1.0, -1.0, -1.0, 1.0, 5.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    behaviour = torch.full((1, 6), 3.0)
    nll = (behaviour - ratio.log()).requires_grad_()
    loss = clipped_policy_loss(nll, behaviour, advantage, mask, 0.2)
    assert float(loss.detach()) == pytest.approx(-(2.0 + 1.2 - 0.8 - 1.3 + 0.7) / 5, rel=1e-5)
    loss.backward()
    expected = np.array([[2.0, 0.0, 0.0, -1.3, 0.7, 0.0]]) / 5  # ratio * advantage, by the NLL
    np.testing.assert_allclose(nll.grad, expected, atol=1e-6)
    half = clipped_policy_loss(nll.detach(), behaviour, advantage, mask, 0.2, weight=torch.tensor(10.0))
    assert float(half) == pytest.approx(float(loss.detach()) / 2, rel=1e-5)
