/* Random numbers: published vectors, PyTorch's numbers, and the independence of chunking that training relies on. */
#include "check.h"

#include <math.h>

#include "base/philox.h"
#include "base/rng.h"

/* Known answers of the Random123 distribution: counter, key, result. */
static void philox_known_answers(void **state) {
    (void)state;
    static const uint32_t cases[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        philox_block(cases[i], cases[i] + 4, out);
        for (int j = 0; j < 4; j++) assert_int_equal(out[j], cases[i][6 + j]);
    }
}

typedef struct TorchCase {
    uint64_t seed;
    size_t n;
    struct {
        size_t index;
        float value;
    } at[8];
    double sum;
    float next[3]; /* of a torch.randn(16) behind it */
} TorchCase;

/* torch.randn(n, generator=torch.Generator().manual_seed(seed)) */
static const TorchCase TORCH[] = {
    {42,
     16,
     {{0, 1.9269152879714966f},
      {1, 1.4872840642929077f},
      {3, -2.1055209636688232f},
      {6, -0.04306747764348984f},
      {7, -1.6046669483184814f},
      {8, -0.7521352767944336f},
      {9, 1.6487230062484741f},
      {15, 0.7624453902244568f}},
     -2.1876682862639427,
     {1.6423169374465942f, -0.1595974713563919f, -0.4973975419998169f}},
    {42,
     17,
     {{0, 1.9269152879714966f},
      {1, -0.1595974713563919f},
      {2, -0.4973975419998169f},
      {7, 1.680620551109314f},
      {8, 0.3558599054813385f},
      {9, 1.2964228391647339f},
      {15, 0.859858512878418f},
      {16, -0.3097267746925354f}},
     8.21729576587677,
     {-0.8712361454963684f, -0.223365917801857f, 1.7173614501953125f}},
    {7,
     1024,
     {{0, -0.8201345205307007f},
      {1, 0.39563116431236267f},
      {7, -0.8936554193496704f},
      {8, 0.9265429973602295f},
      {15, 1.090165138244629f},
      {512, 0.3811432719230652f},
      {1022, 0.33670341968536377f},
      {1023, -0.904100239276886f}},
     11.63047004211694,
     {0.8511406779289246f, 0.11236411333084106f, 1.342063546180725f}},
    {123456789012,
     4099,
     {{0, -0.3533598780632019f},
      {1, -0.26349639892578125f},
      {7, -1.2559013366699219f},
      {8, 0.5615901350975037f},
      {15, -0.15554113686084747f},
      {2049, 1.428939938545227f},
      {4097, -0.2269441783428192f},
      {4098, 0.011940361000597477f}},
     -67.19124512351118,
     {0.08347804844379425f, 0.170179083943367f, 0.31682002544403076f}},
    {0,
     16384,
     {{0, -1.1258398294448853f},
      {1, -1.152360200881958f},
      {7, -2.1152193546295166f},
      {8, 0.32227492332458496f},
      {15, -0.2472781538963318f},
      {8192, 0.2651572823524475f},
      {16382, -1.3664697408676147f},
      {16383, -1.0782079696655273f}},
     -124.11269989912398,
     {-0.5518360733985901f, 1.5398073196411133f, 1.0035587549209595f}},
};

static void mersenne_twister_draws_what_torch_draws(void **state) {
    (void)state;
    static float out[16384];
    for (size_t c = 0; c < sizeof TORCH / sizeof *TORCH; c++) {
        const TorchCase *t = &TORCH[c];
        Mt19937 g;
        mt19937_seed(&g, t->seed);
        mt19937_normal(&g, out, t->n);
        double sum = 0;
        for (size_t i = 0; i < t->n; i++) sum += out[i];
        for (int i = 0; i < 8; i++) assert_float_equal(out[t->at[i].index], t->at[i].value, 2e-6);
        assert_true(fabs(sum - t->sum) < 1e-3);
        mt19937_normal(&g, out, 16); /* the state behind it must agree as well */
        for (int i = 0; i < 3; i++) assert_float_equal(out[i], t->next[i], 2e-6);
    }
}

/* torch.randn(3, 4, device="cuda") behind torch.manual_seed(0), as stable-diffusion-webui documents it. */
static void philox_draws_what_torch_draws_on_cuda(void **state) {
    (void)state;
    static const float want[12] = {-0.92466259f, -0.42534415f, -2.6438457f,  0.14518388f,  -0.12086647f, -0.57972564f,
                                   -0.62285122f, -0.32838709f, -1.07454231f, -0.36314407f, -1.67105067f, 2.26550497f};
    float z[12];
    const TorchCudaDraw d = {.total = 12};
    torch_cuda_normal(&d, 0, 12, z);
    for (int i = 0; i < 12; i++) assert_float_equal(z[i], want[i], 2e-6);
    assert_int_equal(torch_cuda_advance(&d), 4);
}

/* More numbers than threads: two draws of 65,536 numbers by 16 blocks of 256 threads, as cuRAND's own functions give
 * them when they are called in the order of PyTorch's kernel. */
