"""What each GGUF type costs a model or a merged adapter: rounded by us, plainly, and by llama.cpp.

    python benchmarks/export_types.py --model MODEL [--name NAME] [--calibration FILE,…] [--types Q8_0,…]
        [--llama PYTHON] [--keep FOLDER] [--json FILE]

    ours       `export_model`: scales searched, weighed by the activations of the calibration texts, sensitive
               tensors in more bits; without --calibration the texts are Python's documentation
    plain      Q8_0 and Q4_0 of the gguf package: every weight to the nearest code, as export did before
    llama.cpp  its own `llama_model_quantize` of our F16 file, without an importance matrix

Each file is read back and compared with the source in fp32: after every token of sixteen passages (`parity.py`), the
share with the same most likely next token, and the mean KL divergence in nats. llama.cpp answers from our files too: to
the sixteen passages, 16 tokens, greedy. "same text" is the share of answers that are ours, from the same file, "same
tokens" the mean number of tokens before the first difference. Both programs round activations to eight bits, each in
its own way, so they differ where two tokens are nearly as likely. "gap" is the largest number of nats by which a token
that llama.cpp chose is less likely than the best, computed in fp32 from the same file.
Rows begin with `--name`; models and types that are measured apart on one day are joined in `--json`.
`--llama` is the Python of an environment with llama-cpp-python; without one the peer is installed (`peers.sh`).
"""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from llama_peer import HERE, Peer
from pairs import Report, arguments, console
from peers import peer_path
from rich.table import Table
from torch import Tensor

from qianwen.checkpoints.export import GgufOptions, export_model
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.load import LoadedModel, load_model
from qianwen.checkpoints.parity import PASSAGES, prompt_rows
from qianwen.cli.export import calibrated
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.linears.lora import adapted, merge
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer

TYPES, PLAIN = "Q8_0,Q4_K_M,Q4_0", ("Q8_0", "Q4_0")
COLUMNS = ("GB", "bits", "top-1", "KL", "same text", "same tokens", "gap")
NEW, ROWS = 16, 256  # tokens of an answer; rows of scores at once


@dataclass
class Reference:
    """The source's log-probabilities after every token of the passages, fp16 [T, V], and its tokenizer."""

    tokenizer: Tokenizer
    logprobs: Tensor

    def compare(self, model: Qwen) -> dict[str, float]:
        """Share of tokens with the same most likely next one, and mean KL divergence in nats."""
        same, total = 0, 0.0
        own = scores(model, self.tokenizer)
        for p, q in zip(self.logprobs.split(ROWS), own.split(ROWS), strict=True):
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            total += float((p.double().exp() * (p.double() - q.double())).sum())
        return {"top-1": same / len(own), "KL": total / len(own)}


@torch.inference_mode()
def scores(model: Qwen, tokenizer: Tokenizer) -> Tensor:
    ids, positions, _ = prompt_rows(tokenizer)
    hidden = model(ids, positions)[0]
    return torch.cat([model.logits(rows).float().log_softmax(-1).half() for rows in hidden.split(ROWS)])


def merged(model: str) -> LoadedModel:
    """MODEL in fp32, with its adapter in the weights."""
    loaded = load_model(model, dtype=torch.float32)
    if any(adapted(loaded.model)):
        merge(loaded.model)
    return loaded


def size(path: Path, model: Qwen) -> dict[str, float]:
    weights = sum(parameter.numel() for parameter in model.parameters())
    return {"GB": path.stat().st_size / 1e9, "bits": path.stat().st_size * 8 / weights}


def plain(model: str, type: str, reference: Reference) -> dict[str, float]:
    """Every weight rounded to the nearest code by the gguf package; the embedding and the head in Q8_0."""
    from gguf import GGMLQuantizationType, quants

    network = merged(model).model
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2:
            kind = GGMLQuantizationType[type if "layers" in name else "Q8_0"]
            parameter.data = torch.from_numpy(quants.dequantize(quants.quantize(parameter.data.numpy(), kind), kind))
    return reference.compare(network)


def file_row(path: Path, reference: Reference) -> dict[str, float]:
    network = GgufModel(path).load()
    return size(path, network) | reference.compare(network)


