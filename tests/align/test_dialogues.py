"""Files of dialogues in both forms, what cannot teach, and packing that mixes nothing up."""

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from qianwen.align.dialogues import Dialogue, PackedDialogues, pack, padded, read_dialogues, rendered
from qianwen.chat import Message, render
from qianwen.chat.render import Rendered
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import DataError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.pretrain import next_token_loss

OURS = {
    "messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "我叫通义千问。"}],
    "kind": "x",
}
RELEASED = {
    "id": "identity_0",
    "conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "我叫通义千问。"}],
}


def dialogue(question: str, answer: str) -> Dialogue:
    return Dialogue([Message("user", question), Message("assistant", answer)])


@pytest.mark.parametrize("record", [OURS, RELEASED])
@pytest.mark.parametrize("form", ["lines", "list", "packed list"])
def test_both_forms_in_every_file(tmp_path: Path, record: dict, form: str) -> None:
    path = tmp_path / "data.jsonl"
    if form == "lines":
        path.write_text("\n".join([json.dumps(record), "", json.dumps(record)]))
    elif form == "list":
        path.write_text("\ufeff\n" + json.dumps([record, record]))
    else:
        path = tmp_path / "data.json.gz"
        path.write_bytes(gzip.compress(json.dumps([record, record]).encode()))
    assert list(read_dialogues(path)) == [dialogue("你好", "我叫通义千问。")] * 2


def test_cuts_are_counted_aloud(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    rendered([dialogue("q" * 300, "a"), dialogue("q", "a" * 200), dialogue("q", "a")], tokenizer, "clean", 200)
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 dialogues truncated to 200 tokens" in said and "1 of them have no answer left" in said
    rendered([dialogue("q", "a")], tokenizer, "clean", 200)
    assert not capsys.readouterr().out


def test_tools_come_along(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({**OURS, "tools": [{"function": {"name": "search"}}]}))
    (found,) = read_dialogues(path)
    assert [function.name for function in found.functions] == ["search"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"messages": []}', "record 1: .*it has no assistant message"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "it has no assistant message"),
        ("[1, 2", "data.jsonl: "),
        ("[1]", "record 1"),
        ("", "data.jsonl contains no dialogue"),
        ("[]", "data.jsonl contains no dialogue"),
    ],
)
def test_a_file_without_a_dialogue_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint):
        list(read_dialogues(path))


def test_a_dialogue_without_a_form_in_this_format_is_left_out(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Dialogue([Message("tool", "18"), Message("assistant", "a")], place="record 7")
    kept = rendered([result, dialogue("q", "a")], tokenizer, "clean", 200)
    assert len(kept) == 1
    report = capsys.readouterr().out
    assert (
        "1 of 2 dialogues left out, without a form" in report and "record 7: A tool message must come after" in report
    )


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_dialogues(tmp_path / "absent.jsonl"))


