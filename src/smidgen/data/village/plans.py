"""Wants and how people go about them: each plan starts from a want or a mishap and lets events follow until it is met
or given up.

Every step goes through `do`, so a plan can only ask for what the world allows. Branches are drawn from the world's own
generator, and what a person does depends on what they hold, know and feel. plans_social.py has the plans that are
mostly about two people.
"""

from smidgen.data.village.events import do
from smidgen.data.village.words import Word
from smidgen.data.village.world import Act, Person, Thing, World

EDIBLE = ("plums", "berries", "eggs", "nuts", "cherries", "figs", "mushrooms")


def go(w: World, a: Person, place: Word, r: str = "", link: str = "") -> None:
    """Go there unless already there."""
    if a.place is not place:
        do(w, Act("go", a, l=place, r=r, link=link))


def elsewhere(w: World, *avoid: Word) -> Word:
    """Draw a place of the tale other than these."""
    return w.pick([p for p in w.places if p not in avoid])


def visit(w: World, a: Person, b: Person, r: str = "") -> None:
    """Bring `a` to `b`: meet by chance if nobody knows yet where `b` is, else go to see them."""
    if b.placed and b.place is a.place:
        return
    if not b.placed:
        if w.chance(0.5):
            b.place = a.place
            do(w, Act("come_along", a, b))
            return
        b.place = elsewhere(w, a.place)
    go(w, a, b.place, r or w.pick(w.lists["visit.reason"]))
    do(w, Act("meet", a, b))


def aftermath(w: World, a: Person, r: str, good: bool) -> None:
    """Let somebody feel how it ended, or say nothing of it."""
    if w.chance(0.6):
        do(w, Act("glad" if good else w.pick(("sad", "angry")), a, r=r))


def weather_turn(w: World, a: Person) -> None:
    """Let the weather or the light change now and then."""
    if not w.chance(0.12):
        return
    if w.weather in ("fog", "snow", "cloud") and w.chance(0.6):
        do(w, Act("clear_up", a))
    elif w.time != "evening":
        do(w, Act("night_falls", a))


def seek(w: World, a: Person, x: Thing, where: Word) -> bool:
    """Go to where the thing is believed to be, search and find it."""
    go(w, a, where, f"to look for the {x.noun}", "so")
    weather_turn(w, a)
    if w.chance(0.35):
        do(w, Act("search", a, x=x))
    if x.box:
        do(w, Act("find_in", a, x=x, d=x.box))
    else:
        do(w, Act("find", a, x=x))
    return True


def lost_thing(w: World) -> None:
    """Miss a thing, ask or remember where it is, fetch it; or look in the wrong place and give up."""
    h, b, c = w.people
    x = w.thing(w.pick(("treasure", "tool", "fragile")), h)
    spot = x.lies = elsewhere(w, h.place)
    do(w, Act("miss", h, x=x))
    if w.chance(0.25):
        do(w, Act("remember", h, x=x, l=spot))
        seek(w, h, x, spot)
        aftermath(w, h, f"the {x.noun} was safe", True)
        return
    helper = b
    visit(w, h, b)
    do(w, Act("ask_where", h, b, x))
    if w.chance(0.3):
        do(w, Act("not_know", b, h, x))
        helper = c
        if w.chance(0.4):
            go(w, h, elsewhere(w, h.place, spot), f"to look for the {x.noun}", "so")
            do(w, Act("search_in_vain", h, x=x))
            do(w, Act("give_up", h, x=x))
            aftermath(w, h, f"the {x.noun} was lost", False)
            return
        visit(w, h, c)
        do(w, Act("ask_where", h, c, x))
    helper.knows[x.noun] = spot
    do(w, Act("tell_where", helper, h, x, l=spot))
    seek(w, h, x, spot)
    aftermath(w, h, f"the {x.noun} was safe", True)


def borrow(w: World) -> None:
    """Want a tool somebody has; ask, be refused or lent it; use it; give it back, whole or not."""
    h, b, _ = w.people
    x = w.thing("tool", b)
    x.holder = b
    r = w.pick(w.lists["purpose"])
    do(w, Act("want", h, x=x, r=r))
    visit(w, h, b, f"to ask for the {x.noun}")
    do(w, Act("ask_for", h, b, x))
    if w.chance(0.3):
        do(w, Act("refuse", b, h, x))
        if w.chance(0.5):
            y = w.thing("food", h)
            y.holder = h
            do(w, Act("trade", h, b, y, y=x))
            do(w, Act("use", h, x=x, r=r))
            aftermath(w, h, "the work was done", True)
        else:
            aftermath(w, h, f"{b.name} had said no", False)
        return
    if w.chance(0.5):
        do(w, Act("promise", h, b, x))
    do(w, Act("lend", b, h, x))
    go(w, h, elsewhere(w, h.place), r)
    do(w, Act("use", h, x=x, r=r))
    if w.chance(0.6):
        go(w, h, b.place, f"to return the {x.noun}")
        do(w, Act("give_back", h, b, x))
        if w.chance(0.5):
            do(w, Act("thank", h, b, x))
    elif w.chance(0.5):
        do(w, Act("leave_behind", h, x=x))
        go(w, h, elsewhere(w, h.place), w.pick(w.lists["place.reason"]))


