"""The labelling pages: what Label Studio shows for each kind of task, and what it asks.

The names of the controls and their values are read again by annotations.py: `verdict`, `rank`, `confirmed`, `reasons`,
`flags`, `text`, `decision`. Every judgement can be made by keyboard, but for the order of three or four answers. Label
Studio saves an order that nobody touched as if it had been ranked, so it has to be confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from tasks.labelling.style import STYLE
from tasks.labelling.task import Kind


@dataclass(frozen=True)
class Project:
    """What a project is made with; the names are those of Label Studio's API."""

    title: str
    label_config: str
    expert_instruction: str  # HTML, shown before the first task
    maximum_annotations: int  # people who judge a task of the share below; one judges each other task
    overlap_cohort_percentage: int
    show_instruction: bool = True
    show_skip_button: bool = True
    sampling: str = "Sequential sampling"  # in the order in which they were sent: what users complained of comes first


def projects(title: str, overlap: float) -> dict[Kind, Project]:
    """A project for each kind of task; their titles begin with `title`. Of answers, this share is judged by two people."""
    percent = round(100 * overlap)
    return {
        "compare": Project(f"{title}: compare", COMPARE, f"{_COMPARE_HELP}{_COMMON_HELP}", 2, percent),
        "rank": Project(f"{title}: rank", RANK, f"{_RANK_HELP}{_COMMON_HELP}", 2, percent),
        "correction": Project(f"{title}: corrections", CORRECTION, _CORRECTION_HELP, 1, 100),
    }


Option = tuple[str, str, str]  # value that is saved, hotkey, what is shown
_REASONS = [
    ("helpful", "h", "more helpful · 更有用"),
    ("honest", "o", "more honest · 更诚实"),
    ("harmless", "s", "safer · 更安全"),
]
_FLAGS = [("all_bad", "b", "all are bad · 都不好"), ("unsafe", "u", "one is unsafe · 有不安全的")]


def _choices(name: str, title: str, options: list[Option], *, required: bool = False, multiple: bool = False) -> str:
    """Choices under a title. A hotkey stands beside its words, whatever the annotator has set."""
    need = f' required="true" requiredMessage={quoteattr(title)}' if required else ""
    rows = "".join(
        f"<Choice value={quoteattr(value)} hotkey={quoteattr(key)} html={quoteattr(f'{escape(text)} <kbd>{key}</kbd>')}/>"
        for value, key, text in options
    )
    return (
        f'<View className="ns-control ns-{name}"><Header value={quoteattr(title)} size="6"/>'
        f'<Choices name="{name}" toName="prompt" choice="{"multiple" if multiple else "single"}" showInline="true"{need}>'
        f"{rows}</Choices></View>"
    )


def _html(name: str, css: str) -> str:
    """Safe HTML of the task's data (html.py), inside the page, so that it takes part in its light and dark."""
    return f'<View className="{css}"><HyperText name="{name}" value="${name}_html" valueType="text" inline="true"/></View>'


def _ask(name: str, title: str, options: list[Option], *, more: bool) -> str:
    """What has to be answered, and, with `more`, what need not be."""
    parts = [_choices(name, title, options, required=True)]
    if more:
        parts.append(_choices("reasons", "Why? · 原因", _REASONS, multiple=True))
        parts.append(_choices("flags", "Anything wrong? · 有问题吗", _FLAGS, multiple=True))
    return f'<View className="ns-ask">{"".join(parts)}</View>'


def _page(body: str) -> str:
    return f'<View className="ns"><Style>{STYLE}</Style>{body}</View>'


COMPARE = _page(
    _html("prompt", "ns-prompt")
    + f'<View className="ns-pair">{_html("a", "ns-card")}{_html("b", "ns-card")}</View>'
    + _ask(
        "verdict", "Which answer is better? · 哪个回答更好？",
        [("A", "1", "A is better · A 更好"), ("B", "2", "B is better · B 更好"), ("tie", "3", "tie · 一样好")],
        more=True,
    )
)  # fmt: skip

RANK = _page(
    _html("prompt", "ns-prompt")
    + '<View className="ns-rank"><Header value="Drag the best answer to the top · 把最好的回答拖到最上面" size="6"/>'
    '<List name="answers" value="$items" title=""/><Ranker name="rank" toName="answers" collapsible="false"/></View>'
    + _ask(
        "confirmed", "Is the order as you want it? · 顺序对吗？",
        [("yes", "y", "yes, best first · 是，最好的在前")], more=True,
    )
)  # fmt: skip

CORRECTION = _page(
    _html("prompt", "ns-prompt")
    + '<View className="ns-pair">'
    '<View><Header value="What was answered · 原来的回答" size="6"/>' + _html("a", "ns-card ns-plain") + "</View>"
    '<View><Header value="What a user would have said · 用户的改正" size="6"/>' + _html("b", "ns-card ns-plain") + "</View>"
    "</View>"
    '<View className="ns-control ns-edit"><Header value="The text to learn from; edit it · 将被学习的文本，可修改" size="6"/>'
    '<TextArea name="text" toName="prompt" value="$correction" rows="5" editable="true" maxSubmissions="1"'
    ' showSubmitButton="false"/></View>'
    + _ask(
        "decision", "May the assistant learn this? · 可以让助手学习吗？",
        [("approve", "1", "yes, it is right · 可以，正确"), ("reject", "2", "no · 不可以")], more=False,
    )
)  # fmt: skip

_COMMON_HELP = """<p><b>Why</b> and <b>anything wrong</b> may stay empty. Skip what you cannot judge.
Keys: submit <b>Ctrl+Enter</b>, skip <b>Ctrl+Space</b>.</p>
<p>“原因”和“有问题吗”可以不选。无法判断就跳过。快捷键：提交 <b>Ctrl+Enter</b>，跳过 <b>Ctrl+Space</b>。</p>"""
_COMPARE_HELP = """<p>Two answers to one question, in an order drawn by chance. Say which you would rather have got: first of all
right by the notes, then honest about what they do not say, then to the point. Keys: <b>1</b> A, <b>2</b> B, <b>3</b> tie.</p>
<p>同一问题的两个回答，先后随机。请选您更愿意得到的：首先依据资料正确，其次资料没有说的要直说，再次简明。
快捷键：<b>1</b> A，<b>2</b> B，<b>3</b> 一样好。</p>"""
_RANK_HELP = """<p>Three or four answers to one question, in an order drawn by chance. Drag the best to the top and the worst to
the bottom (by keyboard: Tab to an answer, Space, arrows, Space), then confirm with <b>y</b>.</p>
<p>同一问题的三四个回答，先后随机。请把最好的拖到最上面，最差的放到最下面，然后按 <b>y</b> 确认。</p>"""
_CORRECTION_HELP = """<p>A user was not content with an answer and wrote what it should have been. Approve it only if it is right
by the notes: the assistant is trained on it. Mend the text first where it needs it. Nothing is learnt from what you reject or
skip. Keys: <b>1</b> approve, <b>2</b> reject, submit <b>Ctrl+Enter</b>, skip <b>Ctrl+Space</b>.</p>
<p>用户对回答不满意，写下了应有的回答。只有依据资料正确时才批准，因为助手会学习它；需要时先修改。拒绝或跳过的不会被学习。
快捷键：<b>1</b> 批准，<b>2</b> 拒绝，提交 <b>Ctrl+Enter</b>，跳过 <b>Ctrl+Space</b>。</p>"""
