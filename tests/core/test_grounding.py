import pytest

from services.core.grounding import Fact, check_text, figures_in, strange_words

DAIRY = Fact(
    names=("dairy", "yogurt"), numbers=("35", "31", "39"), periods=("2026-W10", "2026-W40"),
    directions=("rising",),
)  # fmt: skip
TEA = Fact(names=("tea", "7 Up Lemon"), numbers=("12",), directions=("fading",))
HABIT = Fact(numbers=("40", "3"), periods=("Saturdays",))
FACTS = (DAIRY, TEA, HABIT)
KNOWN = ("dairy", "tea", "baby food", "garden")


def reasons(text):
    return check_text(text, FACTS, KNOWN).reasons


@pytest.mark.parametrize(
    "text",
    [
        "Mostly dairy (35%, 31 to 39%), which is rising since 2026-W40.",
        "Tea has 12% and it fades. Dairy grows.",
        "Active in 40 weeks with three events in each, most often on Saturdays.",
        "They like 7 Up Lemon.",
        "This person enjoys yogurt.",
    ],
)
def test_what_the_facts_say_is_accepted(text):
    assert check_text(text, FACTS, KNOWN).is_accepted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Dairy and baby food matter.", "it names 'baby food'"),
        ("A garden lover.", "it names 'garden'"),
        ("Dairy has 53%.", "it says 53"),
        ("Dairy has 3.5%.", "it says 3.5"),
        ("Dairy, about half of it.", "it says 'half'"),
        ("Dairy since 2025-W40.", "it names the period 2025-W40"),
        ("Mostly on Mondays.", "it names the period 'mondays'"),
        ("Dairy in summer.", "it names the period 'summer'"),
        ("Dairy is declining.", "it says 'declining' of what is not fading"),
        ("Tea is rising while 12% stay.", "it says 'rising' of what is not rising"),
        ("Dairy is fading and tea is fading.", "it says 'fading' of what is not fading"),
        ("A declining interest in dairy.", "it says 'declining' of what is not fading"),
        ("It is growing.", "it says 'growing' of what is not rising"),
        ("  ", "it says nothing"),
    ],
)
def test_what_no_fact_says_is_refused_with_the_reason(text, reason):
    assert reason in reasons(text)


def test_one_sentence_does_not_lend_its_direction_to_another():
    assert check_text("Dairy is rising. Tea is fading.", FACTS, KNOWN).is_accepted
    assert reasons("Dairy is fading. Tea is rising.") == (
        "it says 'fading' of what is not fading",
        "it says 'rising' of what is not rising",
    )


def test_every_reason_is_given_once_in_the_texts_order():
    assert reasons("99% garden. Then 99% baby food.") == (
        "it names 'garden'", "it says 99", "it names 'baby food'",
    )  # fmt: skip


def test_a_known_name_inside_another_word_is_not_named():
    assert check_text(
        "Steady dairy: a gardener of taste.",
        (Fact(names=("dairy",), directions=("steady",)),),
        KNOWN,
    ).is_accepted


def test_a_number_of_one_topic_is_not_lent_to_another():
    assert reasons("Dairy has 12%.") == ("it says 12 of what it is not of",)
    assert reasons("Tea has 12%, dairy 12%.") == ("it says 12 of what it is not of",)
    # Of nobody in particular: a habit.
    assert reasons("Active in 40 weeks.") == ()


def test_words_of_the_calendar_and_of_number_inside_a_name_claim_nothing():
    water = Fact(names=("Spring water, two bottles",))
    assert check_text("They like Spring water, two bottles.", (water,), KNOWN).is_accepted
    assert not check_text("They like Spring water in spring.", (water,), KNOWN).is_accepted


def test_a_name_inside_a_longer_one_is_not_what_is_meant():
    box = Fact(names=("tools", "Green tea box"), numbers=("9",))
    assert check_text("Like Green tea box, 9%.", (*FACTS, box), KNOWN).is_accepted


def test_words_that_neither_are_plain_nor_a_name_are_strange():
    plain = frozenset({"they", "like"})
    found = strange_words("They like dairy's yogurt, hate tea, growing three.", FACTS, plain)
    assert found.reasons == ("it says 'hate', which no fact does",)


def test_a_title_may_be_shortened_but_not_for_its_no():
    sugar = Fact(names=("Cola, no sugar, cans",))
    assert strange_words("Cola cans.", (sugar,), ()).is_accepted
    assert strange_words("Cola, no sugar, cans.", (sugar,), ()).is_accepted
    assert strange_words("No cola.", (sugar,), ()).reasons == ("it says 'no', which no fact does",)


def test_figures_of_a_text_are_told_apart():
    assert figures_in("12% in 2026-W40, 3.5 events") == (("12", "3.5"), ("2026-W40",))
