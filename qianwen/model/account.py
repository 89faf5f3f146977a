"""The cost of a network: parameters, floating-point operations and bytes, computed from the config.

    forward     for each token, 2 FLOPs for each weight of a matrix and 4 · h · d for each token that it attends to
    training    3 × forward: the backward pass has two products for each product of the forward
    memory      weights, keys and values of a token, and the moments of AdamW

Norms, activations and softmax are not counted: they are less than one percent. Recomputation (activation checkpointing)
is not counted either.
"""

from qianwen.model.config import QwenConfig


def num_parameters(config: QwenConfig) -> int:
    """Number of all parameters; tied embeddings count once."""
    return num_embedding_parameters(config) + config.num_hidden_layers * _layer_parameters(config) + config.hidden_size


def num_embedding_parameters(config: QwenConfig) -> int:
    """Parameters of the embedding, and of the head unless it is tied."""
    return config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)


def forward_flops(config: QwenConfig, seq_len: int) -> float:
    """FLOPs per token of one forward over `seq_len` tokens (the mean over them), head included."""
    seen = sum(_mean_context(seq_len, config.window(layer)) for layer in range(config.num_hidden_layers))
    return 2 * _matrix_weights(config) + 4 * _q_size(config) * seen


def training_flops(config: QwenConfig, seq_len: int) -> float:
    """FLOPs per token of forward and backward over sequences of `seq_len` tokens."""
    return 3 * forward_flops(config, seq_len)


def decode_flops(config: QwenConfig, context_len: int) -> float:
    """FLOPs to generate one token that attends to `context_len` tokens, itself included."""
    layers = range(config.num_hidden_layers)
    seen = sum(min(context_len, config.window(layer) or context_len) for layer in layers)
    return 2 * _matrix_weights(config) + 4 * _q_size(config) * seen


def weight_bytes(config: QwenConfig, bits: float = 16) -> int:
    """Bytes of all weights at `bits` each."""
    return round(num_parameters(config) * bits / 8)


def kv_bytes_per_token(config: QwenConfig, bits: float = 16) -> int:
    """Bytes of the keys and values of one token in the cache."""
    return round(2 * config.num_hidden_layers * _kv_size(config) * bits / 8)


def cache_bytes(config: QwenConfig, seq_len: int, bits: float = 16) -> float:
    """Bytes of the keys and values of one text. A layer with a window keeps no more tokens than it sees."""
    layers = range(config.num_hidden_layers)
    num_tokens = sum(min(seq_len, config.window(layer) or seq_len) for layer in layers)
    return 2 * num_tokens * _kv_size(config) * bits / 8


def optimizer_bytes(config: QwenConfig) -> int:
    """Bytes of AdamW's two moments in fp32. Master weights and gradients in fp32 add 4 bytes per parameter each."""
    return 8 * num_parameters(config)


def _layer_parameters(config: QwenConfig) -> int:
    biases = _q_size(config) + 2 * _kv_size(config) if config.qkv_bias else 0
    norms = 2 * config.hidden_size + (2 * config.head_dim if config.qk_norm else 0)
    return _layer_weights(config) + biases + norms


def _layer_weights(config: QwenConfig) -> int:
    """Number of weights in the matrices of a layer: q and o, k and v, gate, up and down."""
    return config.hidden_size * (2 * _q_size(config) + 2 * _kv_size(config) + 3 * config.intermediate_size)


def _matrix_weights(config: QwenConfig) -> int:
    """Number of weights that each token is multiplied with: layers and head, but not the embedding."""
    return config.num_hidden_layers * _layer_weights(config) + config.vocab_size * config.hidden_size


def _q_size(config: QwenConfig) -> int:
    return config.num_attention_heads * config.head_dim


def _kv_size(config: QwenConfig) -> int:
    return config.num_key_value_heads * config.head_dim


def _mean_context(seq_len: int, window: int) -> float:
    """Mean of min(n, window) for n = 1 … seq_len."""
    window = min(window or seq_len, seq_len)
    return window * (window + 1) / 2 / seq_len + window * (seq_len - window) / seq_len
