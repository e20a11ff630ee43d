"""What an event can require of the world and what it can change: small functions of (world, act), named as they read.

Needs return whether they hold; effects change people, things, weather or time in place. events.py puts them together.
"""

from collections.abc import Callable

from smidgen.data.village.world import Act, World

Need = Callable[[World, Act], bool]
Effect = Callable[[World, Act], None]

# Preconditions


def unplaced(w, e):
    """The text has not said yet where the actor is."""
    return not e.a.placed


def a_has_x(w, e):
    """The actor holds the thing."""
    return e.x.holder is e.a


def b_has_x(w, e):
    """The other holds the thing."""
    return e.x.holder is e.b


def a_lacks_x(w, e):
    """The actor does not hold the thing."""
    return e.x.holder is not e.a


def b_has_y(w, e):
    """The other holds the second thing."""
    return e.y.holder is e.b


def a_has_y(w, e):
    """The actor holds the second thing."""
    return e.y.holder is e.a


def a_owns_x(w, e):
    """The thing belongs to the actor."""
    return e.x.owner is e.a


def b_owns_x(w, e):
    """The thing belongs to the other."""
    return e.x.owner is e.b


def together(w, e):
    """Actor and other are in one place."""
    return e.a.place is e.b.place


def apart(w, e):
    """Actor and other are in different places."""
    return e.a.place is not e.b.place


def x_here(w, e):
    """The thing lies where the actor is."""
    return e.x.holder is None and e.x.lies is e.a.place and not e.x.gone


def x_not_here(w, e):
    """The thing is not where the actor is."""
    return e.x.place is not e.a.place


def x_open(w, e):
    """The thing is not shut away."""
    return not e.x.box


def x_boxed(w, e):
    """The thing is in a container."""
    return bool(e.x.box)


def x_whole(w, e):
    """The thing is not broken."""
    return not e.x.broken and not e.x.gone


def x_broken(w, e):
    """The thing is broken."""
    return e.x.broken


def x_new(w, e):
    """The thing is not in the world yet."""
    return e.x.holder is None and e.x.lies is None


def elsewhere(w, e):
    """The goal is not where the actor already is."""
    return e.l is not e.a.place


def a_knows(w, e):
    """The actor believes the thing to be at that place."""
    return e.a.knows.get(e.x.noun) is e.l


def a_ignorant(w, e):
    """The actor does not know where the thing is."""
    return e.x.noun not in e.a.knows


def kind_is(*kinds: str) -> Need:
    """The thing is of one of these kinds."""

    def right_kind(w, e):
        return e.x.word.group in kinds

    return right_kind


def weather_is(*weathers: str) -> Need:
    """The weather is one of these."""

    def right_weather(w, e):
        return w.weather in weathers

    return right_weather


def outdoors(w, e):
    """The actor is in the open."""
    return e.a.place.group == "outdoor"


def enough(w, e):
    """The actor has at least that many."""
    return 0 < e.n <= e.x.count and e.x.holder is e.a


def hungry(w, e):
    """The actor is hungry."""
    return e.a.hungry


def wet(w, e):
    """The actor is wet."""
    return e.a.wet


def daylight(w, e):
    """It is not evening yet."""
    return w.time != "evening"


# Effects


def move(w, e):
    """The actor is now at the goal."""
    e.a.place = e.l
    e.a.placed = True


def join(w, e):
    """The actor is now where the other is."""
    e.a.place = e.b.place
    e.a.placed = True


def bring_b(w, e):
    """The other is now at the goal too."""
    e.b.place = e.l
    e.b.placed = True


def place_a(w, e):
    """The text says where the actor is."""
    e.a.placed = True


def place_b(w, e):
    """Whoever is with somebody whose place was told is told of too."""
    e.b.placed = e.b.placed or e.a.placed


def a_gets_x(w, e):
    """The actor holds the thing."""
    e.x.holder, e.x.lies, e.x.box = e.a, None, ""


def b_gets_x(w, e):
    """The other holds the thing."""
    e.x.holder, e.x.lies, e.x.box = e.b, None, ""


def b_gets_y(w, e):
    """The other holds the second thing."""
    e.y.holder, e.y.lies = e.b, None


def a_gets_y(w, e):
    """The actor holds the second thing."""
    e.y.holder, e.y.lies = e.a, None


def a_owns(w, e):
    """The thing now belongs to the actor."""
    e.x.owner = e.a


def b_owns(w, e):
    """The thing now belongs to the other."""
    e.x.owner = e.b


def y_changes_owner(w, e):
    """The second thing belongs to whoever holds it."""
    e.y.owner = e.y.holder


def x_lies_here(w, e):
    """The thing lies where the actor is."""
    e.x.holder, e.x.lies = None, e.a.place


def x_lies_there(w, e):
    """The thing lies at the goal."""
    e.x.holder, e.x.lies = None, e.l


def x_in_box(w, e):
    """The thing is inside the container."""
    e.x.box = e.d


def x_unboxed(w, e):
    """The thing is no longer shut away."""
    e.x.box = ""


def x_breaks(w, e):
    """The thing is broken."""
    e.x.broken = True


def x_mended(w, e):
    """The thing is whole again."""
    e.x.broken = False


def x_gone(w, e):
    """The thing is no more."""
    e.x.gone, e.x.holder, e.x.lies = True, None, None


def y_gone(w, e):
    """The second thing is no more."""
    e.y.gone, e.y.holder, e.y.lies = True, None, None


def a_learns(w, e):
    """The actor now believes the thing to be at the goal."""
    e.a.knows[e.x.noun] = e.l


def b_learns(w, e):
    """The other now believes what the actor believes."""
    e.b.knows[e.x.noun] = e.l


def a_forgets(w, e):
    """The actor no longer knows where the thing is."""
    e.a.knows.pop(e.x.noun, None)


def counted(w, e):
    """The actor holds that many more."""
    e.x.count = e.n
    a_gets_x(w, e)


def fewer(w, e):
    """The actor holds that many fewer."""
    e.x.count -= e.n


def glad_a(w, e):
    """The actor is glad."""
    e.a.mood = 1


def sad_a(w, e):
    """The actor is unhappy."""
    e.a.mood = -1


def calm_a(w, e):
    """The actor is neither glad nor sad."""
    e.a.mood = 0


def glad_b(w, e):
    """The other is glad."""
    e.b.mood = 1


def sad_b(w, e):
    """The other is unhappy."""
    e.b.mood = -1


def calm_b(w, e):
    """The other is at peace."""
    e.b.mood = max(0, e.b.mood)


def fed(w, e):
    """The actor is not hungry any more."""
    e.a.hungry = False


def starve(w, e):
    """The actor is hungry."""
    e.a.hungry = True


def soak(w, e):
    """The actor is wet."""
    e.a.wet = True


def dry(w, e):
    """The actor is dry."""
    e.a.wet = False


def to_rain(w, e):
    """It rains."""
    w.weather = "rain"


def to_wind(w, e):
    """A wind blows."""
    w.weather = "wind"


def to_sun(w, e):
    """The sun shines."""
    w.weather = "sun"


def to_evening(w, e):
    """It is evening."""
    w.time = "evening"
