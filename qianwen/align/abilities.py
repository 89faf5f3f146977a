"""What each training dialogue teaches: one of the abilities of the Qwen report (section 3.1), and its language.

A record may name its ability in the field `ability`. Otherwise it is guessed: calls of functions are service, and other
dialogues get points for words in the instruction, English and Chinese. The ability with the most points is chosen, the
earlier one in `ABILITIES` if two have the same number, and question answering if none has a point.

The guess is for counting what a data set contains, not for choosing single rows: of 240 unseen rows of Alpaca that were
labelled by hand 29 % got another label, of 210 rows written for the tests 16 % before and 1 % after corrections
(`docs/log.md`). Most mistakes are rows without a known word, which count as question answering.
"""

import re
from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from qianwen.align.records import Dialogue
from qianwen.data.documents.language_id import languages
from qianwen.runtime.translation import tr

ABILITIES = (
    "service", "safety", "role play", "coding", "mathematics", "summarisation", "nlp", "understanding",
    "brainstorming and planning", "writing", "question answering",
)  # fmt: skip
SERVICE, DEFAULT = "service", "question answering"
MAX_LANGUAGES = 5  # columns of the table; the others are added up
START, END = 400, 200  # characters of a long instruction that are read: the task is at its start or at its end
LONG = 400  # characters of a question that contains a text to read