def gift(w: World) -> None:
    """Somebody is sad or has a birthday: get something, wrap it, bring it."""
    h, b, c = w.people
    if not b.placed:
        b.place = elsewhere(w, h.place)
    x = _obtain(w, h, c)
    if w.chance(0.4):
        do(w, Act("wrap", h, x=x, d=w.pick(w.lists["box"])))
    if b.place is not h.place:
        go(w, h, b.place, f"to surprise {b.name}")
    do(w, Act("give", h, b, x))
    if w.chance(0.5):
        do(w, Act("thank", b, h, x))
    else:
        do(w, Act("glad", b, r=f"the {x.noun} was a gift from {h.name}"))
    h.mood = 1


def _part(w: World, x: Thing) -> int:
    """Draw how many go, so that at least two go and two stay."""
    return 2 + int(w.rng.random() * (x.count - 3))


def _obtain(w: World, h: Person, c: Person) -> Thing:
    """Get a new thing by making, baking, buying, finding or winning it."""
    way = w.pick(("make", "bake", "buy", "find", "win"))
    if way == "make":
        x = w.thing(w.pick(("treasure", "tool")))
        do(w, Act("make", h, x=x))
    elif way == "bake":
        x = w.thing("food")
        do(w, Act("bake", h, x=x))
    elif way == "buy":
        x = w.thing(w.pick(("treasure", "fragile", "food")), c)
        x.holder = c
        do(w, Act("want", h, x=x, r=w.pick(w.lists["want.reason"])))
        visit(w, h, c, f"to buy the {x.noun}")
        do(w, Act("buy", h, c, x, n=2 + int(w.rng.random() * 9)))
    elif way == "find":
        x = w.thing("treasure")
        spot = x.lies = elsewhere(w, h.place)
        go(w, h, spot, w.pick(w.lists["place.reason"]))
        do(w, Act("find", h, x=x))
    else:
        x = w.thing("treasure")
        if c.placed and c.place is not h.place:
            go(w, h, c.place, w.pick(w.lists["visit.reason"]))
        c.place = h.place
        do(w, Act("challenge", h, c))
        do(w, Act("win", h, c, x))
    return x


def hungry(w: World) -> None:
    """Be hungry; buy, find or beg food; eat it, share it or lose it to a bird."""
    h, b, _ = w.people
    do(w, Act("hungry", h))
    x = w.thing("food", b)
    way = w.pick(("buy", "find", "ask", "bake"))
    if way == "find":
        spot = elsewhere(w, h.place)
        x.owner, x.lies = None, spot
        go(w, h, spot, "to look for food")
        do(w, Act("find", h, x=x))
    elif way == "bake":
        x.owner = None
        go(w, h, elsewhere(w, h.place), "to cook something")
        do(w, Act("bake", h, x=x))
    else:
        x.holder = b
        visit(w, h, b, "to look for food")
        if way == "buy":
            do(w, Act("buy", h, b, x, n=2 + int(w.rng.random() * 9)))
        else:
            do(w, Act("ask_for", h, b, x))
            if w.chance(0.25):
                do(w, Act("refuse", b, h, x))
                aftermath(w, h, f"{b.name} had said no", False)
                return
            do(w, Act("give", b, h, x))
            h.mood = 0
    if h.place.group == "outdoor" and w.chance(0.25):
        do(w, Act("snatch", h, x=x))
        aftermath(w, h, f"the {x.noun} was gone", False)
    elif b.placed and b.place is h.place and w.chance(0.35):
        do(w, Act("share", h, b, x))
    else:
        do(w, Act("eat", h, x=x))


