"""Plans that are mostly about two or three people: favours, secrets, quarrels, contests, mishaps, weather."""

from collections.abc import Callable

from smidgen.data.village import plans
from smidgen.data.village.events import do
from smidgen.data.village.plans import aftermath, elsewhere, go, visit
from smidgen.data.village.world import Act, World


def theft(w: World) -> None:
    """Somebody takes a thing in secret; a witness tells; the thief confesses, or nobody finds out."""
    h, b, c = w.people
    x = w.thing("treasure", h)
    x.holder = h
    if b.placed and b.place is not h.place:
        go(w, h, b.place, w.pick(w.lists["place.reason"]))
    do(w, Act("put_down", h, x=x))
    left_at = h.place
    b.place = left_at
    do(w, Act("rest", h))
    do(w, Act("steal", b, h, x))
    do(w, Act("miss", h, x=x))
    if w.chance(0.25):
        aftermath(w, h, f"the {x.noun} was gone", False)
        return
    if w.chance(0.5):
        visit(w, h, c)
        do(w, Act("ask_where", h, c, x))
        do(w, Act("tell_thief", c, h, x, c=b))
    if h.place is not b.place:
        go(w, h, b.place, f"to get the {x.noun} back", "so")
    do(w, Act("accuse", h, b, x))
    do(w, Act("confess", b, h, x))
    do(w, Act("give_back", b, h, x))
    if w.chance(0.6):
        do(w, Act("apologise", b, h, x))
        do(w, Act("forgive", h, b, x))
    b.mood = min(b.mood, 0)


def delivery(w: World) -> None:
    """Carry something from one person to another, through whatever comes between."""
    h, b, c = w.people
    x = w.thing(w.pick(("treasure", "food", "tool", "fragile")), b)
    x.holder = b
    visit(w, h, b)
    if not c.placed:
        c.place = elsewhere(w, h.place)
    if c.place is h.place:
        quarrel(w)
        return
    do(w, Act("request", h, b, x, c=c))
    do(w, Act("hand", b, h, x))
    if w.chance(0.5):
        do(w, Act("promise_carry", h, b, x, c=c))
    if h.place.group == "outdoor" and w.weather != "rain" and w.chance(0.4):
        do(w, Act("rain_starts", h))
        if w.chance(0.5):
            do(w, Act("get_wet", h))
    go(w, h, c.place, f"to bring the {x.noun} to {c.name}", "so")
    do(w, Act("give", h, c, x))
    h.mood = 0
    if h.wet:
        do(w, Act("warm_up", h))
    elif w.chance(0.5):
        do(w, Act("thank", c, h, x))


def hiding(w: World) -> None:
    """Hide a thing in a container; somebody looks for it, and finds it or does not."""
    h, b, c = w.people
    x = w.thing(w.pick(("treasure", "tool", "food", "fragile")), h)
    x.holder = h
    spot = elsewhere(w, h.place)
    do(w, Act("carry", h, x=x))
    go(w, h, spot, f"to hide the {x.noun}")
    do(w, Act("hide", h, x=x, d=w.pick(w.lists["box"])))
    if w.chance(0.4):
        go(w, h, elsewhere(w, spot), w.pick(w.lists["place.reason"]))
        return
    if not b.placed:
        b.place = elsewhere(w, spot)
    do(w, Act("want", b, x=x, r=w.pick(w.lists["want.reason"])))
    if w.chance(0.5):
        visit(w, b, h if b.placed and b.place is not h.place else c)
        other = h if b.place is h.place else c
        if other is h:
            do(w, Act("ask_where", b, h, x))
            h.knows[x.noun] = spot
            do(w, Act("tell_where", h, b, x, l=spot))
        else:
            do(w, Act("ask_where", b, c, x))
            do(w, Act("not_know", c, b, x))
    if w.chance(0.6):
        plans.seek(w, b, x, spot)
    else:
        wrong = elsewhere(w, spot, b.place)
        go(w, b, wrong, f"to look for the {x.noun}", "so")
        do(w, Act("search_in_vain", b, x=x))
        do(w, Act("give_up", b, x=x))


