"""Pretraining of the embedded one-step generator; every stage keeps its result in the work folder ($TINY_WORK) or in $TINY_MODEL.

python3 pretrain.py vae|tokenizer|text|pairs|gen|mae [arguments, see the stage's function]
"""

import copy
import json
import math
import os
import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from tiny import captions
from tiny.captions import COLORS, NUMBERS, PLURAL, RELATIONS, SHAPES, TAGS
from tiny.common import ASSETS, CHANNELS_LAST, MODEL, NOISE, SIGMA, TIMESTEP, WORK, grid_png, keep_memory, one_step, to_images, token_ids
from tiny.coupling import ERROR_RATES, error_level, scene_from_noise
from tiny.features import LatentResNet, MAEDecoder
from tiny.render import render
from tiny.verifier import verify


def scene_batch(rng, nr, n, noisy):
    caps, zs, ims = [], [], []
    for _ in range(n):
        m = captions.random_caption(rng)
        z = nr.standard_normal((4, 16, 16)).astype(np.float32)
        caps.append(m)
        zs.append(z)
        ims.append(render(scene_from_noise(m, z, noisy=noisy)))
    return caps, np.stack(zs), np.stack(ims)


def as_input(ims):
    return (torch.from_numpy(np.ascontiguousarray(ims)).permute(0, 3, 1, 2) * 2 - 1).contiguous(memory_format=CHANNELS_LAST)


# ---- VAE ----
def make_vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[16, 32, 48],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
        scaling_factor=1.0,
    ).to(memory_format=CHANNELS_LAST)


