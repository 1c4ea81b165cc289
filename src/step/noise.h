/* Noise: z ~ N(0,1) of every candidate, from one of four sources.
 *
 * philox: keyed by (seed, step, prompt slot, candidate), so the same whatever the chunking or thread count. torch,
 * torch-cuda: one torch.Generator("cpu") or ("cuda"), in the order PyTorch would draw [prompts,K,C,H,W] each step.
 * file: tensor `noise`. With neighbour s in (0,1], candidates lie around one common noise of the prompt: z = sqrt(1 -
 * s^2) z0 + s d, which is again N(0,1) for each. */
#ifndef DRPO_STEP_NOISE_H
#define DRPO_STEP_NOISE_H

#include "base/rng.h"
#include "step/step_types.h"

typedef enum NoiseKind { NOISE_PHILOX, NOISE_TORCH, NOISE_TORCH_CUDA, NOISE_FILE } NoiseKind;
typedef struct NoiseSource NoiseSource;

/* `path`: for NOISE_FILE. per_image = C*H*W. */
int noise_open(NoiseKind kind, const char *path, uint64_t seed, size_t per_image, float neighbour, NoiseSource **out,
               Error *err);
void noise_close(NoiseSource *n);
/* For torch sources, before anything is drawn. batch: noise_images draws images 0..batch-1 as one tensor from one
 * generator; 0: each from its own. cuda_blocks: see TorchCudaDraw. */
void noise_torch(NoiseSource *n, size_t batch, size_t cuda_blocks);
/* Error when the source is a file with fewer than `images` images; the others never end. */
int noise_require(const NoiseSource *n, size_t images, Error *err);
/* For training: candidates of prompt slot `prompt` (0..prompts-1) of step `step` (from 0): out [k, per_image]. Torch
 * and file sources must be read in order or skipped forward; a torch source replays from the start when asked for an
 * earlier step. */
int noise_candidates(NoiseSource *n, long step, int prompt, int prompts, int k, float *out, Error *err);
/* Further candidates of the same prompt: round 0..rounds-1 of k. Round 0 of philox noise is noise_candidates; other
 * sources go on as if there were `rounds` times as many steps. Error: rounds of NOISE_TORCH, which has no way back. */
int noise_round(NoiseSource *n, long step, int prompt, int prompts, int k, int round, int rounds, float *out,
                Error *err);
/* For sampling and evaluation: images first..first+count-1. philox: image i has its own key (seed + i, 0, 0, 0); torch:
 * image i uses manual_seed(seed + i) unless noise_torch says otherwise; file: rows. */
int noise_images(NoiseSource *n, long first, int count, float *out, Error *err);

#endif