def contest(w: World) -> None:
    """A challenge, a race, a prize for one of the two."""
    h, b, _ = w.people
    x = w.thing("treasure")
    visit(w, h, b)
    do(w, Act("challenge", h, b))
    do(w, Act("race", h, b))
    winner, loser = (h, b) if w.chance(0.5) else (b, h)
    do(w, Act("win", winner, loser, x))
    if w.chance(0.5):
        do(w, Act("praise", loser, winner))
        loser.mood = 0
    else:
        do(w, Act("sad", loser, r=f"{winner.name} had won"))


def locked(w: World) -> None:
    """A thing shut in a chest; the key is with somebody else."""
    h, b, _ = w.people
    x = w.thing(w.pick(("treasure", "tool", "food")), h)
    x.lies, x.box = h.place, w.pick(w.lists["box"])
    do(w, Act("shut_in", h, x=x, d=x.box))
    if not b.placed:
        b.place = elsewhere(w, h.place)
    home = h.place
    go(w, h, b.place, "to ask for the key")
    do(w, Act("ask_key", h, b, x))
    if w.chance(0.3):
        do(w, Act("refuse_key", b, h, x))
        aftermath(w, h, f"{b.name} had said no", False)
        return
    do(w, Act("give_key", b, h, x))
    go(w, h, home, "to open the " + x.box)
    do(w, Act("unlock", h, x=x, d=x.box))
    do(w, Act("take", h, x=x))
    aftermath(w, h, f"the {x.noun} was safe", True)


def rain(w: World) -> None:
    """Be caught by rain, find shelter, get warm, perhaps by somebody's kindness."""
    h, b, _ = w.people
    outside = [p for p in w.places if p.group == "outdoor"]
    inside = [p for p in w.places if p.group == "indoor"]
    if not outside or not inside or (w.weather == "rain" and h.place.group == "indoor"):
        quarrel(w)
        return
    if h.place.group == "indoor":
        go(w, h, w.pick(outside), w.pick(w.lists["place.reason"]))
    if w.weather != "rain":
        do(w, Act("rain_starts", h))
    do(w, Act("get_wet", h))
    place = w.pick(inside)
    do(w, Act("shelter", h, l=place, r="to get out of the rain", link="so"))
    if not b.placed:
        b.place = place
    if b.place is place:
        x = w.thing(w.pick(("food", "treasure")), b)
        x.holder = b
        do(w, Act("meet", h, b))
        do(w, Act("give", b, h, x))
        h.mood = 0
    do(w, Act("warm_up", h))


def quarrel(w: World) -> None:
    """Two people want one thing; somebody else settles it, or they part in anger."""
    h, b, c = w.people
    x = w.thing(w.pick(("treasure", "tool")), h)
    x.holder = h
    visit(w, h, b)
    do(w, Act("quarrel", h, b, x))
    way = w.rng.random()
    if way < 0.4:
        do(w, Act("make_up", h, b, x))
        do(w, Act("give" if w.chance(0.4) else "lend", h, b, x))
    elif way < 0.7:
        if not c.placed:
            c.place = h.place
        if c.place is h.place:
            do(w, Act("comfort", c, h))
            h.mood = 0
        go(w, h, elsewhere(w, h.place), "to be alone")
    else:
        aftermath(w, h, f"{b.name} had been unkind", False)
        go(w, h, elsewhere(w, h.place), "to be alone")


def honest_finder(w: World) -> None:
    """Find what somebody lost, take it back to them, perhaps be rewarded."""
    h, b, _ = w.people
    x = w.thing(w.pick(("treasure", "fragile", "tool")), b)
    if not b.placed:
        b.place = elsewhere(w, h.place)
    spot = x.lies = elsewhere(w, h.place, b.place)
    go(w, h, spot, w.pick(w.lists["place.reason"]))
    do(w, Act("find", h, x=x))
    if w.chance(0.25):
        do(w, Act("clean", h, x=x))
    if w.chance(0.15):
        do(w, Act("leave_behind", h, x=x))
        return
    go(w, h, b.place, f"to return the {x.noun}")
    do(w, Act("give_back", h, b, x))
    if w.chance(0.5):
        y = w.thing("food", b)
        y.holder = b
        do(w, Act("reward", b, h, y))
        h.mood = 1
    else:
        do(w, Act("thank", b, h, x))