# Ability → (points, pattern). `^` is the start of the instruction.
WORDS: dict[str, tuple[tuple[int, str], ...]] = {
    "safety": (
        (6, r"\b(make|build|assemble|plant) (a |an )?(\w+ )?(bomb|explosive|molotov|meth|poison)|\bhack (into )?(my|his|her|their|some|a)\b"
            r"|\bkill (my|him|her|a person|someone|people|myself)\b|\b(hurt|harm|poison|stalk|blackmail) (my|someone|somebody|him|her|people|myself)\b|\bsuicid|\bself-harm|\b(end|ending|take|taking) my (own )?life|\b(die|kill) .{0,20}(pain|quick)|\binsulting\b"
            r"|\b(steal|launder|counterfeit|smuggle|shoplift)\b|\bphishing\b|\b(write|make|create) (a )?(malware|ransomware|virus|keylogger)"
            r"|\b(racist|sexist|hateful|nude|porn\w*)\b|\bhome address of\b|\bforge\b|\bcheat on (my|the|a)\b.*\b(exam|test|tax)"
            r"|\b(ignore|disregard) (all |any )?(the |your )?(previous|safety|prior)\b|\bfake (id|passport|prescription|review)"),
        (6, r"炸弹|炸药|制毒|冰毒|毒品|自杀|自残|轻生|不想活|黑进|盗取|偷窃|偷(走|东西|拍)|诈骗|洗钱|伪造|假(证|钞|币|身份证)|走私|木马|勒索|色情|裸照|歧视|仇恨|跟踪(她|他|别人)"
            r"|人肉|家庭住址|报复|下毒|杀(人|死|害)|暴力|忽略(之前|上面|所有|你的)|逃税|作弊"),
    ),
    "role play": (
        (5, r"^(you are|you're|act as|imagine (that )?you are|pretend|play the (role|part)|let's play a role|from now on,? you)\b"
            r"|\b(role-?play|role play|stay in character|(talk|speak|answer|reply|write) (to me )?like (a|an|my)|(want|like) you to be (a|an|my)|act as (a|an|the|my|if)|pretend (to be|that you|you)|play the (role|part) of|i want you to (be|act))\b"),
        (5, r"扮演|假装你|假设你是|你现在是|现在你是|^你是(一|个|位|名|我的|[^否不]{2,8}[，。,])|充当|角色|以.{1,12}的(身份|口吻|语气)(回答|和我|跟我|说话|对话|聊)|从现在(开始|起)[，,]?你|的(语气|口吻|口气)(说话|回答|和我|跟我|对话|聊)"),
    ),
    "coding": (
        (6, r"```|\b(python|java|javascript|typescript|c\+\+|c#|rust|golang|sql|html|css|bash|regex|regular expression|numpy|pandas|django|react|docker|git|linux command)\b"),
        (4, r"\b(code|program|algorithm|script|compile error|debug|stack trace|segfault|unit test|api endpoint|data structure|web ?page|repository)\b"),
        (3, r"\b(function|class|method|array|loop|database|server|variable|recursion|query) (that|to|which|in|for|of)\b|\b(for|while) loop\b|list comprehension|\w+(Error|Exception)\b"),
        (6, r"代码|编程|(?<!应用)程序(?!员的|性)|算法|脚本|正则|数据库|函数.{0,8}(实现|返回|参数|接受)|(写|编写|实现)一个.{0,12}函数|报错|调试|网页|接口文档|编译"
            r"|样式表|python|java|sql|html|css"),
    ),
    "mathematics": (
        (5, r"\d\s*[-+*/×÷^=]\s*\(?\d|\b[xyn]\s*[-+*/^=]|[∫√≤≥π²³]|\\frac|\bhow (many|much|far|long|old|fast)\b.*\d.*|\d.*\bhow (many|much|far|long|old|fast)\b"),
        (4, r"\b(calculate|compute|solve|equation|derivative|integral|probability|percent(age)?|average|mean|median|square root|prime|triangle|polynomial|matrix|sum of|product of|divided by|multipl\w+|factori[sz]e|perimeter|theorem|prove that|simplify the|fraction|estimate|round the|how many (seconds|minutes|hours|days|inches|feet|grams)|what is its (speed|area|volume|length|width|height))\b|\b(area|speed|length|perimeter|volume|price)\b.*\d|\d.*\b(area|speed|length|perimeter|volume)\b"),
        (4, r"^(convert|round|add|subtract|divide)\b.*\d"),
        (4, r"计算|方程|求(解|出|和|值|证|.{0,6}(面积|体积|概率|导数|极限|最大|最小))|平方根|导数|积分|概率|平均(数|值|成绩|分)|百分|质数|素数|乘积|相加|相乘|除以|乘以|求.{0,30}[0-9xy]|证明|公式|三角形|等于(多少|几)|一共(有|是)?(多少|几)|还剩(多少|几)"
            r"|转换为(不同的单位|米|千米|公里|厘米|英里|基数|华氏|摄氏|\w*进制)"),
        (5, r"\d.*(多少|几(个|只|元|块|天|小时|人|米|本))|(多少|几(个|只|元|块|天|小时|人|米|本)).*\d.*\d"),
    ),
    "summarisation": (
        (6, r"\b(summari[sz]e|summary of|tl;?dr|sum up|condense|shorten (this|the)|(boil|cut) .{0,40}\bdown\b|takeaways|brief overview|main (idea|points?) of|key (points|takeaways) (of|from)|in (one|two|three) sentences?:)\b|\bsummary\b"),
        (6, r"总结|摘要|概括|概述(下|以下|这|上)|归纳|缩写|提炼.{0,6}(要点|内容)|压缩(到|成|至)|(简要|简单)(说说|说明|介绍).{0,10}(内容|讨论|大意)|一句话说明.{0,6}(内容|大意)|要点.{0,4}(列出|提取)"),
    ),
    "nlp": (
        (6, r"\btranslat\w+|\b(into|in|to) (english|chinese|french|german|spanish|japanese|russian|latin)[.:?]?( |$)(?!history)|^(correct|proofread|rewrite|re-write|rephrase|paraphrase|classify|categori[sz]e|tag|label|tokeni[sz]e|edit|extract|punctuate)\b"),
        (5, r"\b(rewrite|rephrase|paraphrase|classify|categori[sz]e|sentiment|named entit\w+|part(s)? of speech|grammar|grammatical|spelling|synonyms?|antonyms?|opposite of|keywords?|passive voice|active voice|past tense|(different|present|future) tense|positive or negative|positive, negative|plural form|entailment|intent of|detect the language)\b"),
        (5, r"\bextract\b|\b(sentence|text|tweet|words?|paragraph|review|message|statement)\b.{0,40}\b(correct\w*|concise|formal|shorter|simpler|positive|negative|neutral|noun|verb)\b"),
        (6, r"翻译|译(成|为)|改写|重写|改(成|为).{0,10}(句|语态|语气|口吻|时态)|语态|时态|润色|纠(正|错)|错别字|病句|语法|同义词|反义词|近义词|情感(倾向|分析|分类|极性)|正面(还是|或)|(正面|积极).{0,6}(负面|消极)|分类|归类|抽取|提取|实体|词性|分词|关键词|编辑.{0,6}句|扩写|续写成|标点|主语|书面语|更(正式|礼貌|简洁|通顺)"),
        (4, r"^(identify|add|insert|remove|delete|replace|count|determine)\b.{0,60}\b(phrase|sentence|text|word|paragraph|following|verb|noun|adjective|letters?|type)\b|\b(upper|lower) ?case\b|^is the (following|given) (message|sentence|text|word)"),
        (4, r"(输出|回答|选择)[“\"0-9 ]{0,3}.{0,10}(否则|则输出|或“)|(名词|动词|形容词|代词|副词)|大写|小写|(删除|添加|替换|填入|插入).{0,14}(词|句|字)|疑问句|陈述句"),
        (4, r"\A[^\n]*\b(sentences?|clauses?|words?|phrases?|text|statement|strings?)\b[^\n]*\n|\A[^\n]*(句子?|短语|单词|词语?|文本|陈述|字符串)[^\n]*\n"),
        (4, r"\b(more|sound) (polite|formal|concise|casual|natural)\b|\bwhich language is\b"),
    ),
    "understanding": (
        (6, r"\b(according to|based on|from) (the|this|that) (\w+ )?(passage|text|paragraph|article|story|context|document|excerpt|dialogue|contract|email|poem)\b|\b(passage|context|document|article|excerpt|paragraph|text|story|dialogue)\s*:"),
        (5, r"\bwhat does (this|the following|the) (sentence|phrase|quote|proverb|idiom|saying|line|clause|poem)|\bwhat (does|do) .{0,30}\bmean\b.*[\"“']|\b(meaning of|interpret|explain) (this|the) (following )?(sentence|quote|phrase|proverb|idiom|line|poem|metaphor|saying)"
            r"|\banaly[sz]e (this|the (given|following)|the \w+'s) (argument|text|quote|poem|passage|sentence|statement)|\b(read|review) (this|the following|the text|the passage)|\bwhat (can be|is) (inferred|implied)|\b(premises|conclusion)\b.*\b(support|follow|valid)|^(is|does|do|are|who|what|when|where|which|how)\b.{0,60}\b(contract|story|passage|dialogue|table|text|paragraph|poem|email) (below|above)|\b(in|does|from) the (contract|story|passage|dialogue|table|text|paragraph|poem|email) (below|above)\b"
            r"|\bauthor('s)?\b.*\b(imply|mean|attitude|tone|purpose|view)"),
        (6, r"(根据|按照|依据|结合)(上文|上述|以上|下面|以下|这段|文章|短文|文中|原文|材料|给定|该|对话|合同|资料)|阅读(下面|以下|上面|这|短文|材料|理解)|文(中|章)(的|提到|说|作者|主)|作者(想|的|认为|为什么)|这(句|段)(话|诗|文字)?.{0,8}(什么意思|意思|含义|表达|说明)"
            r"|是什么意思|这(首诗|段对话|个故事|则寓言|段材料).{0,20}(什么|怎样|哪|谁|吗)|(下面|上面|以下|以上)的(合同|短文|文章|材料|对话|段落|表格)(里|中).{0,20}[?？]|(表扬|讽刺|褒义|贬义)还是|(分析|解释)(这|下面|以下|给定)的?.{0,4}(句|段|论点|诗)|(判断|推断).{0,10}(陈述|说法|结论)|(材料|原文|短文|上下文|合同|对话)[:：]"),
    ),
    "brainstorming and planning": (
        (6, r"\b(brainstorm|ideas?|itinerary|come up with|plan (a|an|my|out|for|the)|schedule|road ?map|to-?do list|checklist|study plan|meal plan|workout|strateg(y|ies)|agenda|budget|next steps)\b"),
        (4, r"\b(suggest\w*|recommend\w*|tips|advice|ways (to|of|in|that|we|i)|how (can|could|should) (i|we|you|a|businesses|people)|names? for|activities|things to do|help me (decide|choose|plan|organi[sz]e)|what should (i|we)|design (a|an))\b|\b(resolution|hypothes[ie]s|questions for|topics for|(three|five|ten|\d+) (strategies|ways|ideas|tips|activities))\b"),
        (6, r"头脑风暴|点子|创意(?!标题|写作)|计划|规划|行程|日程|安排|方案|策略|清单|路线图|攻略|备考|食谱安排|想(出|一些|几个)|起.{0,6}名"),
        (4, r"建议|推荐|提供.{0,6}(条|个).{0,4}(建议|方法|主意)|哪些(方法|办法|活动)|怎么(准备|开始|提高|改善|选)|如何(准备|开始|提高|选择|安排)|应该怎么|设计(一|个)|活动$|(送|选|买)(点)?什么.{0,6}(好|合适)|(有)?哪些.{0,4}(办法|方法|途径)|(问题|想法|物品|活动|名字)的?列表|示例问题|(选出|挑选|想出).{0,16}(歌曲|电影|书|名|种)|(物品|用品)的列表"),
    ),
    "writing": (
        (5, r"\b(write|compose|draft|create|generate|pen|make up|continue)\b.{0,50}\b(story|poem|haiku|limerick|sonnet|essay|article|blog|email|e-mail|letter|speech|song|lyrics|tweet|post|script|dialogue|slogan|tagline|advert\w*|review|paragraph|headline|title|joke|riddle|press release|cover letter|description|introduction|novel|scene|fairy tale|toast|caption|invitation|report|paper|fable|monologue|backstory|profile|product|auto-?reply|announcement|obituary|note|sentence|diary|message|verse|chapter|ending|complaint|apology|bio|eulogy)s?\b"),
        (3, r"^(write|compose|draft|greet)\b|\b(story|poem|essay|limerick|haiku)\b"),
        (3, r"\b(tell me a (story|joke)|make up a)\b|^(give|provide) an example of a (time|situation)"),
        (6, r"(写|作|创作|撰写|编写|编|拟|起草|生成|续写|创建|来)(一|个|首|篇|封|段|条|份|则|出|关于|我|下|几)?.{0,24}(诗|故事|文章|作文|散文|小说|邮件|信|演讲|歌|推文|文案|标语|口号|剧本|台词|评论|广告|祝福|日记|报告|公告|通知|检讨|简介|段落|对联|童话|寓言|笑话|谜语|标题|推荐信|求职信|介绍|开头|结尾|新闻稿|贺词|问候语|句子|悼词|请假条|发言稿|朋友圈|说明书|情书|致辞|祝酒词|绝句|律诗)"),
        (3, r"^(请)?(帮我|为.{1,20})?(写|编写|创作|撰写|起草|续写|创建|生成|设定|产生)|造句|写一句"),
        (4, r"(写|编写|创作|撰写|起草|创建|生成|创造|发).{0,40}(帖子|故事|推文|诗|文章|句子|标题|描述|歌词|演讲|对话|传记|笑话|广告|评论|邮件)"),
    ),
}  # fmt: skip
_PATTERNS = {
    ability: [(points, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for points, pattern in rules]
    for ability, rules in WORDS.items()
}
_GREETING = re.compile(r"\W*(hi|hello|hey|你好|您好|嗨|在吗)\W*", re.IGNORECASE)
_REACT = re.compile(r"^(Action Input|Observation|Action)\s*[:：]", re.MULTILINE)
_HARM = re.compile(r"illegal|harmful|unethical|unsafe|dangerous|violat|privacy|违法|非法|有害|违反|危险|隐私|伤害|不道德")
_REFUSAL = re.compile(r"^\W*(i'?m sorry|sorry|i can'?(t|not)|i won'?t|i'?m (unable|not able)|抱歉|对不起|很抱歉|我不能|我无法)", re.IGNORECASE)
_PLAIN_SYSTEM = re.compile(r"helpful|\bai assistant\b|qwen|助手|通义千问", re.IGNORECASE)


def ability_of(dialogue: Dialogue) -> str:
    """The ability that the record names, or the guess."""
    return dialogue.ability or guess_ability(dialogue)


def guess_ability(dialogue: Dialogue) -> str:
    """The ability of `ABILITIES` with the most points."""
    messages = dialogue.messages
    if dialogue.functions or any(message.role == "tool" or message.tool_calls for message in messages):
        return SERVICE
    if any(_REACT.search(message.text) for message in messages if message.role != "user"):
        return SERVICE
    instruction = _instruction(dialogue)
    points = {ability: _points(ability, instruction) for ability in _PATTERNS}
    system = messages[0].text if messages and messages[0].role == "system" else ""
    if system and not _PLAIN_SYSTEM.search(system):
        points["role play"] += _points("role play", system)
    answer = next((message.text for message in messages if message.role == "assistant"), "")[:START]
    points["safety"] += 6 * bool(_REFUSAL.search(answer) and _HARM.search(answer))
    points["coding"] += 3 * ("```" in answer)
    points["understanding"] += 2 * (len(instruction) >= LONG and instruction.rstrip().endswith(("?", "？")))
    best = max(points, key=lambda ability: points[ability])
    return best if points[best] else DEFAULT


def _points(ability: str, text: str) -> int:
    return sum(points for points, pattern in _PATTERNS[ability] if pattern.search(text))


def _instruction(dialogue: Dialogue) -> str:
    """The first question that is more than a greeting; the middle of a long one is left out."""
    questions = [message.text.strip() for message in dialogue.messages if message.role == "user"]
    text = next((text for text in questions if not _GREETING.fullmatch(text)), "")
    return text if len(text) <= START + END else f"{text[:START]}\n{text[-END:]}"


def count_abilities(dialogues: Sequence[Dialogue]) -> dict[str, dict[str, int]]:
    """Ability → language → number of dialogues; the most frequent first."""
    codes = [language.code for language in languages([_instruction(dialogue) for dialogue in dialogues])]
    counts = Counter(zip(map(ability_of, dialogues), codes, strict=True))
    totals = Counter(map(ability_of, dialogues))
    return {
        ability: {code: count for (name, code), count in counts.most_common() if name == ability}
        for ability, _ in totals.most_common()
    }


def abilities_table(counts: dict[str, dict[str, int]]) -> Table:
    """One row for each ability, one column for each frequent language."""
    per_language: Counter[str] = Counter()
    for of_ability in counts.values():
        per_language.update(of_ability)
    frequent = [code for code, _ in per_language.most_common(MAX_LANGUAGES)]
    rest = len(per_language) > MAX_LANGUAGES
    table = Table(box=None, header_style="dim")
    table.add_column(tr("ability"))
    for heading in (tr("dialogues"), tr("share"), *frequent, *([tr("others")] if rest else [])):
        table.add_column(heading, justify="right")
    total = sum(per_language.values())
    for ability, of_ability in counts.items():
        size = sum(of_ability.values())
        cells = [*(of_ability.get(code, 0) for code in frequent)]
        cells += [size - sum(cells)] if rest else []
        name = tr(ability) if ability in ABILITIES else ability
        table.add_row(name, f"{size:,}", f"{size / total:.1%}", *(f"{cell:,}" for cell in cells))
    return table
