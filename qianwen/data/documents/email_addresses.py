"""Which `name@place.word` is an e-mail address, and not a matrix product, a repository or the name of a picture.

The last word must be a top-level domain: every country's (ISO 3166) and the generic ones that mail is sent to. Program
text has attributes there (`x@self.weight`, `y@np.linalg.inv`) and file names their kind (`heads@2x.png`).
"""

import re

COUNTRIES = """
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd
    cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge
    gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh
    ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw
    mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb
    sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk
    us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
GENERIC = """
    com net org edu gov mil int info biz name pro museum aero coop jobs mobi travel tel cat asia post xxx app dev xyz
    online site website space top shop store club vip live life world email cloud fun link work works company
    solutions agency digital media studio design art blog news today network systems services support consulting
    group global international center academy school university college education institute foundation ngo ong health
    care clinic hospital doctor dental law legal attorney finance bank money capital ventures partners holdings tax
    insurance energy eco green bio earth garden farm coffee restaurant pizza bar pub cafe kitchen wine hotel house
    home land city town berlin hamburg koeln bayern wien paris london nyc tokyo osaka moscow amsterdam brussels swiss
    scot wales irish quebec tech technology software engineering codes community social software science press photos
    photography graphics gmbh ltd llc inc sarl page zone ink wiki chat guru ninja rocks expert marketing events team
    fit yoga one plus run best bet icu monster buzz love cool family game games video audio tools trade market sale
    deals gifts fashion clothing shoes jewelry beauty hair makeup auto car cars bike boats taxi limo flights tours
    vacations church faith charity onl
"""
DOMAINS = frozenset((COUNTRIES + GENERIC).split())
OBJECTS = frozenset(
    {"self", "cls", "this", "np", "numpy", "torch", "tf", "jnp", "jax", "math", "scipy", "params", "state", "super"}
)
ATTRIBUTES = frozenset(
    {"to", "int", "mm", "mv", "gt", "ge", "lt", "ne", "at", "is", "id", "in", "name", "do", "as", "run"}
)
ADDRESS = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9_.+\u00c0-\u024f-]{0,63}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9_])",
    re.A,
)
EXAMPLES = re.compile(r"(?:^|[@.])(?:example\.(?:com|org|net)|localhost|test|invalid)$", re.I)
SCALE = re.compile(r"\d+x", re.I)  # of pictures: `icon@2x.io`
REMOTE_PATH = re.compile(r":(?:[^\s:]*[/~]|\S+\.git\b)")  # `git@host.org:owner/repository`
URL_BEFORE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/]*$", re.I)
CALL = re.compile(r"[([]")


def is_address(match: re.Match[str]) -> bool:
    """Whether a match of ADDRESS is a person's address, not one reserved for examples (RFC 2606)."""
    local, _, domain = match[0].rpartition("@")
    if EXAMPLES.search(match[0]) or local == "git":
        return False
    labels = domain.split(".")
    last = labels[-1]
    if last.lower() not in DOMAINS:
        return False
    if not (last.islower() or last.isupper()) or labels[0] in OBJECTS or SCALE.fullmatch(labels[-2]):
        return False
    text, end = match.string, match.end()
    if REMOTE_PATH.match(text, end) or URL_BEFORE.search(text, max(match.start() - 100, 0), match.start()):
        return False
    return not (last in ATTRIBUTES and CALL.match(text, end))
