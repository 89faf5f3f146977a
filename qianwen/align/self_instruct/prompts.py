"""What the model is asked in each stage, in English and Chinese, and the JSON schema of each reply."""

import json
from collections.abc import Sequence
from typing import Any

from qianwen.chat.messages import FunctionSpec

NO_TOOL = "none"
NUM_QUESTIONS = 4  # of one reply
NAME = "^[a-z][a-z0-9]*(_[a-z0-9]+){0,4}$"
AREAS = {
    "en": (
        "pets", "gardening", "school timetables", "museums", "train travel", "car repair", "recycling", "hospital visits",
        "music lessons", "house cleaning", "tax forms", "job search", "sports clubs", "hiking trails", "camping", "fishing",
        "beekeeping", "wine", "cheese", "bakeries", "furniture", "lighting", "electric cars", "bicycles", "harbours",
        "airports", "space missions", "telescopes", "earthquakes", "rivers", "forests", "farms", "fruit prices", "insurance",
        "bank accounts", "charity", "elections", "city parks", "swimming pools", "libraries", "theatre", "photography",
        "painting", "knitting", "toys", "board games", "video games", "podcasts", "television", "phones", "printers",
        "computer networks", "software bugs", "translations", "dictionaries", "chemistry", "medicine stock", "vaccinations",
        "childcare", "weddings", "hotels", "visas", "postal codes", "noise levels", "water quality", "electricity meters",
    ),
    "zh": (
        "宠物", "园艺", "课程表", "博物馆", "火车出行", "汽车维修", "垃圾分类", "医院挂号", "乐器课", "家政保洁", "报税", "求职招聘", "体育俱乐部",
        "徒步路线", "露营", "钓鱼", "养蜂", "茶叶", "豆制品", "面包店", "家具", "照明", "电动汽车", "共享单车", "港口", "机场", "航天任务", "望远镜",
        "地震", "河流水位", "森林防火", "农场", "水果价格", "保险", "银行账户", "公益捐款", "社区选举", "城市公园", "游泳馆", "图书馆", "剧院", "摄影",
        "绘画", "编织", "玩具", "桌游", "电子游戏", "播客", "电视节目", "手机", "打印机", "网络故障", "软件缺陷", "翻译", "字典", "化学", "药品库存",
        "疫苗接种", "托儿所", "婚礼", "酒店", "签证", "邮政编码", "噪声", "水质", "电表",
    ),
}  # fmt: skip
PEOPLE = {
    "en": ("a student", "a nurse", "a tourist", "a shop owner", "a retired teacher", "a parent", "an engineer", "a farmer",
           "a journalist", "a driver", "an office worker", "a musician"),
    "zh": ("学生", "护士", "游客", "店主", "退休教师", "家长", "工程师", "农民", "记者", "司机", "上班族", "音乐人"),
}  # fmt: skip
PROMPTS = {
    "en": {
        "tool": "Invent one new tool (a function) about {area}. It looks something up or does something for a user, and "
        "one call answers one question. It has one to three parameters that a person knows and says, and one to three "
        "result fields that only the tool can know, such as prices, times or states. Give three realistic examples for "
        "each field. Two tools that exist already:\n{examples}\nWrite the new tool in English as JSON.",
        "questions": "A tool:\n{tool}\nWrite four different messages that {person} could type to an assistant and that "
        "this tool answers. Every message names concrete values (real names, numbers, dates) for: {required}. Do not "
        "mention the tool. Messages for another tool, as an example of the style:\n{examples}\nWrite JSON.",
        "plain": "Write four different questions about {area} that {person} could ask and that anyone can answer from "
        "general knowledge, without looking anything up. Examples of the style:\n{examples}\nWrite JSON.",
        "call": "Tools:\n{tools}\n\nA user writes: {question}\n\nDecide which tool to call, or \"none\" if no tool helps. "
        "Write JSON: a thought of one short sentence (what you need and why), the name of the tool, and its arguments with "
        "the values of the user's message.",
        "answer": "A user wrote: {question}\nYou looked it up and know: {result}\nAnswer the user in one or two sentences of "
        "plain English. Give every value, and add nothing that is not stated here.",
        "direct": "{question}\nAnswer in two or three short sentences.",
    },
    "zh": {
        "tool": "请设计一个与“{area}”有关的新工具（函数）。它替用户查询信息或办一件事，一次调用回答一个问题。它有一到三个用户知道并会说出的参数，"
        "以及一到三个只有工具才知道的结果字段，例如价格、时间或状态。每个字段给出三个真实的例子。已有的两个工具：\n{examples}\n"
        "name 用英文小写，description 用中文，例子用中文。用 JSON 写出新工具。",
        "questions": "一个工具：\n{tool}\n请写四条不同的消息，是{person}会发给助手、并且用这个工具可以回答的。每条消息都要写出这些参数的具体值"
        "（真实的名称、数字或日期）：{required}。不要提到工具。另一个工具的消息，供参考风格：\n{examples}\n用中文写，输出 JSON。",
        "plain": "请写四个关于“{area}”的不同问题，是{person}会问、凭常识就能回答、不需要查询的。风格参考：\n{examples}\n用中文写，输出 JSON。",
        "call": "工具：\n{tools}\n\n用户说：{question}\n\n请决定调用哪个工具；如果没有合适的工具，就写“none”。输出 JSON：thought 是一句简短的中文"
        "（需要什么、为什么），name 是工具名，arguments 是参数，取用户消息里的值。",
        "answer": "用户说：{question}\n你查到的结果：{result}\n请用一两句自然的中文回答用户，写出所有的值，不要添加这里没有的内容。",
        "direct": "{question}\n请用两三句短句回答。",
    },
}


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _fields(kinds: Sequence[str]) -> dict[str, Any]:
    examples = {"type": "array", "items": _text(30), "minItems": 3, "maxItems": 3}
    field = {
        "name": {"type": "string", "pattern": NAME},
        "type": {"enum": list(kinds)},
        "description": _text(60),
        "examples": examples,
    }
    item = _object(field)
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 3}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TOOL_SCHEMA = _object(
    {
        "name": {"type": "string", "pattern": NAME},
        "description": _text(100),
        "parameters": _fields(("string", "integer", "number")),
        "results": _fields(("string", "integer", "number")),
    }
)
QUESTIONS_SCHEMA = _object(
    {"messages": {"type": "array", "items": _text(140), "minItems": NUM_QUESTIONS, "maxItems": NUM_QUESTIONS}}
)


def call_schema(tools: Sequence[FunctionSpec]) -> dict[str, Any]:
    """A thought with a call of one of the tools, whose arguments satisfy its schema, or with no call."""
    calls = [
        _object({"thought": _text(160), "name": {"const": tool.name}, "arguments": tool.parameters}) for tool in tools
    ]
    return {"anyOf": [*calls, _object({"thought": _text(160), "name": {"const": NO_TOOL}, "arguments": _object({})})]}


def tool_line(tool: FunctionSpec) -> str:
    """A tool as one line of JSON, as prompts show it."""
    return json.dumps(
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters["properties"]}, ensure_ascii=False
    )
