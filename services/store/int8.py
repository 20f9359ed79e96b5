"""A text model's linear layers in int8: a scale a token for what goes in, a scale a row of weights.

torch's own dynamic quantisation has one scale for all tokens of a batch; a few tokens with large
values then cost every other one its precision (MiniLM: mean cosine .947 to float32, this .997), and
a text's vector would depend on its companions.

Shape suffixes: T = tokens, I = features in, O = features out.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LARGEST = 127


def quantise(model: "torch.nn.Module") -> None:
    """Replace every linear layer of a model, in place; the rest stays float32."""
    from torch import nn

    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, _linear(child))
        else:
            quantise(child)


def _linear(layer: "torch.nn.Linear") -> "torch.nn.Module":
    import torch

    weight_OI = layer.weight.detach().float()
    scale_O = weight_OI.abs().amax(dim=1).clamp_min(1e-12) / _LARGEST
    weight_IO = (weight_OI / scale_O[:, None]).round().to(torch.int8).t()
    bias_O = torch.zeros(len(scale_O)) if layer.bias is None else layer.bias.detach().float()

    class Int8Linear(torch.nn.Module):
        """y = (x / s) @ W * s * scale + bias, with s and W's scale chosen so that both fit int8."""

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            x_TI = given.reshape(-1, given.shape[-1])
            largest_T1 = x_TI.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12)
            x8_TI = (x_TI * (_LARGEST / largest_T1)).round_().to(torch.int8)
            # Products of int8, summed in int32: exact.
            y_TO = torch._int_mm(x8_TI, weight_IO).float().mul_(largest_T1 / _LARGEST)
            out: torch.Tensor = torch.addcmul(bias_O, y_TO, scale_O)
            return out.reshape(*given.shape[:-1], -1)

    return Int8Linear()