def train_vae(steps=1100, bs=16):
    torch.manual_seed(0)
    vae = make_vae()
    opt = torch.optim.AdamW(vae.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    rng, nr = random.Random(1), np.random.default_rng(1)
    t0 = time.time()
    for it in range(steps):
        lr = 2e-3 * min(1, (it + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * it / steps)) + 1e-5
        for g in opt.param_groups:
            g["lr"] = lr
        x = as_input(scene_batch(rng, nr, bs, False)[2])
        post = vae.encode(x).latent_dist
        y = vae.decode(post.sample()).sample
        kl = 0.5 * (post.mean**2 + post.var - 1 - post.logvar).mean()
        gx = (y[..., 1:] - y[..., :-1] - x[..., 1:] + x[..., :-1]).abs().mean() + (
            y[..., 1:, :] - y[..., :-1, :] - x[..., 1:, :] + x[..., :-1, :]
        ).abs().mean()
        l1 = (y - x).abs().mean()
        loss = l1 + 2 * ((y - x) ** 2).mean() + 0.5 * gx + 1e-3 * kl
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        if it % 50 == 0 or it == steps - 1:
            print(
                it, f"l1 {l1.item():.4f} kl {kl.item():.3f} std {post.mean.std().item():.3f} t {time.time()-t0:.0f}", flush=True
            )
        if it % 200 == 199 or it == steps - 1:
            vae.save_pretrained(WORK + "/vae")
    vae.eval()
    with torch.no_grad():
        caps, _, ims = scene_batch(random.Random(5), np.random.default_rng(5), 128, False)
        mu = torch.cat([vae.encode(x).latent_dist.mean for x in as_input(ims).split(32)])
        print("latent mean", mu.mean((0, 2, 3)), "std", mu.std((0, 2, 3)), "all", mu.std())
        vae.register_to_config(scaling_factor=round(float(1 / mu.std()), 5))
        vae.save_pretrained(WORK + "/vae")
        rec = to_images(vae, mu * vae.config.scaling_factor)
        ok = [verify(r, m)[0] for r, m in zip(rec, caps)]
        print("verifier on reconstructions", np.mean(ok), "scale", vae.config.scaling_factor)
        grid_png(np.concatenate([ims[:32], rec[:32]]), WORK + "/vae.png")


# ---- tokenizer (CLIP format, byte-level BPE) ----
WORDS = (
    "a an photo of and the two three four one five in on with left right above below "
    + " ".join(SHAPES)
    + " "
    + " ".join(PLURAL.values())
    + " "
    + " ".join(COLORS)
    + " white brown gray background small large image picture drawing"
).split()


def byte_chars():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in chars:
            chars[b] = chr(256 + extra)
            extra += 1
    return [chars[b] for b in keep] + [chars[b] for b in range(256) if b not in keep]


def make_tokenizer():
    base = byte_chars()
    vocab = base + [c + "</w>" for c in base]
    corpus = {w: [*w[:-1], w[-1] + "</w>"] for w in dict.fromkeys(WORDS)}
    merges = []
    while True:
        count = {}
        for sym in corpus.values():
            for p in zip(sym, sym[1:]):
                count[p] = count.get(p, 0) + 1
        if not count:
            break
        best = max(sorted(count), key=lambda p: count[p])
        merges.append(best)
        for w, sym in corpus.items():
            i, new = 0, []
            while i < len(sym):
                if i + 1 < len(sym) and (sym[i], sym[i + 1]) == best:
                    new.append(sym[i] + sym[i + 1])
                    i += 2
                else:
                    new.append(sym[i])
                    i += 1
            corpus[w] = new
    vocab += ["".join(m) for m in merges]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(vocab)) == len(vocab)
    d = os.path.join(MODEL, "tokenizer")
    os.makedirs(d, exist_ok=True)
    json.dump({t: i for i, t in enumerate(vocab)}, open(d + "/vocab.json", "w"), ensure_ascii=False)
    open(d + "/merges.txt", "w").write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    json.dump(
        {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"},
        open(d + "/special_tokens_map.json", "w"),
        indent=1,
    )
    json.dump(
        {
            "add_prefix_space": False,
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "!",
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": 32,
            "tokenizer_class": "CLIPTokenizer",
        },
        open(d + "/tokenizer_config.json", "w"),
        indent=1,
    )
    from transformers import CLIPTokenizer

    tok = CLIPTokenizer.from_pretrained(d)
    ids = token_ids(tok, ["a photo of three hearts", "Zebra, 12 caf\u00e9s!"])
    print(len(vocab), ids[0].tolist(), tok.convert_ids_to_tokens(ids[1].tolist()))
    return tok


# ---- (caption, noise, latent) pairs ----
SHARES = {"single_object": 0.06, "two_object": 0.17, "counting": 0.17, "colors": 0.13, "position": 0.24, "color_attr": 0.23}
BLOCK = 4  # the scene depends on the means of 4x4 blocks of the noise only: finer noise is drawn anew at every use


def coarse(z):
    """[N,4,16,16] -> means of blocks as N(0,1) numbers, [N,4,4,4]."""
    return z.reshape(len(z), 4, 16 // BLOCK, BLOCK, 16 // BLOCK, BLOCK).mean((3, 5)) * BLOCK


def with_fine_noise(blocks, generator=None):
    """Noise N(0,1) [N,4,16,16] whose block means are the given ones."""
    z = torch.randn(len(blocks), 4, 16 // BLOCK, BLOCK, 16 // BLOCK, BLOCK, generator=generator)
    z = z - z.mean((3, 5), keepdim=True) + (blocks.float() / BLOCK)[:, :, :, None, :, None]
    return z.reshape(-1, 4, 16, 16)


def draw_captions(rng, n):
    found = []
    for tag in rng.choices(list(SHARES), list(SHARES.values()), k=n):
        while (meta := captions.random_caption(rng))["tag"] != tag:
            pass
        found.append(meta)
    return found


def make_pairs(n=30000, part=0):
    """Part `part` of the pairs: coarse noise, latents of the scene it stands for, caption, and whether the two agree."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer

    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(MODEL + "/vae").eval().to(memory_format=CHANNELS_LAST)
    tok = CLIPTokenizer.from_pretrained(MODEL + "/tokenizer")
    rng, nr = random.Random(100 + part), np.random.default_rng(100 + part)
    D = {k: [] for k in ("coarse", "x", "ids", "fg", "tag", "error")}
    t0 = time.time()
    while len(D["x"]) * 256 < n:
        metas = draw_captions(rng, 256)
        z = nr.standard_normal((256, 4, 16, 16)).astype(np.float32)
        ims = np.stack([render(scene_from_noise(m, zi)) for m, zi in zip(metas, z)])
        with torch.no_grad():
            lat = torch.cat([vae.encode(x).latent_dist.mean for x in as_input(ims).split(64)]) * vae.config.scaling_factor
        bg = np.median(ims[:, 0], axis=1)[:, None, None]
        fg = np.abs(ims - bg).max(-1).reshape(256, 16, 4, 16, 4).max((2, 4)) > 0.08
        D["coarse"].append(torch.from_numpy(coarse(z)).half())
        D["x"].append(lat.half())
        D["ids"].append(token_ids(tok, [m["prompt"] for m in metas]).short())
        D["fg"].append(torch.from_numpy(fg))
        D["tag"].append(torch.tensor([TAGS.index(m["tag"]) for m in metas]))
        D["error"].append(torch.tensor([error_level(zi) for zi in z]))
        if len(D["x"]) % 20 == 0:
            print(len(D["x"]) * 256, f"{time.time()-t0:.0f}s", flush=True)
    torch.save({k: torch.cat(v) for k, v in D.items()}, f"{WORK}/pairs{part}.pt")


# ---- generator ----
CH, G = [48, 96, 96], 6


def make_unet(seed=0):
    """SD-2.1 style UNet whose last norm group (8 channels of conv_in, carried by the outermost skip) is wired so that
    eps_hat = noise exactly at the start; the other channels add -x0/14.6.  Returns (unet, pins)."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    u = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=CH,
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        norm_num_groups=G,
        cross_attention_dim=96,
        attention_head_dim=[2, 3, 3],
        use_linear_projection=True,
    )
    c0 = CH[0]
    k0 = c0 - 8
    ident = slice(k0, c0)
    C = 31.984375  # sqrt(32^2 - 1), exact in fp16
    pins = []

    def pin(p, idx, val):
        val = torch.as_tensor(val, dtype=torch.float32).expand(p.data[idx].shape).clone()
        p.data[idx] = val
        pins.append((p, idx, val))

    w = torch.zeros(8, 4, 3, 3)
    b = torch.zeros(8)
    gb = torch.zeros(8)
    wo = torch.zeros(4, 8, 3, 3)
    for i in range(4):
        off = C if i % 2 == 0 else -C
        for s, k in ((1.0, 2 * i), (-1.0, 2 * i + 1)):
            w[k, i, 1, 1] = s
            b[k] = off
            gb[k] = -off
            wo[i, k, 1, 1] = s / NOISE
    pin(u.conv_in.weight, ident, w)
    pin(u.conv_in.bias, ident, b)
    last = u.up_blocks[-1].resnets[-1]
    sc = torch.zeros(8, 2 * c0, 1, 1)
    for k in range(8):
        sc[k, c0 + k0 + k] = 1
    pin(last.conv_shortcut.weight, ident, sc)
    pin(last.conv_shortcut.bias, ident, 0.0)
    pin(last.conv2.weight, ident, 0.0)
    pin(last.conv2.bias, ident, 0.0)
    po = u.up_blocks[-1].attentions[-1].proj_out
    pin(po.weight, ident, 0.0)
    pin(po.bias, ident, 0.0)
    pin(u.conv_norm_out.weight, ident, 32.0)
    pin(u.conv_norm_out.bias, ident, gb)
    u.conv_out.weight.data.mul_(0.5 / SIGMA)
    u.conv_out.bias.data.zero_()
    pin(u.conv_out.weight, (slice(None), ident), wo)
    return u.to(memory_format=CHANNELS_LAST), pins


def make_text_encoder(vocab_size, eos):
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=32,
            projection_dim=96,
            hidden_act="gelu",
            bos_token_id=eos - 1,
            eos_token_id=eos,
            pad_token_id=0,
            attn_implementation="sdpa",
        )
    )


