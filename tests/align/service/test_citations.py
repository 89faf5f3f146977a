import pytest

from qianwen.align.service.citations import citation_faults, cited

RESULTS = [
    "The bridge was opened in 1932 and is 503 metres long.",
    "Bread is baked from flour, water and yeast.",
    "面包由面粉、水和酵母烘烤而成。",
]


@pytest.mark.parametrize(
    "answer",
    [
        "The bridge is 503 metres long [1].",
        "The bridge was opened in 1932. [1]",
        "Bread is baked from flour and yeast [2]. The bridge is 503 metres long [1].",
        "面包由面粉和酵母烘烤而成[3]。",
        "Bread is baked from flour [2][3].",
    ],
)
def test_citations_that_hold(answer):
    assert citation_faults(answer, RESULTS) == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("The bridge is 503 metres long.", "sentence without a citation"),
        ("The bridge is 503 metres long [4].", "citation of a result that does not exist"),
        ("The bridge is 503 metres long [0].", "citation of a result that does not exist"),
        ("The bridge is 503 metres long [2].", "sentence that its source does not contain"),
        ("The bridge is 530 metres long [1].", "number that its source does not contain"),
        ("Paris is the capital of France [1].", "sentence that its source does not contain"),
        ("Bread is baked from flour [2]. It was invented by bored sailors.", "sentence without a citation"),
        ("米饭由大米蒸煮而来[3]。", "sentence that its source does not contain"),
        ("", "empty answer"),
        ("[1]", "sentence that its source does not contain"),
    ],
)
def test_citations_that_do_not(answer, fault):
    assert citation_faults(answer, RESULTS) == [fault]


def test_cited_numbers_in_their_order():
    assert cited("a [2] b [1][2] c [10] d [x]") == [2, 1, 10]
