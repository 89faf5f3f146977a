"""The engine on a GPU answers as the network does, whatever the cache and whoever answers beside it."""

import pytest
import torch

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.linears.packed import pack_model, to_device

from ..engine.conftest import byte_tokenizer

pytestmark = pytest.mark.gpu
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
PROMPTS = ["hello", "world, hello", "x", "a longer prompt that takes more than one block of the cache"]


@torch.inference_mode()
def greedy(model, ids, num_tokens):
    out = list(ids)
    while len(out) < len(ids) + num_tokens:
        scores = model.logits(model(torch.tensor([out], device=model.model.norm.weight.device))[0, -1])
        out.append(int(scores[:259].argmax()))
    return out[len(ids) :]


@pytest.mark.parametrize("fields", [{}, {"use_logn_attn": True, "train_len": 16}, {"layer_windows": (5, 17, 0)}])
def test_answers_are_those_of_the_network(device, make_model, fields):
    model, tokenizer = make_model(**fields).to(device), byte_tokenizer()
    llm = LLM(model, tokenizer, EngineConfig(block_size=8, max_num_batched_tokens=32))
    for prompt, result in zip(PROMPTS, llm.generate(PROMPTS, GREEDY), strict=True):
        assert result.outputs[0].token_ids == greedy(model, tokenizer.encode(prompt), 24)


@pytest.mark.parametrize("cache", ["auto", "bfloat16", "int8"])
@pytest.mark.parametrize("bits", [0, 4, 8])
def test_packed_weights_and_small_caches_answer(device, make_model, bits, cache):
    model = make_model()
    model = to_device(pack_model(model, bits), device) if bits else model.to(device, torch.bfloat16)
    llm = LLM(model, byte_tokenizer(), EngineConfig(block_size=8, kv_cache_dtype=cache))
    results = llm.generate(PROMPTS, GREEDY)
    assert all(len(result.outputs[0].token_ids) == 24 for result in results)
    assert not llm.engine._requests


def test_a_request_has_the_same_bits_alone_and_in_company(device, make_model):
    model = make_model().to(device, torch.bfloat16)
    llm = LLM(model, byte_tokenizer(), EngineConfig(block_size=8, batch_invariant=True))
    params = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, logprobs=1)
    together = llm.generate(PROMPTS * 3, params)
    for prompt, result in zip(PROMPTS, together, strict=False):
        alone = llm.generate([prompt], params)[0].outputs[0]
        assert alone.token_ids == result.outputs[0].token_ids
        assert [x.logprob for x in alone.logprobs] == [x.logprob for x in result.outputs[0].logprobs]
