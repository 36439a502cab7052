"""What the demo pairs ask for: topics, constraints in opposed pairs, and the rules that judge a response.

A judge answers True (clearly kept), False (clearly broken) or None (doubtful, so not used). Each constraint
stands beside its contrary, so that no response is good or bad but by what its prompt asks.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Judge = Callable[[str], bool | None]


class Side(NamedTuple):
    """One instruction, and the rule that its response is judged by."""

    source: str
    prompt: str
    judge: Judge


class Task(NamedTuple):
    """Two contrary instructions about one topic."""

    kind: str
    topic: str
    sides: tuple[Side, Side]


def listed(text: str) -> tuple[str, ...]:
    """The names between the commas."""
    return tuple(text.split(", "))


TOPICS = listed(
    "volcanoes, bicycles, coffee, the moon, honey bees, chess, rain, bread, elephants, the violin, "
    "gardens, trains, whales, glass, winter, libraries, soccer, the desert, cheese, clocks, penguins, "
    "photography, rivers, chocolate, dragons, robots, swimming, tea, owls, castles, the internet, apples, "
    "wolves, painting, lighthouses, snow, dolphins, pizza, maps, horses, the heart, bridges, tigers, "
    "salt, camping, airplanes, mushrooms, poetry, basketball, spiders, the sun, soup, diamonds, running, "
    "foxes, museums, rice, thunder, mirrors, cats, submarines, sleep, oranges, markets, eagles, wool, "
    "jazz, islands, homework, bears, candles, tennis, forests, potatoes, ants, telephones, dancing, "
    "lakes, turtles, ice cream, trucks, astronomy, roses, ferries, sharks, money, the piano, deer, "
    "windmills, pasta, caves, kites, rabbits, hospitals, lemons, sculpture, frogs, subways, oceans, dogs, "
    "gold, hiking, bananas, theaters, crows, paper, yoga, glaciers, farmers, butterflies, cars, onions, "
    "comets, drums, waterfalls, teachers, parrots, shoes, fishing, carrots, cinemas, snakes, silk, "
    "skiing, harbors, monkeys, hats, opera, beaches, pears, firefighters, goats, rockets, cooking, "
    "tulips, mice, umbrellas, baseball, swamps, grapes, nurses, camels, steel, sailing, mangoes, parks, "
    "pigeons, bricks, knitting, clouds, tomatoes, pilots, kangaroos, boats, karate, oak trees, eggs, "
    "doctors, crocodiles, helicopters, guitars, meadows, strawberries, bakers, giraffes, plastic, "
    "surfing, cactuses, milk, hotels, squirrels, lamps, golf, stars, peppers, zoos, seals, tractors, "
    "choirs, canyons, walnuts, schools, lizards, cameras, chickens, puzzles, earthquakes, salads, judges, "
    "zebras, rubber, rowing, bamboo, butter, airports, ducks, tents, wrestling, rainbows, pumpkins"
)

EVAL_TOPICS = listed(
    "anchors, asparagus, avalanches, badgers, bagels, ballet, barns, bats, bells, blankets, "
    "blueberries, brooms, buses, cabbages, cellos, cherries, coconuts, coral reefs, cotton, crabs, "
    "dentists, detectives, dinosaurs, donkeys, elevators, falcons, fences, fireworks, flamingos, "
    "flutes, fountains, garlic, geese, ginger, gymnastics, hammers, hedgehogs, ice skating, "
    "jellyfish, jewelry, juggling, kettles, ladders, lawyers, leopards, lobsters, magic, mailboxes, "
    "marathons, melons, meteors, moss, mountains, newspapers, noodles, octopuses, olives, orchids, "
    "otters, ovens, pandas, passports, peaches, pencils, perfume, pillows, pirates, planets, "
    "playgrounds, plumbers, pottery, quilts, radishes, raccoons, reindeer, rugby, sandwiches, "
    "scissors, sheep, sirens, skateboards, skyscrapers, snails, soap, spinach, statues, swans, "
    "telescopes, tornadoes, toys, trumpets, vampires, vineyards, volleyball, watches, wheat, "
    "whistles, wizards, yogurt, zippers"
)
"""In no training pair, beside the fifth of `TOPICS` that is not either."""

OPENERS = ("Write something short about {}.", "Tell me something about {}.", "Describe {} briefly.")
WORDS = listed(
    "ancient, beautiful, careful, famous, friend, gentle, healthy, journey, morning, mystery, nature, "
    "people, quiet, secret, simple, strong, useful, winter, world, young"
)
FIRST_WORDS = listed("Imagine, Today, Many, Once, Some, Every, When, Although, Sometimes, Perhaps")

CASUAL = frozenset(
    listed(
        "hey, yo, dude, dudes, gonna, wanna, gotta, kinda, awesome, cool, guys, buddy, bro, yeah, yep, nope, "
        "lol, omg, totally, ya, y'all, ain't, cuz, stuff, crazy, yup, haha, hella"
    )
)
PRAISE = frozenset(
    listed(
        "wonderful, great, amazing, beautiful, love, loved, fantastic, best, delightful, excellent, joy, "
        "enjoy, perfect, incredible, favorite, awesome, lovely, magnificent, stunning, marvelous, delicious, "
        "fascinating"
    )
)
BLAME = frozenset(
    listed(
        "terrible, bad, awful, worst, hate, horrible, boring, dangerous, ugly, annoying, disappointing, "
        "disgusting, nasty, frustrating, unpleasant, dreadful, poor, waste, useless, dislike, harmful, "
        "nuisance, dull, tedious, overrated"
    )
)
CONTRACTION = re.compile(r"\b\w+['\u2019](m|re|ll|ve|d|t)\b|!")
ITEM = re.compile(r"^\s*(\d+[.)]|[-*•])\s", re.MULTILINE)
NUMBERED = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)


def words(text: str) -> list[str]:
    """The text's words in lower case."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower().replace("\u2019", "'"))