static void cuda_threads_go_round(void **state) {
    (void)state;
    static const size_t at[] = {0, 1, 4095, 4096, 8192, 12288, 16384, 20000, 65535};
    static const float want[2][9] = {{0.194018871f, 2.16137385f, -1.25352788f, -0.97018981f, 1.92392659f, -1.23562121f,
                                      0.139137551f, -0.0648409352f, -0.454217643f},
                                     {-1.26822114f, -0.0382963791f, -0.56214875f, 0.794208586f, 1.49787772f,
                                      0.13475886f, 1.46395671f, -0.516697764f, 0.495721817f}};
    static const double sum[2] = {97.2970351581, -72.0769289519};
    static float z[65536];
    TorchCudaDraw d = {.seed = 42, .total = 65536, .blocks = 16};
    for (int draw = 0; draw < 2; draw++) {
        torch_cuda_normal(&d, 0, d.total, z);
        double total = 0;
        for (size_t i = 0; i < d.total; i++) total += z[i];
        for (int i = 0; i < 9; i++) assert_float_equal(z[at[i]], want[draw][i], 4e-6);
        assert_true(fabs(total - sum[draw]) < 0.02);
        float part[100];
        torch_cuda_normal(&d, 16300, 100, part);
        assert_memory_equal(part, z + 16300, sizeof part);
        d.offset += torch_cuda_advance(&d);
    }
    assert_int_equal(d.offset, 2 * 16); /* four rounds of four words each */
}

/* The 10,000th word of seed 5489, which the C++ standard demands. */
static void mersenne_twister_known_answer(void **state) {
    (void)state;
    Mt19937 g;
    mt19937_seed(&g, 5489);
    for (int i = 1; i < 10000; i++) mt19937_next(&g);
    assert_int_equal(mt19937_next(&g), 4123659995u);
}

static void normals_have_the_moments_of_a_normal(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    static float z[N];
    RngKey key = {.seed = 42, .stream = RNG_TEST};
    rng_normal(key, z, N);
    double moment[5] = {0}, neighbour = 0, beyond2 = 0;
    for (int i = 0; i < N; i++) {
        for (int p = 1; p <= 4; p++) moment[p] += pow(z[i], p) / N;
        neighbour += (double)z[i] * z[(i + 1) % N] / N;
        beyond2 += fabsf(z[i]) > 2 ? 1.0 / N : 0;
    }
    assert_true(fabs(moment[1]) < 0.01 && fabs(moment[2] - 1) < 0.02); /* five standard errors */
    assert_true(fabs(moment[3]) < 0.04 && fabs(moment[4] - 3) < 0.1);
    assert_true(fabs(neighbour) < 0.01);
    assert_true(fabs(beyond2 - 0.0455) < 0.0025);
}

static void a_prefix_does_not_depend_on_the_length(void **state) {
    (void)state;
    RngKey key = {.seed = 7, .stream = RNG_NOISE, .step = 3, .prompt = 2, .candidate = 5};
    float whole[64], part[64];
    rng_normal(key, whole, 64);
    for (size_t n = 1; n < 64; n++) {
        rng_normal(key, part, n);
        assert_memory_equal(whole, part, n * sizeof *part);
    }
}

static void every_field_of_the_key_counts(void **state) {
    (void)state;
    RngKey base = {.seed = 1, .stream = 1, .step = 1, .prompt = 1, .candidate = 1};
    RngKey keys[7] = {base, base, base, base, base, base, base};
    keys[1].seed = 2, keys[2].stream = 2, keys[3].step = 2, keys[4].prompt = 2, keys[5].candidate = 2;
    keys[6].seed = 1 | (uint64_t)1 << 32;
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < i; j++) assert_true(rng_bits(keys[i], 0) != rng_bits(keys[j], 0));
    assert_true(rng_bits(base, 0) != rng_bits(base, 1));
    assert_true(rng_bits(base, 0) != rng_bits(base, (uint64_t)1 << 33)); /* beyond the 32-bit counter */
}

static void uniforms_stay_inside_and_fill(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    static float u[N];
    int count[16] = {0};
    rng_uniform((RngKey){.seed = 3, .stream = RNG_TEST}, -2, 6, u, N);
    for (int i = 0; i < N; i++) {
        assert_true(u[i] >= -2 && u[i] < 6);
        count[(int)((u[i] + 2) * 2)]++;
    }
    for (int i = 0; i < 16; i++) assert_in_range(count[i], 3800, 4400);
}

static void below_covers_the_range(void **state) {
    (void)state;
    int count[7] = {0};
    for (uint64_t i = 0; i < 7000; i++) {
        size_t k = rng_below((RngKey){.seed = 9, .stream = RNG_PROMPTS}, i, 7);
        assert_true(k < 7);
        count[k]++;
    }
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 850, 1150);
    assert_int_equal(rng_below((RngKey){.seed = 9}, 0, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(mersenne_twister_draws_what_torch_draws),
        cmocka_unit_test(philox_draws_what_torch_draws_on_cuda),
        cmocka_unit_test(cuda_threads_go_round),
        cmocka_unit_test(mersenne_twister_known_answer),
        cmocka_unit_test(normals_have_the_moments_of_a_normal),
        cmocka_unit_test(a_prefix_does_not_depend_on_the_length),
        cmocka_unit_test(every_field_of_the_key_counts),
        cmocka_unit_test(uniforms_stay_inside_and_fill),
        cmocka_unit_test(below_covers_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
