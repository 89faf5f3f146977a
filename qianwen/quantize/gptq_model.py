"""MODEL → a folder in GPTQ's format with fewer bits a weight (`qianwen quantize`; the released run_gptq.py).

    read a layer → quantise it on its real activations → write its codes → forget it

Memory holds one layer, the embedding and the states of the calibration rows, whatever the size of the model. The
folder is what AutoGPTQ, optimum, vLLM and `load_model` read: int32 codes, fp16 scales, all else fp16.

The 64 prompts of `parity.py` go through the layers as they were beside those as they become, so the result says what
the bits cost. Stopped, the same command goes on from the last whole layer (`resume.py`). Not here: the solver
(`gptq.py`), the order of a layer's linears (`calibration.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gptq_folder import QUANTIZATION
from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.checkpoints.hf_folder import write_json, write_settings
from qianwen.checkpoints.hf_weights import CONFIG, Layout, Plan, read_json, read_weights, write_shards
from qianwen.checkpoints.load import OpenModel
from qianwen.checkpoints.model_card import Checks, Origin, model_card
from qianwen.checkpoints.packed_cache import file_stats
from qianwen.checkpoints.parity import Parity, compare, prompt_rows
from qianwen.checkpoints.tensor_names import V1_NAMES, Stack, stacks
from qianwen.checkpoints.tied_tables import with_one_table
from qianwen.model.linears.gptq_layout import Groups, shapes, to_gptq
from qianwen.model.transformer import Layer, Qwen
from qianwen.quantize import calibration
from qianwen.quantize.calibration import LINEARS
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.resume import SavedLayers, layers_done, texts_digest, work_folder
from qianwen.runtime.device import best_device, compute_dtype
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_file, atomic_folder
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

Texts = Sequence[Sequence[int]]
FLOATS = torch.float16  # type of the tensors that are not quantised, as published
BIAS = "bias"


@dataclass(frozen=True)
class Reduced:
    """The folder that was written, and the difference of its outputs from those of the source model."""

    folder: Path
    parity: Parity


def quantize_model(
    opened: OpenModel,
    folder: str | Path,
    config: GptqConfig,
    texts: Texts = (),
    *,
    seq_len: int = 2048,
    layout: Layout = "qwen2",
    origin: Origin | None = None,
    keep: Path | None = None,
) -> Reduced:
    """Quantise a model into `folder`, which is written atomically. Without `texts` of token ids, round to nearest.

    After an interruption or a kill, the same call continues from the last finished layer. Finished layers are saved in
    `keep` if the caller gives it; the caller must make sure that layers in it were made with the same settings.
    Raises DataError for texts without a token, ConfigError if saved layers were made with other settings, and the
    errors of reading a model.
    """
    check_source(opened)
    if texts and not any(len(text) for text in texts):
        raise DataError(tr("the calibration texts are empty"))
    device = best_device()
    written, dtype = with_one_table(opened), compute_dtype(device)
    source = written.source
    model, parameters = (
        source.read(dtype, device) if isinstance(source, GgufModel) else read_weights(source, dtype, device)
    )
    work = _Work(model, parameters, config, layout)
    if written is not opened:
        assert isinstance(opened.source, GgufModel)
        work.own_table = opened.source.tensors["model.embed_tokens.weight"].dequantize(dtype).to(device)
    rows = [row for row in calibration.packed_rows(texts, seq_len) if row[0].numel()]
    made_of = sources(opened) | {"options": asdict(config) | {"seq_len": seq_len}, "texts": texts_digest(texts)}
    own = work_folder(Path(folder), made_of, layers_done) if rows and not keep else nullcontext(keep)
    with own as place, atomic_folder(folder) as inside:  # without texts nothing is saved: rounding takes seconds
        saved = SavedLayers(place, config.bits) if place else None
        wanted, plans = _file_stacks(model, layout), folder_plans(model, config, layout)
        title = tr("quantising {name} to {bits} bits", name=opened.name, bits=config.bits)
        tensors = work.run(wanted, rows, prompt_rows(opened.tokenizer), saved, title)
        write_shards(inside, plans, _in_order(plans, tensors))
        assert work.parity is not None
        _describe(opened, model, inside, config, layout, (origin or Origin(opened.name), work.parity, Path(folder)))
    return Reduced(Path(folder), work.parity)


def sources(opened: OpenModel) -> dict[str, Any]:
    """A fingerprint of the weights of a model (names, sizes and times of the files) and the type they are read in."""
    source = opened.source.path if isinstance(opened.source, GgufModel) else opened.source
    files = {name: stats for name, *stats in file_stats(source)}
    return {"model": files, "dtype": str(compute_dtype(best_device()))}


def check_source(opened: OpenModel) -> None:
    """Raise ConfigError if `opened` cannot be quantised: an adapter, or a folder that has few bits already."""
    if is_adapter(opened.path):
        message = "{path} is an adapter: merge it first (`qianwen export {path} --to DIR`)"
        raise ConfigError(tr(message, path=opened.path))
    if opened.bits:
        raise ConfigError(tr("{path} already has {bits} bits per weight", path=opened.path, bits=opened.bits))


class _Work:
    """The pass over the layers. It yields the tensors of each layer as the output file has them."""

    def __init__(
        self, model: Qwen, parameters: Iterator[tuple[str, Tensor]], config: GptqConfig, layout: Layout
    ) -> None:
        self.model, self.config, self.layout = model, config, layout
        self.parity: Parity | None = None
        self.own_table: Tensor | None = None  # embedding of the source, where the folder gets another one
        self._parameters = parameters
        self._waiting: tuple[str, Tensor] | None = None

    def run(
        self, wanted: dict[str, Stack], texts: Sequence[tuple[Tensor, Tensor]], probe: tuple[Tensor, Tensor, list[int]],
        saved: SavedLayers | None, title: str,
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """The file's tensors: the embedding, then layer after layer, then the rest."""
        config, ids, positions, ends = self.model.config, *probe
        first = self._take("model.embed_tokens.")
        table = first["model.embed_tokens.weight"]
        rows = calibration.start(config, table, texts)
        own_table = table if self.own_table is None else self.own_table
        before, after = (calibration.start(config, each, [(ids, positions)]) for each in (own_table, table))
        del own_table
        self.own_table = None
        yield _file_tensors(wanted, first, {}, self.layout)
        for index in progress(range(config.num_hidden_layers), config.num_hidden_layers, title):
            own = self._take(f"model.layers.{index}.")
            layer = self.model.model.layers[index]
            assert isinstance(layer, Layer)
            prefix = f"model.layers.{index}."
            layer.load_state_dict({name.removeprefix(prefix): value for name, value in own.items()}, assign=True)
            calibration.advance(layer, before)
            if (made := saved.read(index) if saved else None) is not None:
                calibration.restore_layer(layer, made)
                calibration.advance(layer, rows)
            else:
                made = calibration.quantize_layer(layer, index, rows, self.config)
                if saved:
                    saved.write(index, made)
            calibration.advance(layer, after)
            yield _file_tensors(wanted, own, {prefix + name: groups for name, groups in made.items()}, self.layout)
            layer.to("meta")
        last = self._take("")
        norm, head = self.model.model.norm, last.get("lm_head.weight", table)
        norm.load_state_dict({"weight": last["model.norm.weight"]}, assign=True)
        self.parity = compare(*(_logprobs(norm(row[0].states)[0, ends], head) for row in (before, after)))
        yield _file_tensors(wanted, last, {}, self.layout)

    def _take(self, prefix: str) -> dict[str, Tensor]:
        """The next parameters whose names begin with `prefix`."""
        taken: dict[str, Tensor] = {}
        if self._waiting is not None:
            taken[self._waiting[0]], self._waiting = self._waiting[1], None
        for name, tensor in self._parameters:
            if not name.startswith(prefix):
                self._waiting = (name, tensor)
                break
            taken[name] = tensor
        return taken