def repair(w: World) -> None:
    """Something breaks; take it to somebody who can mend it, or mourn it."""
    h, b, c = w.people
    x = w.thing("fragile", h)
    x.holder = h
    if w.chance(0.5):
        do(w, Act("carry", h, x=x))
        go(w, h, elsewhere(w, h.place), f"to show the {x.noun} to everyone")
    if w.chance(0.6) or (c.placed and c.place is not h.place):
        do(w, Act("drop", h, x=x))
    else:
        c.place = h.place
        do(w, Act("meet", h, c))
        do(w, Act("knock_over", c, h, x))
        if w.chance(0.6):
            do(w, Act("apologise", c, h, x))
            if w.chance(0.6):
                do(w, Act("forgive", h, c, x))
    h.mood = -1
    if w.chance(0.3):
        aftermath(w, h, f"the {x.noun} was broken", False)
        return
    if b.placed and b.place is h.place:
        pass
    elif b.placed:
        go(w, h, b.place, f"to have the {x.noun} mended", "so")
    else:
        b.place = elsewhere(w, h.place)
        go(w, h, b.place, f"to have the {x.noun} mended", "so")
        do(w, Act("meet", h, b))
    do(w, Act("ask_repair", h, b, x))
    do(w, Act("repair", b, h, x))
    do(w, Act("give_back", b, h, x))
    aftermath(w, h, f"the {x.noun} was whole again", True)


def gather(w: World) -> None:
    """Pick a number of things; give some away, spill some, eat some."""
    h, b, _ = w.people
    x = w.thing("many")
    place = elsewhere(w, h.place)
    r = w.pick(w.lists["many.reason"])
    go(w, h, place, f"to get {x.noun} {r}")
    do(w, Act("pick", h, x=x, n=4 + int(w.rng.random() * 8)))
    do_more = w.rng.random()
    if do_more < 0.35:
        do(w, Act("spill", h, x=x, n=_part(w, x)))
        aftermath(w, h, f"some {x.noun} were gone", False)
    elif do_more < 0.8:
        visit(w, h, b)
        do(w, Act("give_some", h, b, x, n=_part(w, x)))
        if w.chance(0.5):
            do(w, Act("thank", b, h, x))
        aftermath(w, h, f"{b.name} liked the {x.noun}", True)
    else:
        if w.chance(0.5):
            do(w, Act("eat_some" if x.noun in EDIBLE else "spill", h, x=x, n=_part(w, x)))
        aftermath(w, h, f"the {x.noun} were so fine", True)


def pet(w: World) -> None:
    """An animal runs off; follow, ask, call, feed, catch it."""
    h, b, _ = w.people
    x = w.thing("animal", h)
    x.holder = h
    spot = elsewhere(w, h.place)
    do(w, Act("run_off", h, x=x, l=spot))
    if w.chance(0.45):
        visit(w, h, b)
        do(w, Act("ask_where", h, b, x))
        b.knows[x.noun] = spot
        if w.chance(0.15):
            b.knows.clear()
            do(w, Act("not_know", b, h, x))
            do(w, Act("give_up", h, x=x))
            aftermath(w, h, f"the {x.noun} was gone", False)
            return
        do(w, Act("tell_where", b, h, x, l=spot))
    go(w, h, spot, f"to catch the {x.noun}", "so")
    if w.chance(0.5):
        do(w, Act("call", h, x=x))
    if w.chance(0.4):
        y = w.thing("food", h)
        y.holder = h
        do(w, Act("feed", h, x=x, y=y))
    do(w, Act("catch", h, x=x))
    if w.chance(0.5):
        go(w, h, elsewhere(w, h.place), f"to keep the {x.noun} safe")


def wind(w: World) -> None:
    """Play in the open; the wind takes the plaything; run after it."""
    h, b, _ = w.people
    x = w.thing("treasure", h)
    x.holder = h
    outside = [p for p in w.places if p.group == "outdoor"]
    if not outside:
        return lost_thing(w)
    do(w, Act("carry", h, x=x))
    go(w, h, w.pick(outside), f"to play with the {x.noun}")
    do(w, Act("play", h, x=x))
    do(w, Act("wind_rises", h))
    spot = elsewhere(w, h.place)
    do(w, Act("blow_away", h, x=x, l=spot))
    if w.chance(0.3):
        aftermath(w, h, f"the {x.noun} was gone", False)
        return None
    if w.chance(0.5) and (not b.placed or b.place is spot):
        b.place = spot
        do(w, Act("notice", b, x=x))
        do(w, Act("take", b, x=x))
        go(w, h, b.place, f"to get the {x.noun} back", "so")
        do(w, Act("give_back", b, h, x))
        do(w, Act("thank", h, b, x))
        return None
    seek(w, h, x, spot)
    aftermath(w, h, f"the {x.noun} was safe", True)
    return None