def save_generator(unet, te, scale_dtype=torch.float16):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler

    copy.deepcopy(unet).to(scale_dtype).save_pretrained(MODEL + "/unet")
    copy.deepcopy(te).to(scale_dtype).save_pretrained(MODEL + "/text_encoder")
    if os.path.isdir(WORK + "/vae"):
        AutoencoderKL.from_pretrained(WORK + "/vae").to(scale_dtype).save_pretrained(MODEL + "/vae")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        timestep_spacing="trailing",
        steps_offset=1,
        interpolation_type="linear",
    ).save_pretrained(MODEL + "/scheduler")
    json.dump(
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        open(MODEL + "/model_index.json", "w"),
        indent=1,
    )


def train_text(steps=700, bs=192):
    """Text tower pretraining (stands in for CLIP's): from every position at or after the end token, read off the caption's attributes."""
    from transformers import CLIPTokenizer

    tok = CLIPTokenizer.from_pretrained(MODEL + "/tokenizer")
    V = len(json.load(open(MODEL + "/tokenizer/vocab.json")))
    torch.manual_seed(0)
    te = make_text_encoder(V, V - 1)
    sizes = [6, 8, 9, 9, 9, 5, 5]
    head = torch.nn.Linear(96, sum(sizes))
    opt = torch.optim.AdamW(list(te.parameters()) + list(head.parameters()), 2e-3, weight_decay=1e-3, fused=True)
    rng = random.Random(2)
    t0 = time.time()

    def target(m):
        i = m["include"]
        b = i[1] if len(i) > 1 else None
        a = i[0]
        if m["tag"] == "position":
            a, b = b, a
        rel = RELATIONS.index(a["position"][0]) + 1 if "position" in a else 0
        ci = lambda o: COLORS.index(o["color"]) + 1 if o and "color" in o else 0
        return [
            TAGS.index(m["tag"]),
            SHAPES.index(a["class"]),
            SHAPES.index(b["class"]) + 1 if b else 0,
            ci(a),
            ci(b),
            rel,
            a["count"],
        ]

    for it in range(steps):
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, (it + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * it / steps)) + 1e-6
        caps = [captions.random_caption(rng) for _ in range(bs)]
        ids = token_ids(tok, [m["prompt"] for m in caps])
        y = torch.tensor([target(m) for m in caps])
        h = head(te(ids)[0])
        at = (torch.cumsum(ids == V - 1, 1) > 0).float()
        loss, acc, o = 0.0, 1.0, 0
        for k, n in enumerate(sizes):
            lg = h[..., o : o + n]
            o += n
            ce = F.cross_entropy(lg.permute(0, 2, 1), y[:, k : k + 1].expand(-1, 32), reduction="none")
            loss = loss + (ce * at).sum() / at.sum()
            acc = acc * ((lg[:, -1].argmax(-1) == y[:, k]).float())
        opt.zero_grad()
        loss.backward()
        opt.step()
        if it % 50 == 0 or it == steps - 1:
            print(it, f"loss {loss.item():.4f} all-attributes {acc.mean().item():.3f} t {time.time()-t0:.0f}", flush=True)
    torch.save(te.state_dict(), WORK + "/te.pt")