def test_what_cannot_teach_is_refused(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    long = dialogue("q" * 300, "a")
    with pytest.raises(DataError, match="nothing to train on"):
        rendered([long], tokenizer, "clean", 200)
    with pytest.raises(DataError, match="could not learn to stop"):
        rendered([dialogue("q", "a" * 300)], tokenizer, "clean", 200)
    with pytest.raises(DataError, match="nothing to train on"):
        rendered([], tokenizer, "clean", 200)
    everything = Rendered([1, tokenizer.im_end_id], [True, True])
    monkeypatch.setattr("qianwen.align.dialogues.render", lambda *_, **__: everything)
    with pytest.raises(DataError, match="the mask marks no answer"):
        rendered([dialogue("q", "a")], tokenizer, "clean", 200)


def test_one_dialogue_too_long_costs_only_itself(tokenizer: Tokenizer) -> None:
    kept = rendered([dialogue("q" * 300, "a"), dialogue("q", "a")], tokenizer, "clean", 200)
    assert len(kept) == 1


def test_labels_are_the_next_tokens_the_mask_allows(tokenizer: Tokenizer) -> None:
    dialogues = [dialogue(f"question {i}", f"answer {i}") for i in range(5)]
    whole = rendered(dialogues, tokenizer, "clean", 200)
    data = PackedDialogues(whole, 200, tokenizer.eod_id)
    batch = data.batch(0, len(data))
    found = []
    for ids, labels, positions in zip(*(batch[k].tolist() for k in ("input_ids", "labels", "positions")), strict=True):
        assert positions[0] == 0
        for i, label in enumerate(labels):
            assert label in (-100, (ids + [None])[i + 1])
            assert label == -100 or positions[i + 1] == positions[i] + 1
        found += [label for label in labels if label != -100]
    learned = [tokenizer.encode(f"answer {i}") + [tokenizer.im_end_id] for i in range(5)]
    assert sorted(found) == sorted(token for ids in learned for token in ids)


def test_every_epoch_has_every_dialogue_in_another_order(tokenizer: Tokenizer) -> None:
    whole = rendered([dialogue("q" * (100 + i), "a") for i in range(6)], tokenizer, "clean", 256)
    data = PackedDialogues(whole, 256, tokenizer.eod_id, seed=3)
    epochs = [data.batch(epoch * len(data), len(data))["input_ids"] for epoch in range(3)]
    assert any(not torch.equal(epochs[0], other) for other in epochs[1:])
    assert all(torch.equal(epochs[0].unique(dim=0), other.unique(dim=0)) for other in epochs[1:])
    assert torch.equal(data.batch(1, 1)["input_ids"][0], epochs[0][1])


def test_a_batch_is_as_long_as_its_longest_sequence(tokenizer: Tokenizer) -> None:
    whole = rendered([dialogue("q" * size, "a") for size in (600, 40)], tokenizer, "clean", 1024)
    sizes = sorted(len(one.ids) for one in whole)
    data = PackedDialogues([whole[0]], 1024, tokenizer.eod_id)
    length = data.batch(0, 1)["input_ids"].size(1)
    assert length % 64 == 0 and sizes[1] <= length < min(sizes[1] + 64, 1024)
    both = PackedDialogues(whole, sizes[1], tokenizer.eod_id)  # of two sequences, the longer one
    assert both.batch(0, 2)["labels"].shape == both.batch(0, 2)["positions"].shape == (2, sizes[1])


def test_packing_keeps_all_and_wastes_little() -> None:
    sizes = [90, 80, 50, 50, 20, 10, 60, 40]
    bins = pack([Rendered([0] * size, [True] * size) for size in sizes], 100)
    assert sorted(len(one.ids) for one in sum(bins, [])) == sorted(sizes)
    assert all(sum(len(one.ids) for one in each) <= 100 for each in bins) and len(bins) == 4


def test_the_released_mask_still_marks_users_turns(tokenizer: Tokenizer) -> None:
    ours, theirs = (rendered([dialogue("q", "a")], tokenizer, mask, 200)[0] for mask in ("clean", "reference"))
    assert sum(theirs.loss_mask) > sum(ours.loss_mask)
    assert ours.ids == render([Message("user", "q"), Message("assistant", "a")], tokenizer).ids


def test_the_loss_of_a_pack_is_the_sum_of_its_dialogues(model: Qwen) -> None:
    """R11 for dialogues: 30 random packs with padding, in double precision."""
    model = model.double().eval()
    chance = random.Random(0)

    def loss(dialogues: list[Rendered]) -> float:
        return next_token_loss(model, padded([dialogues], 256, 0))[0].item()

    for _ in range(30):
        sizes = [chance.randint(2, 40) for _ in range(chance.randint(2, 6))]
        ids = [[chance.randrange(256) for _ in range(size)] for size in sizes]
        pack_of = [Rendered(each, [chance.random() < 0.5 for _ in each]) for each in ids]
        with torch.no_grad():
            assert loss(pack_of) == pytest.approx(sum(loss([each]) for each in pack_of), rel=1e-6)