def opposite(verdict: bool | None) -> bool | None:
    """The verdict of the contrary rule."""
    return None if verdict is None else not verdict


def numbered_list(text: str) -> bool | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) >= 2 and all(NUMBERED.match(line) for line in lines):
        return True
    return None if ITEM.search(text) else False


def question(text: str) -> bool | None:
    if "?" not in text:
        return False
    return True if text.endswith("?") and text.count("?") == 1 and not re.search(r"[.!]\s", text) else None


def casual(text: str) -> bool | None:
    slang, lively = CASUAL.intersection(words(text)), CONTRACTION.search(text)
    if not slang:
        return None if lively else False
    return True if lively or len(slang) >= 2 else None


def praise(text: str) -> bool | None:
    """True for praise, False for blame; None where both or neither is said, or a word is negated."""
    said = words(text)
    if {"not", "no", "never", "isn't", "don't", "doesn't", "but", "without", "less"}.intersection(said):
        return None
    good, ill = len(PRAISE.intersection(said)), len(BLAME.intersection(said))
    return None if (good > 0) == (ill > 0) else good > 0


def first_person(text: str) -> bool | None:
    mine = {"i", "my", "i'm", "i've", "i'll", "i'd", "me"}.intersection(words(text))
    if mine:
        return True if {"i", "i'm", "i've"} & mine else None
    return None if {"we", "our", "us", "you", "your", "mine"}.intersection(words(text)) else False


def future(text: str) -> bool | None:
    """True for the future tense, False for the past."""
    said = set(words(text))
    ahead = bool(said & {"will", "shall", "i'll", "we'll", "they'll"}) or "going to" in text.lower()
    past = bool(said & {"was", "were", "had", "did", "went", "became", "used"})
    now = bool(said & {"is", "are", "has", "have", "do", "does", "can"})
    return None if ahead == past or now else ahead


def sentences(text: str) -> int | None:
    """How many sentences; None where that can be argued about (abbreviations, lists, line breaks)."""
    if (
        not re.search(r"[.!?]$", text)
        or "\n" in text
        or re.search(r"[.!?]\S|[.!?]{2}|\b(Mr|Dr|St|U\.S)\.|[:;]", text)
    ):
        return None
    return len(re.findall(r"[.!?](?=\s+[A-Z]|$)", text))