def train_gen(start, minutes=42.0, lr0=9e-4, agreeing=0.0, bs=32):
    """Regression of the scene that the noise stands for. `start`: a generator to go on from, in the diffusers layout, or "new".
    agreeing: share of the time in which only pairs whose picture agrees with its caption are used."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    random.seed(1)
    tok = CLIPTokenizer.from_pretrained(MODEL + "/tokenizer")
    V = len(json.load(open(MODEL + "/tokenizer/vocab.json")))
    unet, pins = make_unet()
    te = make_text_encoder(V, V - 1)
    if start == "new":
        te.load_state_dict(torch.load(WORK + "/te.pt"))
    else:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start, subfolder="unet").float().state_dict())
        te.load_state_dict(CLIPTextModel.from_pretrained(start, subfolder="text_encoder").float().state_dict())
    vae = AutoencoderKL.from_pretrained(MODEL + "/vae").eval().requires_grad_(False).to(memory_format=CHANNELS_LAST)
    parts = [torch.load(f"{WORK}/pairs{i}.pt") for i in range(8) if os.path.exists(f"{WORK}/pairs{i}.pt")]
    D = {k: torch.cat([p[k] for p in parts]) for k in parts[0]}
    n, nval = len(D["x"]), 1024
    right, wrong = sort_pairs(D, nval)
    share = torch.tensor([0.06, 0.17, 0.17, 0.12, 0.26, 0.22])
    head = list(unet.conv_out.parameters())
    hid = {id(p) for p in head}
    body = [p for p in unet.parameters() if id(p) not in hid]
    opt = torch.optim.AdamW(
        [{"params": body, "r": 1.0}, {"params": list(te.parameters()), "r": 0.2}, {"params": head, "r": 1 / SIGMA}],
        lr0,
        betas=(0.9, 0.98),
        weight_decay=1e-3,
        fused=True,
    )
    ema_u, ema_t = copy.deepcopy(unet), copy.deepcopy(te)
    fast = torch.compile(unet)
    measure(vae, tok, ema_u, ema_t, D, nval)
    t0, it, run, next_eval = time.time(), 0, 0.0, 150
    while (f := (time.time() - t0) / (60 * minutes)) < 1:
        for g in opt.param_groups:
            g["lr"] = (lr0 * min(1, (it + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * f)) + 1e-6) * g["r"]
        pools = [(wrong if f >= agreeing and random.random() < WRONG_SHARE[t] else right)[t] for t in torch.multinomial(share, bs, replacement=True)]
        j = torch.tensor([p[random.randrange(len(p))] for p in pools])
        delta = 0.4 * (1 - f) ** 2 + 0.03
        noise = with_fine_noise(D["coarse"][j])
        predicted = fast((noise * NOISE).contiguous(memory_format=CHANNELS_LAST), TIMESTEP, te(D["ids"][j].long())[0]).sample
        e = SIGMA * (noise - predicted) - D["x"][j].float()
        w = 1 + 2 * D["fg"][j][:, None].float()
        loss = (w * (torch.sqrt(e * e + delta * delta) - delta)).mean()  # pseudo-Huber, from nearly squared to nearly absolute
        opt.zero_grad()
        loss.backward()
        for p, idx, v in pins:
            p.grad[idx] = 0
        gn = torch.nn.utils.clip_grad_norm_(body, 1.0)
        opt.step()
        with torch.no_grad():
            for p, idx, v in pins:
                p.data[idx] = v
            d = min(0.998, (1 + it) / (10 + it))
            torch._foreach_lerp_(
                list(ema_u.parameters()) + list(ema_t.parameters()), list(unet.parameters()) + list(te.parameters()), 1 - d
            )
        it += 1
        run = loss.item() if it == 1 else 0.98 * run + 0.02 * loss.item()
        if it % 100 == 0:
            print(it, f"loss {run:.4f} gn {gn:.2f} t {time.time()-t0:.0f} seen {it*bs}", flush=True)
        if time.time() - t0 > next_eval:
            next_eval += 480
            measure(vae, tok, ema_u, ema_t, D, nval)
            save_generator(ema_u, ema_t)
    measure(vae, tok, ema_u, ema_t, D, nval)
    save_generator(ema_u, ema_t)


# Chance of a pair that contradicts its caption, by tag. Whether it does follows from the noise, so drawing such pairs more often
# does not change what is to be learnt; it only makes the network look at that part of the noise.
WRONG_SHARE = [0.1, 0.4, 0.4, 0.3, 0.4, 0.4]
MARGIN = [0.01, 0.04, 0.04, 0.03, 0.04, 0.04]  # below each error rate: pairs so close to the border are left out


def sort_pairs(D, first):
    """Indices from `first` on, by tag: pairs whose picture agrees with its caption, pairs that clearly contradict it."""
    rate = torch.tensor([ERROR_RATES[t] for t in TAGS])[D["tag"]]
    later = torch.arange(len(rate)) >= first
    right, wrong = D["error"] >= rate, D["error"] < rate - torch.tensor(MARGIN)[D["tag"]]
    of = lambda mask: [torch.nonzero(mask & later & (D["tag"] == t)).flatten() for t in range(len(TAGS))]
    return of(right), of(wrong)


def caption_of(tok, ids):
    """The metadata of a tokenised caption."""
    w = tok.decode(ids.tolist(), skip_special_tokens=True).replace("!", "").split()
    relation = next((r for r in RELATIONS if r.split()[0] in w), None)
    if relation:
        return captions.cap_pos(w[4], relation, w[-1])
    if "and" in w:
        return captions.cap_attr(w[5], w[4], w[9], w[8]) if len(w) == 10 else captions.cap_two(w[4], w[-1])
    counts = {v: k for k, v in NUMBERS.items()}
    if w[3] in counts:
        return captions.cap_count({v: k for k, v in PLURAL.items()}[w[-1]], counts[w[3]])
    return captions.cap_color(w[-1], w[-2]) if len(w) == 6 else captions.cap_single(w[-1])


def measure(vae, tok, unet, te, D, n):
    """On the first n pairs: share of correct pictures where the noise says they should be, and where it says they should not."""
    noise = with_fine_noise(D["coarse"][:n], torch.Generator().manual_seed(5))
    with torch.no_grad():
        y = torch.cat([one_step(unet, noise[i : i + 64], te(D["ids"][i : i + 64].long())[0]) for i in range(0, n, 64)])
    error = float((y - D["x"][:n].float()).abs().mean())
    ims = to_images(vae, y)
    ok = np.array([verify(im, caption_of(tok, row))[0] for im, row in zip(ims, D["ids"][:n])])
    tag = D["tag"][:n].numpy()
    right = (D["error"][:n] >= torch.tensor([ERROR_RATES[t] for t in TAGS])[D["tag"][:n]]).numpy()
    by_tag = (f"{TAGS[t]} {ok[(tag == t) & right].mean():.2f}/{ok[(tag == t) & ~right].mean():.2f}" for t in range(len(TAGS)))
    print("   EVAL error", f"{error:.4f}", "correct", f"{ok.mean():.3f}", *by_tag, flush=True)
    grid_png(ims[np.concatenate([np.nonzero(tag == t)[0][:8] for t in range(len(TAGS))])], WORK + "/gen.png")


# ---- latent-MAE feature network ----
def train_mae(minutes=4.0, bs=64):
    D = torch.load(WORK + "/pairs0.pt")
    x, ids = D["x"], D["ids"].long()
    V = len(json.load(open(MODEL + "/tokenizer/vocab.json")))
    used = torch.unique(ids)
    used = used[(used > 0) & (used < V - 2)]
    remap = torch.full((V,), -1, dtype=torch.long)
    remap[used] = torch.arange(len(used))
    lab = torch.zeros(len(x), len(used))
    for i in range(len(x)):
        t = remap[ids[i]]
        lab[i, t[t >= 0]] = 1
    torch.manual_seed(0)
    net = LatentResNet().to(memory_format=CHANNELS_LAST)
    dec = MAEDecoder(net.width[-1])
    cls = torch.nn.Linear(net.width[-1] * 2, len(used))
    ps = list(net.parameters()) + list(dec.parameters()) + list(cls.parameters())
    opt = torch.optim.AdamW(ps, 2e-3, weight_decay=1e-2)
    t0 = time.time()
    it = 0
    while (f := (time.time() - t0) / (60 * minutes)) < 1:
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, (it + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * f)) + 1e-6
        j = torch.randint(256, len(x), (bs,))
        b = x[j].float().contiguous(memory_format=CHANNELS_LAST)
        mask = (torch.rand(bs, 1, 8, 8) < torch.rand(bs, 1, 1, 1) * 0.75).float().repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = net.maps(b * (1 - mask))
        top = h[f"layer{len(net.blocks)}"]
        r = dec(top)
        rec = ((r - b) ** 2 * (mask + 0.1)).sum() / (mask + 0.1).sum() / 4
        logit = cls(torch.cat([top.mean((2, 3)), top.std((2, 3))], 1))
        ce = F.binary_cross_entropy_with_logits(logit, lab[j])
        loss = rec + ce
        opt.zero_grad()
        loss.backward()
        opt.step()
        it += 1
        if it % 100 == 0:
            print(it, f"masked mse {rec.item():.4f} caption bce {ce.item():.4f} t {time.time()-t0:.0f}", flush=True)
    net.save(os.path.join(ASSETS, "tiny-mae"))


STAGES = {
    "vae": train_vae,
    "tokenizer": make_tokenizer,
    "text": train_text,
    "pairs": make_pairs,
    "gen": train_gen,
    "mae": train_mae,
}



def argument(text):
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return text


if __name__ == "__main__":
    keep_memory()
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    os.makedirs(WORK, exist_ok=True)
    STAGES[sys.argv[1]](*map(argument, sys.argv[2:]))