def lesson(w: World) -> None:
    """Learn to make something, make it, show it or give it away."""
    h, b, _ = w.people
    x = w.thing("treasure")
    visit(w, h, b, "to learn something new")
    do(w, Act("teach", b, h, x))
    do(w, Act("make", h, x=x))
    if w.chance(0.6):
        do(w, Act("praise", b, h))
    else:
        do(w, Act("glad", h, r=f"the {x.noun} looked so fine"))
    if w.chance(0.4):
        go(w, h, elsewhere(w, h.place), f"to show the {x.noun} to everyone")


def mishap(w: World) -> None:
    """Fall, be bandaged and comforted by somebody, and go on or go home."""
    h, b, _ = w.people
    go(w, h, elsewhere(w, h.place), w.pick(w.lists["place.reason"]))
    x = w.thing(w.pick(("food", "fragile", "treasure")), h)
    x.holder = h
    do(w, Act("carry", h, x=x))
    do(w, Act("fall", h))
    if x.word.group == "fragile":
        do(w, Act("drop", h, x=x))
    if b.placed and b.place is not h.place:
        do(w, Act("follow", b, h))
    b.place = h.place
    do(w, Act("bandage", b, h))
    way = w.rng.random()
    if way < 0.4:
        h.mood = 0
        do(w, Act("guide", b, h, l=elsewhere(w, h.place)))
    elif way < 0.7:
        do(w, Act("thank", h, b))
        if not x.broken:
            do(w, Act("give", h, b, x))


def outing(w: World) -> None:
    """Go somewhere, greet somebody, look at things, rest: a day on which little happens."""
    h, b, _ = w.people
    x = w.thing(w.pick(("treasure", "tool", "fragile", "food")), h)
    x.holder = h
    do(w, Act("carry", h, x=x))
    if w.chance(0.2):
        do(w, Act("lose_way", h, l=elsewhere(w, h.place)))
    go(w, h, elsewhere(w, h.place), w.pick(w.lists["place.reason"]))
    if not b.placed:
        b.place = h.place
    if b.place is h.place:
        do(w, Act("greet", h, b))
        if h.place.group == "outdoor" and w.chance(0.3):
            do(w, Act("warn", b, h))
    plans.weather_turn(w, h)
    if w.chance(0.4):
        do(w, Act("put_down", h, x=x))
    do(w, Act("rest", h))
    if w.chance(0.5):
        go(w, h, elsewhere(w, h.place), w.pick(w.lists["place.reason"]))


KEPT = ("treasure", "tool", "fragile", "food", "animal")
PLANS: tuple[Callable[[World], None], ...] = (
    plans.lost_thing,
    plans.lost_thing,
    plans.borrow,
    plans.gift,
    plans.hungry,
    plans.repair,
    plans.gather,
    plans.gather,
    plans.pet,
    plans.wind,
    theft,
    delivery,
    delivery,
    hiding,
    contest,
    locked,
    rain,
    quarrel,
    honest_finder,
    lesson,
    mishap,
    outing,
)


def live(w: World, episodes: int) -> None:
    """Let the hero's day pass: `episodes` different plans, each starting from the state the last one left.

    First the others are shown going about their own business with their own things: people, places and things that may
    or may not matter later, so that no question can be answered because there is only one candidate.
    """
    do(w, Act("start", w.people[0]))
    for other in w.people[1:]:
        if w.chance(0.85):
            other.place = elsewhere(w, w.people[0].place)
            if w.chance(0.7):
                x = w.thing(w.pick(KEPT), other)
                x.holder = other
                do(w, Act("keep", other, x=x))
            else:
                do(w, Act("be_at", other))
    if episodes == 0 and w.chance(0.6):
        x = w.thing(w.pick(KEPT), w.people[0])
        x.holder = w.people[0]
        do(w, Act("carry", w.people[0], x=x))
    for plan in w.rng.sample(PLANS, episodes):
        plan(w)
