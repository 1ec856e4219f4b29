"""A turn of the policy and a turn of the value: their losses and what is logged beside them.

Source: Bailando (CVPR 2022), section 3.5; the formulas are in models/actor_critic.py.
"""

import torch
from torch import Tensor

from models.actor_critic import divergence, policy_entropy, policy_loss, td_error, value_loss
from models.gpt import Logits, code_losses
from models.vqvae import Codes

Turn = tuple[Tensor, dict[str, Tensor]]


def value_turn(values: Tensor, earned: Tensor, discount: float) -> Turn:
    """Loss of the values (B, t+1) of the states around actions that earned (B, t).

    `explained_variance` is the share of the variance of what the values should be that they explain: 1 if
    they are right, 0 if they are as good as a constant.
    """
    error = td_error(earned, values, discount)
    loss = value_loss(error)
    spread = (error + values[:, :-1]).detach().var()  # of what the values should be
    return loss, {"value_loss": loss, "explained_variance": 1 - error.detach().var() / spread}


def policy_turn(
    logits: Logits,
    pretrained: Logits,
    actions: Codes,
    error: Tensor,
    mask: Tensor,
    weight: Tensor,
    anchor: float,
) -> Turn:
    """Loss of a policy's logits, weighed by TD errors.

    Args:
        logits: (B, t, K) of each half; `pretrained` are those of the GPT that finetuning starts from.
        pretrained: see above.
        actions: (B, t) each, the codes that followed.
        error: (B, t), the advantages.
        mask: (B, t), which actions count.
        weight: what the sum over the mask is divided by.
        anchor: weight of the divergence from the pretrained GPT.
    """
    loss_upper, loss_lower = code_losses(logits, actions)
    loss = policy_loss(loss_upper + loss_lower, error, mask, weight)
    entropy = (policy_entropy(logits) * mask).sum() / mask.sum()
    logs = {"policy_loss": loss, "entropy": entropy, "td_error": error.mean()}
    with torch.set_grad_enabled(anchor > 0):
        logs["kl_to_gpt"] = departed = divergence(logits, pretrained).mean()
    return loss + anchor * departed if anchor else loss, logs