def answers(path: Path, tokenizer: Tokenizer, peer: Peer) -> dict[str, float]:
    """Greedy answers from the file, here and in llama.cpp."""
    loaded = load_model(path, bits="stored")
    prompts = tokenizer.encode_batch(PASSAGES)
    params = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True)  # both go on after an end of text
    outputs = LLM(loaded.model, loaded.tokenizer).generate(prompts, params)
    ours = [list(answer.outputs[0].token_ids) for answer in outputs]
    theirs = peer.ask("answer", model=str(path), prompts=prompts, new=NEW)["ids"]
    same = [equal_tokens(a, b) for a, b in zip(ours, theirs, strict=True)]
    return {
        "same text": same.count(NEW) / len(same),
        "same tokens": sum(same) / len(same),
        "gap": max(largest_gap(path, prompts, theirs)),
    }


def equal_tokens(first: list[int], second: list[int]) -> int:
    """The number of tokens before the first difference."""
    differences = (place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return next(differences, len(first))


@torch.inference_mode()
def largest_gap(path: Path, prompts: list[list[int]], chosen: list[list[int]]) -> list[float]:
    """Of each answer, by how many nats its least likely choice is below the most likely token."""
    network = GgufModel(path).load()
    gaps = []
    for prompt, answer in zip(prompts, chosen, strict=True):
        ids = torch.tensor([prompt + answer])
        hidden = network(ids, torch.arange(ids.size(1))[None])[0, len(prompt) - 1 : -1]
        logits = network.logits(hidden).float()
        gaps.append((logits.amax(-1) - logits.gather(1, torch.tensor(answer)[:, None])[:, 0]).max().item())
    return gaps


def rows_of(model: str, options: Any, peer: Peer, keep: Path) -> dict[str, dict[str, float]]:
    """All rows of one model."""
    source = merged(model)
    reference = Reference(source.tokenizer, scores(source.model, source.tokenizer))
    source.model.to("meta")
    data = tuple(Path(name) for name in options.calibration.split(",") if name)
    rows: dict[str, dict[str, float]] = {}
    export_model(model, keep / "F16", "gguf", gguf=GgufOptions("F16"))
    (floats,) = (keep / "F16").glob("*.gguf")
    for type in options.types.split(","):
        gguf = GgufOptions(type, choose=calibrated(data, options.samples))
        export_model(model, keep / type, "gguf", gguf=gguf, min_agreement=0)
        (file,) = (keep / type).glob("*.gguf")
        rows[f"{type}, ours"] = file_row(file, reference) | answers(file, source.tokenizer, peer)
        if type in PLAIN:
            rows[f"{type}, plain"] = plain(model, type, reference)
        theirs = keep / f"llama-{type}.gguf"
        peer.ask("quantize", source=str(floats), target=str(theirs), type=type)
        rows[f"{type}, llama.cpp"] = file_row(theirs, reference)
        for name, row in rows.items():
            if name.startswith(type):
                console.print(Path(model).stem, name, row, highlight=False)
        gc.collect()
    return rows


def main() -> None:
    options = arguments(__doc__, model="", name="base", calibration="", types=TYPES, samples=32, llama="", keep="")
    if not options.model:
        raise SystemExit("--model names a folder, a GGUF file or an adapter")
    if options.quick:
        options.types, options.samples = "Q4_0", 4
    peer = Peer([options.llama or peer_path("llama-cpp-avx512"), str(HERE / "llama_files.py")])
    report, ratios = Report("GGUF types", ""), {}
    table = Table("", *COLUMNS, box=None, header_style="dim")
    with tempfile.TemporaryDirectory() as temporary:
        rows = rows_of(options.model, options, peer, Path(options.keep or temporary))
    peer.end()
    for row, values in rows.items():
        report.note(f"{options.name}, {row}", values)
        table.add_row(row, *(f"{values[name]:.4g}" if name in values else "" for name in COLUMNS))
    for type in options.types.split(","):
        ours, theirs = (rows[f"{type}, {side}"]["KL"] for side in ("ours", "llama.cpp"))
        ratios[f"{options.name}_{type}_KL_llama_cpp_over_ours".replace(" ", "_")] = theirs / ours
    console.print(table)
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
