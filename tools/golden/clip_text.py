"""Golden cases of CLIPTextModel and CLIPTextModelWithProjection.

last: states after the final layer norm; penultimate: hidden_states[-2]; pooled: projected state of the first end-of-text token.
"""

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import FIRST, randomize, write_io, write_weights


def run(model, case, ids):
    out = model(ids, output_hidden_states=True)
    outputs = {"last": out.last_hidden_state, "penultimate": out.hidden_states[-2]}
    if hasattr(out, "text_embeds"):
        outputs["pooled"] = out.text_embeds
    write_io(case, {"ids": ids}, outputs)


if __name__ == "__main__":
    with torch.no_grad():
        folder = FIRST
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        ids = tokenizer(
            ["a photo of a red circle and a blue star", "", "a photo of four moons"],
            padding="max_length",
            max_length=32,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        tiny = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", attn_implementation="eager").double().eval()
        run(tiny, "clip_tiny", ids)

        config = CLIPTextConfig(
            vocab_size=60,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=11,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-6,
            projection_dim=18,
            bos_token_id=57,
            eos_token_id=58,
            pad_token_id=58,
            attn_implementation="eager",
        )
        net = randomize(CLIPTextModelWithProjection(config), 500)
        stored = {**config.to_dict(), "architectures": ["CLIPTextModelWithProjection"]}
        write_weights("clip_random", net, stored)
        ids = torch.randint(0, 57, (2, 11), generator=torch.Generator().manual_seed(501))
        ids[:, 0], ids[0, 6:], ids[1, 10] = 57, 58, 58
        run(net, "clip_random", ids)
