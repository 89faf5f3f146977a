"""TODO"""

from qianwen.checkpoints.gguf.tensor_types import Rounding
from qianwen.quantize.importance import input_importance


def choose_rounding(model, type, texts, seq_len):
    return Rounding(input_importance(model, texts, seq_len))
