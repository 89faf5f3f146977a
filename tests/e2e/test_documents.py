"""Every command of the guides and every example runs, as a reader would run it after the demo.

In a guide, blocks marked `bash` are run in order, as one script; what a reader should see stands in `text` blocks.
"""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs(shell, guide: Path, after_demo: Path):
    blocks = re.findall(r"^```bash\n(.*?)^```", guide.read_text(encoding="utf-8"), re.S | re.M)
    assert blocks, "a guide starts from a command"
    shell(["bash", "-euo", "pipefail", "-c", "\n".join(blocks)], after_demo)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(shell, example: Path, after_demo: Path):
    assert shell([sys.executable, example], after_demo).strip(), "an example shows something"


def test_the_python_of_the_readme_answers(shell, after_demo: Path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert shell([sys.executable, "-c", code], after_demo).strip()
