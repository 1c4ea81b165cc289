/* One step of EulerDiscreteScheduler or EulerAncestralDiscreteScheduler, read from their config. With trailing spacing
 * one step goes from the last training step, t = 999, to sigma = 0:
 *
 *     sample = sigma z,  input = sample / sqrt(sigma^2 + 1),  x0 = sample - sigma eps
 *
 * The ancestral scheduler adds sigma_up noise, and sigma_up = sigma_to sqrt(1 - sigma_to^2 / sigma^2) = 0 at the end:
 * it draws a tensor and multiplies it by zero. So both give the same x0. */
#include "model/one_step.h"

#include <math.h>
#include <string.h>

#include "format/json.h"
#include "model/advice.h"
#include "model/component_config.h"

enum { MAX_TRAIN_STEPS = 1 << 20 };

/* Other values would sample differently from what is computed here. */
static void require_text(const JsonReader *r, const char *key, const char *accepted, const char *missing) {
    char get[ADVICE_LENGTH];
    const char *value = json_get_string(r, key, missing);
    if (value && strcmp(value, accepted) != 0)
        fail(r->err, DRPO_E_INPUT, "%s: \"%s\" is \"%s\"; a one-step generator of this family has \"%s\"; get one: %s",
             r->where, key, value, accepted, repository_advice("stabilityai/sd-turbo", get));
}

static void require_off(const JsonReader *r, const char *key) {
    if (json_get_bool(r, key, false)) fail(r->err, DRPO_E_INPUT, "%s: \"%s\" true is not supported", r->where, key);
}

static bool is_ancestral(const JsonReader *r) {
    const char *name = json_get_string(r, "_class_name", "EulerDiscreteScheduler");
    bool ancestral = name && strcmp(name, "EulerAncestralDiscreteScheduler") == 0;
    if (name && !ancestral && strcmp(name, "EulerDiscreteScheduler") != 0)
        fail(r->err, DRPO_E_INPUT,
             "%s: \"_class_name\" is \"%s\"; supported: EulerDiscreteScheduler, EulerAncestralDiscreteScheduler",
             r->where, name);
    return ancestral;
}

/* sigma = sqrt((1 - abar) / abar) of the last training step, in float32 as diffusers computes its table. */
static float last_sigma(int steps, float first, float last) {
    float low = sqrtf(first), high = sqrtf(last), product = 1;
    for (int i = 0; i < steps; i++) {
        float root = steps > 1 ? low + (high - low) * (float)i / (float)(steps - 1) : low;
        product *= 1 - root * root;
    }
    return sqrtf((1 - product) / product);
}

static int read_table(const JsonReader *r, OneStep *out) {
    int64_t steps = json_get_int(r, "num_train_timesteps", 1000);
    float first = (float)json_get_number(r, "beta_start", 0.0001), last = (float)json_get_number(r, "beta_end", 0.02);
    float sigma = steps < 1 || steps > MAX_TRAIN_STEPS ? NAN : last_sigma((int)steps, first, last);
    if (!(first > 0) || !(last < 1) || !isfinite(sigma) || !(sigma > 0))
        fail(r->err, DRPO_E_INPUT, "%s: \"num_train_timesteps\", \"beta_start\" or \"beta_end\" is out of range",
             r->where);
    *out = (OneStep){.timestep = (float)(steps - 1),
                     .input_scale = sigma / sqrtf(sigma * sigma + 1),
                     .z_factor = sigma,
                     .eps_factor = sigma};
    return json_finish(r);
}

int one_step_read(const char *document, OneStep *out, Error *err) {
    const char *path;
    json_t *root;
    TRY(document_load(document, &root, &path, err));
    JsonReader r = {root, path, err};
    bool ancestral = is_ancestral(&r);
    require_text(&r, "prediction_type", "epsilon", "epsilon");
    require_text(&r, "beta_schedule", "scaled_linear", "linear");
    require_text(&r, "timestep_spacing", "trailing", "linspace");
    static const char *const off[] = {"rescale_betas_zero_snr", "use_karras_sigmas", "use_exponential_sigmas",
                                      "use_beta_sigmas"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) require_off(&r, off[i]);
    if (json_has(&r, "trained_betas"))
        fail(err, DRPO_E_INPUT, "%s: \"trained_betas\" is not supported; only beta_start and beta_end are", path);
    int code = read_table(&r, out);
    out->ancestral = ancestral;
    json_decref(root);
    return code;
}

OneStep one_step_released(void) {
    const double alpha = 0.0683, sigma = 0.9977, alpha0 = 0.9996, sigma0 = 0.0292; /* at t = 999 and t = 0 */
    return (OneStep){.timestep = 999,
                     .input_scale = 1,
                     .z_factor = (float)(alpha0 / alpha),
                     .eps_factor = (float)(alpha0 * sigma / alpha - sigma0)};
}
