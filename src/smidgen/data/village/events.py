"""What can happen: every event kind with its preconditions and its effects, and `do`, which lets one happen.

A rule is two tuples of small functions of (world, act). The preconditions are what a reader would object to ("she
cannot give what she does not hold"); the effects are all the world remembers.
"""

from smidgen.data.village import conditions as c
from smidgen.data.village.conditions import Effect, Need
from smidgen.data.village.world import Act, World


def do(world: World, act: Act) -> None:
    """Let an event happen: check its preconditions, apply its effects, log it with what was so at that moment.

    Raises ValueError if a precondition does not hold: the plan is impossible.
    """
    a, x = act.a, act.x
    needs, effects = RULES[act.kind]
    for need in needs:
        if not need(world, act):
            raise ValueError(f"{act.kind}: {need.__name__} does not hold for {a.name}")
    act.place, act.owner, act.owner_y = a.place, x and x.owner, act.y and act.y.owner
    for effect in effects:
        effect(world, act)
    act.told, act.here, act.left = a.placed, a.place, x.count if x else 0
    act.time, act.weather = world.time, world.weather
    world.log.append(act)


_carry = (c.a_has_x, c.together)

RULES: dict[str, tuple[tuple[Need, ...], tuple[Effect, ...]]] = {
    # setting out, coming and going
    "start": ((), (c.place_a,)),
    "be_at": ((c.unplaced,), (c.place_a,)),
    "keep": ((c.unplaced, c.a_has_x), (c.place_a,)),
    "go": ((c.elsewhere,), (c.move,)),
    "shelter": ((c.elsewhere, c.outdoors, c.weather_is("rain", "wind", "snow")), (c.move,)),
    "meet": ((c.together,), (c.place_b,)),
    "come_along": ((c.together,), (c.place_b,)),
    "follow": ((c.apart,), (c.join,)),
    "guide": ((c.together, c.elsewhere), (c.move, c.bring_b)),
    "lose_way": ((c.elsewhere,), (c.sad_a,)),
    # things
    "take": ((c.x_here, c.x_open), (c.a_gets_x, c.a_forgets)),
    "carry": ((c.a_has_x,), ()),
    "shut_in": ((c.x_here, c.x_boxed), ()),
    "put_down": ((c.a_has_x,), (c.x_lies_here,)),
    "hide": ((c.a_has_x,), (c.x_lies_here, c.x_in_box)),
    "search": ((c.a_lacks_x,), ()),
    "search_in_vain": ((c.x_not_here,), (c.sad_a,)),
    "find": ((c.x_here, c.x_open), (c.a_gets_x, c.a_forgets)),
    "find_in": ((c.x_here, c.x_boxed), (c.a_gets_x, c.a_forgets)),
    "unlock": ((c.x_here, c.x_boxed), (c.x_unboxed,)),
    "notice": ((c.x_here,), (c.place_a,)),
    "miss": ((c.a_owns_x, c.a_lacks_x), (c.sad_a, c.a_forgets)),
    "leave_behind": ((c.a_has_x,), (c.x_lies_here,)),
    "drop": ((c.a_has_x, c.x_whole, c.kind_is("fragile")), (c.x_breaks, c.sad_a)),
    "knock_over": ((c.x_whole, c.kind_is("fragile")), (c.x_breaks,)),
    "blow_away": ((c.a_has_x, c.outdoors, c.weather_is("wind"), c.kind_is("treasure")), (c.x_lies_there, c.sad_a)),
    "wrap": ((c.a_has_x,), ()),
    "clean": ((c.a_has_x,), ()),
    "use": ((c.a_has_x, c.x_whole, c.kind_is("tool")), ()),
    "play": ((c.a_has_x, c.x_whole), (c.glad_a,)),
    "make": ((c.x_new, c.kind_is("treasure", "tool")), (c.a_gets_x, c.a_owns)),
    "bake": ((c.x_new, c.kind_is("food")), (c.a_gets_x, c.a_owns)),
    "repair": ((c.a_has_x, c.x_broken), (c.x_mended,)),
    # from hand to hand
    "give": (_carry, (c.b_gets_x, c.b_owns, c.glad_b, c.place_b)),
    "lend": (_carry, (c.b_gets_x, c.place_b)),
    "hand": (_carry, (c.b_gets_x, c.place_b)),
    "give_back": ((c.a_has_x, c.together, c.b_owns_x), (c.b_gets_x, c.glad_b, c.place_b)),
    "reward": ((c.a_has_x, c.together), (c.b_gets_x, c.b_owns, c.glad_b, c.place_b)),
    "trade": ((c.a_has_x, c.b_has_y, c.together), (c.b_gets_x, c.a_gets_y, c.b_owns, c.y_changes_owner, c.place_b)),
    "buy": ((c.b_has_x, c.together), (c.a_gets_x, c.a_owns, c.place_b)),
    "steal": ((c.a_lacks_x,), (c.a_gets_x,)),
    "share": ((c.a_has_x, c.together, c.kind_is("food")), (c.x_gone, c.glad_a, c.glad_b, c.place_b, c.fed)),
    "snatch": ((c.a_has_x, c.kind_is("food")), (c.x_gone, c.sad_a)),
    "win": ((c.x_new,), (c.a_gets_x, c.a_owns, c.glad_a)),
    # words between people
    "ask_for": ((c.b_has_x, c.together), (c.place_b,)),
    "ask_repair": ((c.a_has_x, c.x_broken, c.together), (c.b_gets_x, c.place_b)),
    "ask_where": ((c.together, c.a_lacks_x), (c.place_b,)),
    "tell_where": ((c.together, c.a_knows), (c.b_learns,)),
    "not_know": ((c.together, c.a_ignorant), ()),
    "remember": ((c.a_lacks_x,), (c.a_learns,)),
    "refuse": ((c.together, c.a_has_x), ()),
    "promise": ((c.together,), ()),
    "request": ((c.b_has_x, c.together), (c.place_b,)),
    "warn": ((c.together,), (c.place_b,)),
    "thank": ((c.together,), (c.glad_a,)),
    "apologise": ((c.together,), ()),
    "forgive": ((c.together,), (c.calm_a, c.calm_b)),
    "tell_thief": ((c.together,), ()),
    "promise_carry": ((c.together,), ()),
    "ask_key": ((c.together,), (c.place_b,)),
    "give_key": ((c.together,), ()),
    "refuse_key": ((c.together,), (c.sad_b,)),
    "accuse": ((c.together, c.b_has_x, c.a_owns_x), (c.place_b, c.sad_b)),
    "confess": ((c.together,), (c.sad_a,)),
    "comfort": ((c.together,), (c.place_b, c.calm_b)),
    "praise": ((c.together,), (c.glad_b,)),
    "quarrel": ((c.together,), (c.sad_a, c.sad_b, c.place_b)),
    "make_up": ((c.together,), (c.glad_a, c.glad_b)),
    "teach": ((c.together,), (c.place_b,)),
    "challenge": ((c.together,), (c.place_b,)),
    "race": ((c.together,), ()),
    "greet": ((c.together,), (c.place_b,)),
    # wants and feelings
    "want": ((c.a_lacks_x,), ()),
    "hungry": ((), (c.starve,)),
    "eat": ((c.a_has_x, c.hungry, c.kind_is("food")), (c.x_gone, c.fed, c.glad_a)),
    "sad": ((), (c.sad_a,)),
    "angry": ((), (c.sad_a,)),
    "glad": ((), (c.glad_a,)),
    "give_up": ((c.a_lacks_x,), (c.sad_a,)),
    "rest": ((), (c.calm_a,)),
    # numbers
    "pick": ((c.x_new, c.kind_is("many")), (c.counted, c.a_owns)),
    "give_some": ((c.enough, c.together), (c.fewer, c.glad_b, c.place_b)),
    "spill": ((c.enough,), (c.fewer, c.sad_a)),
    "eat_some": ((c.enough,), (c.fewer,)),
    # animals
    "run_off": ((c.kind_is("animal"), c.a_owns_x), (c.x_lies_there, c.sad_a)),
    "call": ((c.kind_is("animal"), c.a_lacks_x), ()),
    "feed": ((c.a_has_y, c.kind_is("animal"), c.x_here), (c.y_gone,)),
    "catch": ((c.kind_is("animal"), c.x_here), (c.a_gets_x, c.glad_a)),
    # weather, time and the body
    "rain_starts": ((c.outdoors,), (c.to_rain,)),
    "wind_rises": ((c.outdoors,), (c.to_wind,)),
    "clear_up": ((c.weather_is("rain", "wind", "fog", "snow", "cloud"),), (c.to_sun,)),
    "night_falls": ((c.daylight,), (c.to_evening,)),
    "get_wet": ((c.outdoors, c.weather_is("rain")), (c.soak, c.sad_a)),
    "warm_up": ((c.wet,), (c.dry, c.glad_a)),
    "fall": ((), (c.sad_a,)),
    "bandage": ((c.together,), (c.calm_b, c.place_b)),
}
