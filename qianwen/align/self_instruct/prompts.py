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
        "questions": "This service exists:\n{tool}\nWrite four different requests of {person} that it can fulfil. First "
        "choose real values for its parameters (real names, numbers, dates), other values each time, then write the message "
        "as {person} would type it, with all these values in it, without greeting. The message is never an answer. Two "
        "examples for other services:\n{examples}\nWrite JSON.",
        "plain": "Write four different questions about {area} that can be answered from general knowledge, as {person} would "
        "type them, without greeting. Examples of the style:\n{examples}\nWrite JSON.",
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
        "questions": "有这样一项服务：\n{tool}\n请写出{person}会提出、它能办到的四条不同的请求。先为参数选定真实的值（真实的名称、数字或日期），"
        "每条都不同，再写出消息，消息里要出现这些值，像{person}打字那样，不要问候，不要写回答。另外两项服务的例子：\n{examples}\n用中文写，输出 JSON。",
        "plain": "请写四个关于“{area}”的不同问题，凭常识就能回答，像{person}打字那样，不要问候。风格参考：\n{examples}\n用中文写，输出 JSON。",
        "call": "工具：\n{tools}\n\n用户说：{question}\n\n请决定调用哪个工具；如果没有合适的工具，就写“none”。输出 JSON：thought 是一句简短的中文"
        "（需要什么、为什么），name 是工具名，arguments 是参数，取用户消息里的值。",
        "answer": "用户说：{question}\n你查到的结果：{result}\n请用一两句自然的中文回答用户，写出所有的值，不要添加这里没有的内容。",
        "direct": "{question}\n请用两三句短句回答。",
    },
}


MAX_DESCRIPTION, MAX_FIELD, MAX_EXAMPLE = 140, 90, 40  # characters
EXAMPLE = rf"^[^\[\]{{}}<>\"“”\\]{{1,{MAX_EXAMPLE}}}$"


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _fields(kinds: Sequence[str]) -> dict[str, Any]:
    examples = {"type": "array", "items": {"type": "string", "pattern": EXAMPLE}, "minItems": 3, "maxItems": 3}
    field = {
        "name": {"type": "string", "pattern": NAME},
        "type": {"enum": list(kinds)},
        "description": _text(MAX_FIELD),
        "examples": examples,
    }
    item = _object(field)
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 3}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TOOL_SCHEMA = _object(
    {
        "name": {"type": "string", "pattern": NAME},
        "description": _text(MAX_DESCRIPTION),
        "parameters": _fields(("string", "integer", "number")),
        "results": _fields(("string", "integer", "number")),
    }
)
def _questions(item: dict[str, Any]) -> dict[str, Any]:
    return _object({"messages": {"type": "array", "items": item, "minItems": NUM_QUESTIONS, "maxItems": NUM_QUESTIONS}})


PLAIN_SCHEMA = _questions(_text(140))


def questions_schema(tool: FunctionSpec) -> dict[str, Any]:
    """Four messages, each after the arguments that it states."""
    return _questions(_object({"arguments": tool.parameters, "message": _text(140)}))


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
