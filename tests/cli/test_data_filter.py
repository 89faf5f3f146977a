"""`qianwen data train-filter`: from labelled texts to a folder that a curation uses."""

from qianwen.cli import main
from qianwen.data.filters.vote import load
from qianwen.runtime.files import read_jsonl, write_jsonl


def rows(count: int, source: str) -> list[dict[str, str]]:
    kinds = {
        "good": "The river rises in the hills and meets the sea near an old harbour.",
        "low": "click here now !!! free free win",
        "unfit": "you rotten scoundrel and villain",
    }
    return [
        {"text": f"{text} {number} {source}", "label": label, "lang": "en", "source": source}
        for label, text in kinds.items()
        for number in range(count)
    ]


def test_a_filter_is_fitted_measured_and_shown(tmp_path, capsys):
    write_jsonl(tmp_path / "learn.jsonl", rows(80, "here"))
    write_jsonl(tmp_path / "test.jsonl", rows(30, "there"))
    argv = ["data", "train-filter", str(tmp_path / "learn.jsonl"), str(tmp_path / "out")]
    assert main([*argv, "--test", str(tmp_path / "test.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "safety auc" in said and "vote / best member" in said and "report.html" in said
    assert (tmp_path / "out" / "report.html").exists() and (tmp_path / "out" / "drops.jsonl").exists()
    good, low, unfit = load(str(tmp_path / "out" / "filter"))([row["text"] for row in rows(1, "elsewhere")])
    assert good > 0.5 > max(low, unfit)


def test_a_test_of_the_same_source_is_refused(tmp_path, capsys):
    write_jsonl(tmp_path / "learn.jsonl", rows(80, "here"))
    argv = ["data", "train-filter", str(tmp_path / "learn.jsonl"), str(tmp_path / "out"), "--test"]
    assert main([*argv, str(tmp_path / "learn.jsonl")]) == 1
    assert "must have other sources than the other label files; both have here" in capsys.readouterr().err
    write_jsonl(tmp_path / "bad.jsonl", [{"text": "x", "label": "good"}])
    assert main([*argv, str(tmp_path / "bad.jsonl")]) == 1
    assert "bad.jsonl, row 1" in capsys.readouterr().err


def test_sources_for_the_limits_are_read_and_may_not_be_in_another_file(tmp_path, capsys):
    for name, source in (("learn", "here"), ("limits", "between"), ("test", "there")):
        write_jsonl(tmp_path / f"{name}.jsonl", rows(60, source))
    argv = ["data", "train-filter", str(tmp_path / "learn.jsonl"), str(tmp_path / "out"), "--test"]
    argv += [str(tmp_path / "test.jsonl"), "--calibrate"]
    for name, source in (("learn", "here"), ("test", "there")):
        assert main([*argv, str(tmp_path / f"{name}.jsonl")]) == 1
        assert f"both have {source}" in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "limits.jsonl")]) == 0


def test_a_curation_drops_what_the_vote_finds_not_worth_keeping(tmp_path, capsys):
    write_jsonl(tmp_path / "learn.jsonl", rows(80, "here"))
    write_jsonl(tmp_path / "test.jsonl", rows(30, "there"))
    argv = ["data", "train-filter", str(tmp_path / "learn.jsonl"), str(tmp_path / "out")]
    assert main([*argv, "--test", str(tmp_path / "test.jsonl")]) == 0
    good, low, _ = (row["text"] for row in rows(1, "web"))
    texts = {
        "good": "\n".join([good] * 9),
        "low": "\n".join(f"{low} {n}" for n in range(9)),
    }
    write_jsonl(tmp_path / "in.jsonl", [{"text": text, "source": f"web:{name}"} for name, text in texts.items()])
    curate = ["data", "curate", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "kept"), "--rules"]
    assert main([*curate, "--workers", "1", "--filter", str(tmp_path / "out" / "filter")]) == 0
    dropped = [row for path in (tmp_path / "kept" / "dropped").glob("*.zst") for row in read_jsonl(path)]
    assert [(row["source"], row["reason"]) for row in dropped] == [("web:low", "filter")]
