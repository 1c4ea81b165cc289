"""Parts of random CLIP models that the golden script and tools/parity/clip.py share."""

import torch
from random_models import randomize

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).double().view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).double().view(3, 1, 1)


def features(net, ids, pixels):
    text = net.text_projection(net.text_model(input_ids=ids).pooler_output)
    return text, net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output)


def openclip_names(state):
    """transformers' names -> OpenCLIP's, with q, k, v in one matrix and projections as [in,out]."""
    whole = {
        "logit_scale": "logit_scale",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.": "ln_final.",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.": "visual.ln_pre.",
        "vision_model.post_layernorm.": "visual.ln_post.",
    }
    block = {"layer_norm1.": "ln_1.", "layer_norm2.": "ln_2.", "self_attn.out_proj.": "attn.out_proj.", "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj."}
    out = {"text_projection": state["text_projection.weight"].t(), "visual.proj": state["visual_projection.weight"].t()}
    for name, value in state.items():
        for old, new in whole.items():
            if name == old or (old.endswith(".") and name.startswith(old)):
                out[name.replace(old, new)] = value
        for tower, place in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
            if not name.startswith(tower + ".encoder.layers."):
                continue
            layer, rest = name.removeprefix(tower + ".encoder.layers.").split(".", 1)
            prefix = f"{place}.resblocks.{layer}."
            for old, new in block.items():
                if rest.startswith(old):
                    out[prefix + rest.replace(old, new)] = value
            if rest.startswith("self_attn.q_proj."):
                part = rest.removeprefix("self_attn.q_proj.")
                three = [state[name.replace(".q_proj.", f".{x}_proj.")] for x in "qkv"]
                out[f"{prefix}attn.in_proj_{part}"] = torch.cat(three)
    return {k: v.contiguous().half() for k, v in out.items()}


def aesthetic_head(width):
    """768-1024-128-64-16-1 in the published file; dropout between the layers, no activation."""
    sizes, layers = [width, 24, 16, 8, 4, 1], {}
    for i, place in enumerate((0, 2, 4, 6, 7)):
        layers[f"layers.{place}"] = torch.nn.Linear(sizes[i], sizes[i + 1])
    net = torch.nn.Sequential(*layers.values()).double()
    randomize(net, 970)
    state = {}
    for (name, layer) in layers.items():
        state |= {name + ".weight": layer.weight.detach().float(), name + ".bias": layer.bias.detach().float()}
    return net, state
