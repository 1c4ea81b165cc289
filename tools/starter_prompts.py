"""Writes assets/prompts/starter.txt: 600 varied prompts for a first run on a real generator, from a small grammar of our own.

    python3 tools/starter_prompts.py

Ten kinds of picture, sixty prompts each, drawn without repeats; the same file every time."""

import os
import random
import re

GRAMMAR = {
    # kinds
    "animal": "a {look} {beast} {doing} {where}|a close-up of a {beast} {where}, {light}|two {beast}s {doing}, {style}",
    "person": "{portrait} of {someone} {wearing}, {light}|{someone} {act} {where}|{someone} {act}, {style}",
    "place": "{a_place} {time}, {light}|{a_place} seen from above {time}|{a_place} {time}, {style}",
    "thing": "a {material} {object} on {surface}, {light}|a {color} {object} and a {other} {object2}|an old {object} {where}, {style}",
    "food": "{dish} on {surface}, {light}|{dish} with {side}, food photography|a chef preparing {dish} in {kitchen}",
    "fantasy": "{being} {magic} {where_odd}|{a_place} on {world}, {style}|a {material} {beast} {where_odd}, {light}",
    "journey": "a {color} {vehicle} {riding} {road} {time}|a {age} {vehicle} parked {where}, {light}|a {vehicle}, {style}",
    "building": "a {age} {house} {where}, {light}|the inside of a {house}, {light}|a {house} made of {stuff}, {style}",
    "art": "{craft} of {a_place} {time}|{craft} of a {beast} {wearing}|{craft} of {someone}, {palette}",
    "count": "{number} {color} {object}s on {surface}|{number} {beast}s {where}|{number} {fruit} in a {material} bowl",
    # words
    "look": "sleepy|curious|muddy|fluffy|young|very old|brave|tiny",
    "beast": "red fox|barn owl|corgi|tabby cat|sea turtle|elephant|heron|hedgehog|snow leopard|goat|octopus|raven|hare|otter|horse|chameleon",
    "doing": "asleep|running|drinking|looking back|shaking off water|playing|hiding|crossing a stream",
    "where": "in tall grass|in the snow|by a river|in a narrow street|under a bridge|in an orchard|on a rooftop|at the edge of a forest|in a market|on a beach",
    "where_odd": "inside a glass bottle|among floating islands|in a cathedral of ice|under two moons|in a library without a ceiling|at the bottom of the sea",
    "light": "soft morning light|golden hour|overcast sky|candlelight|neon light|hard noon shadows|moonlight|studio lighting|backlit",
    "style": "watercolour|oil painting|35 mm film photograph|pencil sketch|isometric illustration|woodcut print|low-poly render|children's book illustration|ink and wash",
    "portrait": "a portrait|a candid photo|a profile photo|a full-length photo",
    "someone": "an old fisherman|a young violinist|a beekeeper|a girl with freckles|a tired baker|a smiling grandmother|a mountaineer|a clockmaker|a boy on stilts|a firefighter",
    "wearing": "in a yellow raincoat|with a knitted scarf|in a dusty apron|wearing round glasses|with a straw hat|in a blue uniform",
    "act": "reading a letter|repairing a bicycle|carrying lanterns|feeding pigeons|playing chess|painting a fence|waiting for a train|flying a kite",
    "a_place": "a fishing village|a terraced rice field|a desert road|a harbour|a city of canals|a lighthouse on a cliff|a birch forest|a mountain pass|an abandoned railway station|a lavender field",
    "time": "at dawn|at dusk|after the rain|in a storm|in autumn|on a winter night|in spring fog|in July heat",
    "material": "wooden|copper|porcelain|marble|knitted|glass|rusty|paper",
    "object": "teapot|typewriter|globe|umbrella|violin|lantern|camera|suitcase|alarm clock|rocking chair",
    "object2": "vase|book|candle|key|mug|hat",
    "color": "red|green|blue|yellow|orange|purple|black|white|turquoise",
    "other": "pink|brown|grey|silver|cream",
    "surface": "a windowsill|a stone table|a white background|an oak desk|a checkered cloth|a mossy rock",
    "dish": "a bowl of ramen|a stack of pancakes|a loaf of rye bread|a plum tart|grilled sardines|a vegetable curry|dumplings|a slice of honeycomb",
    "side": "fresh herbs|a cup of black coffee|lemon slices|steam rising|toasted seeds",
    "kitchen": "a tiny kitchen|a night market stall|a farmhouse|a ship's galley",
    "being": "a moss giant|a fox spirit|a clockwork knight|a paper dragon|a cloud shepherd|a witch with a raven",
    "magic": "weaving a bridge of light|pouring stars into a jar|tending a garden of crystals|reading a map that moves|building a boat of leaves",
    "world": "Mars|a moon of Saturn|a planet of clouds|a ring in orbit",
    "vehicle": "steam locomotive|bicycle|fishing boat|tram|camper van|hot air balloon|motorcycle|sailing ship|tractor",
    "riding": "on|beside|crossing",
    "road": "a coastal road|a frozen lake|a cobbled square|a wooden bridge|a mountain track",
    "age": "brand-new|weathered|hundred-year-old|half-finished|toy",
    "house": "tea house|windmill|observatory|bookshop|greenhouse|log cabin|train station|castle|bakery",
    "stuff": "books|ice|bamboo|stained glass|cardboard|coral",
    "craft": "a linocut|a mosaic|a tapestry|a charcoal drawing|an art nouveau poster|a clay model|an embroidery|a fresco",
    "palette": "in shades of blue|in warm earth tones|in black and white|in pastel colours|in two colours",
    "number": "two|three|four|five|six",
    "fruit": "apples|pears|lemons|cherries|figs",
}  # fmt: skip
KINDS, EACH = ("animal", "person", "place", "thing", "food", "fantasy", "journey", "building", "art", "count"), 60


def grow(draw, word):
    text = draw.choice(GRAMMAR[word].split("|"))
    return re.sub(r"\{(\w+)\}", lambda m: grow(draw, m[1]), text)


def main():
    draw, prompts = random.Random(2026), []
    for kind in KINDS:
        own = []
        while len(own) < EACH:
            prompt = re.sub(r"(fox|octopus)s\b", r"\1es", grow(draw, kind))
            prompt = re.sub(r"\ban? (?=([aeiou])?)", lambda m: "an " if m[1] else "a ", prompt)
            if prompt not in own:
                own.append(prompt)
        prompts += own
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "assets", "prompts", "starter.txt")
    with open(path, "w") as f:
        f.write("\n".join(prompts) + "\n")
    print(f"{len(prompts)} prompts in {os.path.normpath(path)}")


main()
