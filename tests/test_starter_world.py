"""The Larkfield world: same seed, same text; facts are stated; what is held out stays out."""

import random
import re

from starter import documents, world
from starter.attributes import generator


def sample(count: int, level: float, seed: int = 1) -> list[list[world.Segment]]:
    """Training documents as pre-training draws them."""
    r = random.Random(seed)
    return [documents.make_document(r, level) for _ in range(count)]


def test_equal_seeds_give_equal_documents():
    """Documents depend on the passed-in generator and on nothing else."""
    assert sample(50, 0.7) == sample(50, 0.7)
    assert sample(50, 0.7) != sample(50, 0.7, seed=2)


def test_passage_states_every_value_in_every_style():
    """Whatever the style, the values and the name can be read in the passage."""
    r = random.Random(2)
    for lang in ("en", "zh"):
        for kind in world.KINDS:
            for style in sorted(set(world.STYLES)):
                e = world.make_entity(kind, r, lang)
                keys = world.some_keys(e, r)
                text = world.text_of(world.passage(e, keys, lang, r, style))
                assert e["name"] in text
                assert all(e["facts"][key] in text for key in keys), text
                assert "{" not in text and "\0" not in text


def test_training_is_never_about_held_out_entities():
    """make_entity without `evaluation` gives no held-out name, and with it only such names."""
    r = random.Random(3)
    for lang in ("en", "zh"):
        for kind in world.KINDS:
            for _ in range(40):
                assert not world.held_out(world.make_entity(kind, r, lang)["name"])
                assert world.held_out(world.make_entity(kind, r, lang, evaluation=True)["name"])
        assert not any(world.held_out(e["name"]) for e in world.CORE[lang])


def test_held_out_names_are_no_subjects_of_documents():
    """A store's subject form appears in training documents for training towns only (towns as values are fine)."""
    text = "\n".join(world.text_of(d) for d in sample(1500, 1.0))
    r, checked = random.Random(4), 0
    for _ in range(300):
        name = world.make_entity("store", r, "en", evaluation=True)["name"]
        assert f"{name} store" not in text
        trained = world.make_entity("store", r, "en")["name"]
        checked += f"{trained} store" in text
    assert checked > 200  # the search would have found subjects


def asked(template: str, entity: str, text: str) -> bool:
    """True when a question line of the text fits the template with any name."""
    before, after = template.replace("{e}", entity).split("{}")
    return bool(re.search(rf"^(Question: |问题：){re.escape(before)}[^?？\n]+{re.escape(after)}$", text, re.MULTILINE))


def test_held_out_wordings_stay_out():
    """No training document asks in a wording that evaluation keeps; the search does find the other wordings."""
    text = "\n".join(world.text_of(d) for d in sample(1500, 1.0))
    for kind in world.KINDS.values():
        for a in kind["attributes"].values():
            for questions, kept, entity in (
                (a["questions"], world.HELD_OUT_QUESTIONS, kind["entity"]),
                (a["zh_questions"], world.HELD_OUT_QUESTIONS_ZH, kind["zh_subject"]),
            ):
                assert not any(asked(template, entity, text) for template in questions[-kept:])
                assert any(asked(template, entity, text) for template in questions[:-kept])


def test_copied_segments_repeat_the_context():
    """Every COPY segment after the notes of a question document is a value of the notes or "not stated"."""
    r = random.Random(5)
    for _ in range(100):
        segments = documents.question_document("en", r, 3, 8)
        start = next(i for i, (text, _) in enumerate(segments) if text.startswith("Question") or ", " in text)
        notes = world.text_of(segments[:start])
        for text, kind in segments[start:]:
            if kind == world.COPY and text != documents.NOT_STATED["en"] + "\n":
                assert text.rstrip("\n").split(" (note ")[0] in notes


def test_evaluation_case_is_consistent():
    """The value is in the cited note; an unanswerable case has neither; the prompt ends where the answer begins."""
    r = random.Random(6)
    for lang in ("en", "zh"):
        for _ in range(60):
            case = documents.evaluation_case(lang, r, 3, held_out_question=True)
            note = case["notes"].split(f"[{case['cite']}] ")[1]
            assert case["value"] in note.split(f"[{case['cite'] + 1}] ")[0]
            assert case["prompt"].startswith(case["notes"]) and case["question"] in case["prompt"]
            assert case["prompt"] == case["prompt"].rstrip(" ")
            assert "{v}" in case["answer"]
            open_case = documents.evaluation_case(lang, r, 2, held_out_question=False, answerable=False)
            assert open_case["value"] is None and open_case["cite"] is None


def test_chinese_text_has_full_width_punctuation():
    """Chinese questions end in a full-width mark, and no ASCII comma or question mark slips in."""
    r = random.Random(7)
    for _ in range(200):
        case = documents.evaluation_case("zh", r, 2, held_out_question=False)
        assert case["question"].endswith("？")
        assert not set(case["prompt"]) & set("?,;")


def test_people_of_one_context_differ_in_first_name():
    """Passages call people by first name, so two of them must not share it."""
    r = random.Random(8)
    for _ in range(200):
        people = [e["name"].split()[0] for e, _ in world.make_context("en", r, 4) if e["kind"] == "staff"]
        assert len(set(people)) == len(people)


def test_value_generators_keep_their_bounds():
    """A spec such as "money 5 9" draws within its bounds, in both languages."""
    draw, r = generator("money 5 9"), random.Random(9)
    for en, zh in (draw(r) for _ in range(50)):
        assert 5 <= int(en[1:]) <= 9 and zh == en[1:] + "元"