@torch.no_grad()
def _logprobs(hidden: Tensor, head: Tensor) -> Tensor:
    return (hidden @ head.T).float().log_softmax(-1)


def _is_coded(stack: Stack) -> bool:
    """Whether a tensor of the file is the weight of a linear in a layer, which is quantised."""
    return all(
        name.startswith("model.layers.") and name.endswith(tuple(f"{n}.weight" for n in LINEARS))
        for name in stack.names
    )


def folder_plans(model: Qwen, config: GptqConfig, layout: Layout) -> dict[str, Plan]:
    """Type and shape of every tensor of the folder, in the order of the file; `model` may be without memory."""
    return dict(_plans(_file_stacks(model, layout), config, layout))


def _file_stacks(model: Qwen, layout: Layout) -> dict[str, Stack]:
    return stacks(model, V1_NAMES if layout == "qwen" else ())


def _plans(wanted: dict[str, Stack], config: GptqConfig, layout: Layout) -> Iterator[tuple[str, Plan]]:
    for name, stack in wanted.items():
        if not _is_coded(stack):
            yield name, (FLOATS, stack.shape)
            continue
        outputs, inputs = stack.shape
        module = name.removesuffix("weight")
        for part, plan in shapes(outputs, inputs, -(-inputs // config.size(inputs)), config.bits).items():
            yield module + part, plan
        if layout == "qwen" and module + BIAS not in wanted:  # published v1 models have one everywhere
            yield module + BIAS, (FLOATS, (outputs,))


def _file_tensors(
    wanted: dict[str, Stack], own: dict[str, Tensor], made: dict[str, Groups], layout: Layout
) -> dict[str, Tensor]:
    """What the file holds of some of our parameters, under its names."""
    found: dict[str, Tensor] = {}
    for name, stack in wanted.items():
        if stack.names[0] not in own:
            continue
        if not _is_coded(stack):
            found[name] = torch.cat([own[part] for part in stack.names])
            continue
        module = name.removesuffix("weight")
        parts = [made[part.removesuffix(".weight")] for part in stack.names]
        whole = Groups(
            parts[0].bits,
            torch.cat([part.codes for part in parts]),
            torch.cat([part.scales for part in parts]),
            torch.cat([part.zeros for part in parts]),
            parts[0].group_of,
        )
        found |= {module + part: tensor for part, tensor in to_gptq(whole).items()}
        if layout == "qwen" and module + BIAS not in wanted:
            found[module + BIAS] = torch.zeros(stack.shape[0])
    return found


def _in_order(plans: dict[str, Plan], batches: Iterator[dict[str, Tensor]]) -> Iterator[Tensor]:
    """The tensors in the order of `plans`, which asks for them batch by batch."""
    held: dict[str, Tensor] = {}
    for name in plans:
        while name not in held:
            held |= next(batches)
        yield held.pop(name)


def _describe(
    opened: OpenModel,
    model: Qwen,
    inside: Path,
    config: GptqConfig,
    layout: Layout,
    done: tuple[Origin, Parity, Path],
) -> None:
    """The files beside the weights: config, tokenizer, settings and card."""
    said = {
        "bits": config.bits,
        "group_size": config.group_size,
        "damp_percent": config.damp_percent,
        "desc_act": False,  # to readers: whether groups are out of order, which costs them speed; ours never are
        "static_groups": config.act_order,
        "sym": config.sym,
        "true_sequential": True,
        "model_name_or_path": None,
        "model_file_base_name": "model",
    }
    raw: dict[str, Any] = config_to_hf(model.config, "qwen" if layout == "qwen" else "") | {"torch_dtype": "float16"}
    write_json(inside / CONFIG, raw | {QUANTIZATION: said | {"quant_method": "gptq", "checkpoint_format": "gptq"}})
    write_json(inside / "quantize_config.json", said)
    settings: dict[str, Any] = {"chat": opened.chat, "layout": layout, "generation": opened.generation}
    write_settings(model.config, opened.tokenizer, inside, **settings)
    origin, parity, folder = done
    write_card(opened, inside, origin, parity, folder, format=f"GPTQ Int{config.bits}")


def write_card(opened: OpenModel, inside: Path, origin: Origin, parity: Parity, folder: Path, *, format: str) -> None:
    """The card of a GPTQ folder, now at `inside`, that will be `folder`; other programs do not run Qwen v1's layout."""
    is_v1 = read_json(inside / CONFIG).get("model_type") == "qwen"
    command = f"qianwen chat {folder}" if is_v1 else f"vllm serve {folder} --served-model-name {opened.name}"
    with atomic_file(inside / "README.md", "w") as file:
        file.write(model_card(opened, origin, Checks(parity), format=format, command=command))