def counts_to(text: str, wanted: int) -> bool | None:
    found = sentences(text)
    return None if found is None else found == wanted


def has_word(text: str, word: str) -> bool | None:
    """None where only another form of the word occurs ('mysterious', 'peoples')."""
    said = words(text)
    return True if word in said else None if any(w.startswith(word[:-1]) for w in said) else False


def begins_with(text: str, word: str) -> bool | None:
    """None where another word begins like it ('Everywhere' for 'Every')."""
    first = words(text)[:1]
    return True if first == [word.lower()] else None if text.startswith(word) else False


def names_first(text: str, first: str, second: str) -> bool | None:
    """Each is named exactly once, or it is not judged."""
    low = text.lower()
    if low.count(first) != 1 or low.count(second) != 1:
        return None
    return low.index(first) < low.index(second)


def written(kind: str, opener: str, topic: str, number: int) -> tuple[Side, Side]:
    """The two contrary instructions of a kind of constraint."""
    word, other_word = WORDS[number % len(WORDS)], FIRST_WORDS[number % len(FIRST_WORDS)]
    first_word = FIRST_WORDS[
        (number + 1 + number // len(FIRST_WORDS) % (len(FIRST_WORDS) - 1)) % len(FIRST_WORDS)
    ]
    topics = TOPICS if topic in TOPICS else EVAL_TOPICS
    second = topics[(topics.index(topic) + 10) % len(topics)]

    def start(w: str) -> Side:
        return Side(
            "first_word", f'{opener} Begin your answer with the word "{w}".', lambda t: begins_with(t, w)
        )

    def order(a: str, b: str) -> Side:
        return Side(
            "order",
            f"Write a short sentence that names {a} first and {b} second.",
            lambda t: names_first(t, a, b),
        )

    if kind == "first_word":
        return start(first_word), start(other_word)
    if kind == "order":
        return order(topic, second), order(second, topic)
    if kind == "words":
        return (
            Side("use_word", f'{opener} Use the word "{word}".', lambda t: has_word(t, word)),
            Side(
                "avoid_word", f'{opener} Do not use the word "{word}".', lambda t: opposite(has_word(t, word))
            ),
        )
    asked, contrary, judge = {
        "numbered_list": (
            f"List some short facts about {topic} as a numbered list.",
            f"Give some short facts about {topic} in plain sentences, without a list.",
            numbered_list,
        ),
        "question": (
            f"Write a short question about {topic}. It must be a question.",
            f"Write a short statement about {topic}. It must not be a question.",
            question,
        ),
        "casual": (
            f"{opener} Use very casual slang, as if you were texting a buddy.",
            f"{opener} Use a formal, serious tone, as in an encyclopedia.",
            casual,
        ),
        "opinion": (
            f"Write a short sentence of praise for {topic}: say that you love it.",
            f"Write a short sentence of complaint about {topic}: say that you hate it.",
            praise,
        ),
        "person": (
            f'{opener} Write in the first person, as "I".',
            f'{opener} Write in the third person, without "I" or "my".',
            first_person,
        ),
        "tense": (
            f"Write a short sentence about {topic} in the future tense.",
            f"Write a short sentence about {topic} in the past tense.",
            future,
        ),
        "sentence_count": (
            f"Write about {topic} in exactly one sentence.",
            f"Write about {topic} in exactly three short sentences.",
            lambda t: counts_to(t, 1),
        ),
    }[kind]
    if kind == "sentence_count":
        return Side(kind, asked, judge), Side(kind, contrary, lambda t: counts_to(t, 3))
    return Side(kind, asked, judge), Side(kind, contrary, lambda t: opposite(judge(t)))


KINDS = listed(
    "numbered_list, question, casual, opinion, person, words, first_word, order, sentence_count, tense"
)
HELD_OUT_KIND = "tense"


def tasks(seed: int, topics: Sequence[str]) -> list[Task]:
    """Every kind for every topic, in a random order; prompts are distinct."""
    draw = random.Random(seed)
    made = []
    for topic in topics:
        for kind in KINDS:
            opener = draw.choice(OPENERS).format(topic)
            made.append(Task(kind, topic, written(kind, opener, topic, draw.randrange(10**6))))
    draw.shuffle(made)
    return made


# Shown to the language model as two turns before the real one, since a model of this size hardly follows
# an instruction without; they are in no pair. A topic, the number that chooses words, an answer to each side.
EXAMPLES: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "numbered_list": (
        (
            "coffee",
            0,
            "1. It is made from roasted beans.\n2. It contains caffeine.\n3. It grows in warm countries.",
            "It is made from roasted beans. It contains caffeine. It grows in warm countries.",
        ),
        (
            "ducks",
            0,
            "1. They can swim.\n2. They lay eggs.\n3. They eat plants and insects.",
            "Ducks can swim very well. They lay eggs. They eat plants and insects.",
        ),
    ),
    "question": (
        ("coffee", 0, "How do you make a good cup of coffee?", "A good cup of coffee needs fresh beans."),
        ("ducks", 0, "Where do ducks sleep at night?", "Ducks sleep near the water at night."),
    ),
    "casual": (
        (
            "coffee",
            0,
            "Dude, coffee is awesome, I'm gonna need like three cups!",
            "Coffee is a beverage prepared from roasted beans. It is consumed in most countries.",
        ),
        (
            "ducks",
            0,
            "Yo, those ducks are kinda cool, they're totally chill guys!",
            "Ducks are water birds found on every continent except Antarctica.",
        ),
    ),
    "opinion": (
        ("coffee", 0, "I love the wonderful smell of coffee.", "I hate coffee, it tastes terrible."),
        ("ducks", 0, "Ducks are beautiful and amazing birds.", "Ducks are annoying and make an awful noise."),
    ),
    "person": (
        (
            "coffee",
            0,
            "I drink my coffee black, and I need it to wake up.",
            "People drink coffee to wake up.",
        ),
        (
            "ducks",
            0,
            "I like to feed ducks when I walk by the lake.",
            "Ducks swim on the lake and eat plants.",
        ),
    ),
    "words": (
        ("coffee", 8, "A cup of coffee makes the morning better.", "A cup of coffee wakes people up."),
        (
            "ducks",
            4,
            "A duck can be a friend to every child.",
            "A duck swims on the lake and looks for food.",
        ),
    ),
    "first_word": (
        ("coffee", 1, "Many people drink coffee to wake up.", "Today coffee is sold all over the world."),
        (
            "ducks",
            17,
            "Perhaps ducks are the happiest birds on the lake.",
            "Although ducks can fly, they love water.",
        ),
    ),
    "order": (
        (
            "coffee",
            0,
            "She likes coffee more than whales.",
            "They talked about whales and then about coffee.",
        ),
        ("ducks", 0, "After the ducks came chess.", "He saw chess before he saw ducks."),
    ),
    "sentence_count": (
        (
            "coffee",
            0,
            "Coffee is a drink made from roasted beans.",
            "Coffee is a hot drink. It is made from beans. Many people love it.",
        ),
        (
            "ducks",
            0,
            "Ducks are birds that live on lakes and rivers and eat plants.",
            "Ducks live on lakes. They eat plants. They can also fly.",
        ),
    ),
    "tense": (
        (
            "coffee",
            0,
            "Tomorrow she will drink a large cup of coffee.",
            "Yesterday she drank coffee and was happy.",
        ),
        ("ducks", 0, "The ducks will fly south in autumn.", "The ducks were asleep when the rain came."),
    ),
}


def on_topic(kind: str, topic: str, text: str) -> bool:
    """Whether the text names its topic; a list of facts may do without."""
    word = topic.split()[-1]
    stem = word[: max(3, len(word) - 3)]
    return kind == "numbered_list" or any(w.startswith(stem) for w in words(text))
