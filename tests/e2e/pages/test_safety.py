"""No text of a model, a user or a run runs as code on a page (S11), and users see only their own data (S12).

`visit` counts: at the end of every test no script of others ran, and nothing was asked of another server.
"""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

LINES = Path(__file__).with_name("attacks.txt").read_text(encoding="utf-8").splitlines()
ATTACKS = [line.replace("\\n", "\n") for line in LINES]
ACTIVE = (
    "script, iframe, object, embed, base, meta, link, form, input:not([type=checkbox]), button:not([title]), "
    "[onerror], [onload], [onfocus], [onclick], [href^='javascript' i], [src^='http'], [src^='//']"
)


@pytest.fixture(scope="module")
def attacked_site(open_site):
    """A server with attacks in its model's answers, its conversations and its runs."""
    site = open_site("en", "--attacks")
    for number, attack in enumerate(ATTACKS):
        name = f"{number} {attack}".replace("/", "\u2215")
        folder = site.runs / name.encode()[:200].decode(errors="ignore")
        folder.mkdir(parents=True)
        config = dict.fromkeys(ATTACKS, attack) if number == 0 else {attack: attack}
        record = {"stage": attack, "state": "failed", "error": attack, "created": f"{2000 + number}", "config": config}
        (folder / "run.json").write_text(json.dumps(record))
        row = {attack: 1.0, f"sample {attack}": attack}
        (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s, **row}) + "\n" for s in (1, 2)))
    return site


@pytest.fixture(params=["policy", "escaping alone"])
def bypass_csp(request) -> bool:
    """Whether the browser ignores the security policy; then the escaping alone must be enough."""
    return request.param == "escaping alone"


def acting(place) -> list[str]:
    """The elements in `place` that could run code or load something."""
    return place.locator(ACTIVE).evaluate_all("all => all.map(one => one.outerHTML)")


def test_there_are_enough_attacks():
    assert len(set(ATTACKS)) >= 120


def test_no_script_in_what_a_model_says_runs(attacked_site, visit, bypass_csp):
    visitor = visit(attacked_site.url, bypass_csp=bypass_csp)
    visitor.settings()
    visitor.page.locator("#model input").click()
    visitor.page.get_by_role("option", name="attacks").click()
    visitor.ask('<img src=x onerror=hit("question")>', temperature="2", max_tokens="100")
    assert acting(visitor.page.locator("#chat .message-content")) == []


def test_no_script_in_a_conversation_runs(attacked_site, visit, bypass_csp):
    visitor = visit(attacked_site.url, bypass_csp=bypass_csp)
    visitor.page.locator("#history label", has_text="Attacks").click()
    expect(visitor.answers).to_have_count(3 * len(ATTACKS))
    visitor.page.wait_for_timeout(1000)
    assert acting(visitor.page.locator("#chat .message-content")) == []


def test_no_script_in_a_title_runs(attacked_site, visit, bypass_csp):
    visitor = visit(attacked_site.url, bypass_csp=bypass_csp)
    expect(visitor.history.nth(len(ATTACKS))).to_be_visible()
    total = visitor.history.count()
    search = visitor.page.locator("#search input, #search textarea").first
    for attack in ATTACKS[::10]:
        search.fill("")
        expect(visitor.history).to_have_count(total)
        search.fill(attack.partition("\n")[0])
        expect(visitor.history).not_to_have_count(total)
        visitor.page.locator("#history").get_by_text(attack, exact=True).click()
        expect(visitor.title).to_have_value(attack)
    active = visitor.page.locator("#left").locator("script, img, svg[onload], iframe, a[href]:not(#to-runs)")
    assert active.evaluate_all("all => all.map(one => one.outerHTML)") == []


def test_no_script_in_a_run_or_its_file_names_runs(attacked_site, visit, bypass_csp):
    visitor = visit(f"{attacked_site.url}/runs", "#run-view h2", bypass_csp=bypass_csp)
    expect(visitor.history).to_have_count(len(ATTACKS))
    for place in range(0, len(ATTACKS), 5):
        visitor.history.nth(place).click()
        shown = visitor.history.nth(place).inner_text().partition(" · ")[0]
        expect(visitor.page.locator("#run-view h2")).to_have_text(shown)
    view = visitor.page.locator("#run-view")
    assert acting(view) == [] and view.locator("img:not([src^='data:image/svg+xml;base64,'])").count() == 0


def test_two_users_see_only_their_own_conversations(locked_site, visit):
    visitors = []
    for key in locked_site.keys:
        visitor = visit(locked_site.url, "#key")
        visitor.page.locator("#key").fill(key)
        visitor.page.keyboard.press("Enter")
        visitor.page.wait_for_selector("#meter label")
        visitors.append(visitor)
    ann, bob = visitors
    ann.ask("a secret of Ann")
    expect(ann.history.first).to_have_text("a secret of Ann")
    bob.page.reload()
    bob.page.wait_for_selector("#meter label")
    expect(bob.history.filter(has_text="secret")).to_have_count(0)
    bob.page.locator("#search input, #search textarea").first.fill("secret")
    expect(bob.history).to_have_count(0)
    assert bob.page.locator("#to-runs").count() == 0
    assert bob.page.goto(f"{locked_site.url}/runs").status == 404
