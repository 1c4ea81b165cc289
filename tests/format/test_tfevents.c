/* Event files: records and checksums are taken apart again, byte by byte. */
#include "check.h"

#include <dirent.h>
#include <stdlib.h>

#include "format/png.h"
#include "format/tfevents.h"

/* The one event file of a folder; the caller unmaps it. */
static MappedFile only_file(const char *folder) {
    Error err = {0};
    MappedFile m = {0};
    DIR *d = opendir(folder);
    int found = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "events.out.tfevents.", 20) != 0) continue;
        found++;
        assert_ok(file_map(in_dir(folder, e->d_name), &m, &err), err);
    }
    closedir(d);
    assert_int_equal(found, 1);
    return m;
}

static uint64_t little_endian(const uint8_t *p, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

static uint32_t unmask(uint32_t masked) {
    uint32_t rotated = masked - 0xa282ead8u;
    return rotated >> 17 | rotated << 15;
}

/* Checks the record at *at and returns its data. */
static const uint8_t *next_record(const MappedFile *m, size_t *at, size_t *size) {
    assert_true(*at + 16 <= m->size);
    const uint8_t *p = m->data + *at;
    *size = (size_t)little_endian(p, 8);
    assert_true(*size <= m->size - *at - 16);
    assert_int_equal(unmask((uint32_t)little_endian(p + 8, 4)), crc32c(p, 8));
    assert_int_equal(unmask((uint32_t)little_endian(p + 12 + *size, 4)), crc32c(p + 12, *size));
    *at += *size + 16;
    return p + 12;
}

static void crc32c_known_answers(void **state) {
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43);
}

static void records_hold_what_was_written(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    fresh_dir("events", dir);
    TfEvents *e;
    assert_ok(tfevents_open(dir, 0, &e, &err), err);
    assert_ok(tfevents_scalar(e, "reward/mean", 300, 0.25, &err), err);
    uint8_t rgb[2 * 3 * 3] = {0}, *png;
    size_t png_size;
    assert_ok(png_encode_rgb(rgb, 3, 2, NULL, 0, &png, &png_size, &err), err);
    assert_ok(tfevents_image(e, "grid", 300, png, png_size, 3, 2, &err), err);
    assert_ok(tfevents_close(e, &err), err);
    MappedFile m = only_file(dir);
    size_t at = 0, size;

    const uint8_t *p = next_record(&m, &at, &size);
    assert_int_equal(p[0], 0x09); /* wall_time, double */
    assert_memory_equal(p + size - 15,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);

    /* step 300, then summary { value { tag "reward/mean", simple_value 0.25 } } */
    p = next_record(&m, &at, &size);
    static const char scalar[] = "\x10\xac\x02\x2a\x14\x0a\x12\x0a\x0b"
                                 "reward/mean"
                                 "\x15\0\0\x80\x3e";
    assert_int_equal(size, 9 + sizeof scalar - 1);
    assert_memory_equal(p + 9, scalar, sizeof scalar - 1);

    p = next_record(&m, &at, &size);
    static const char image[] = "\x08\x02\x10\x03\x18\x03\x22"; /* height 2, width 3, RGB, bytes */
    assert_non_null(memmem(p, size, image, sizeof image - 1));
    assert_memory_equal(p + size - png_size, png, png_size);
    assert_int_equal(at, m.size);
    file_unmap(&m);
    free(png);
}

static void a_resumed_run_marks_its_first_step(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    fresh_dir("events_resume", dir);
    TfEvents *e;
    assert_ok(tfevents_open(dir, 20, &e, &err), err);
    assert_ok(tfevents_close(e, &err), err);
    MappedFile m = only_file(dir);
    size_t at = 0, size;
    next_record(&m, &at, &size);
    const uint8_t *p = next_record(&m, &at, &size);
    assert_memory_equal(p + 9, "\x10\x14\x3a\x02\x08\x01", 6); /* step 20, session_log { status START } */
    assert_int_equal(at, m.size);
    file_unmap(&m);
}

static void failures_are_told(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    put_text(in_dir(fresh_dir("events_bad", dir), "file"), "x");
    TfEvents *e;
    assert_fails(tfevents_open(in_dir(dir, "file"), 0, &e, &err), DRPO_E_IO, "not a folder", err);
    assert_null(e);
    assert_int_equal(tfevents_close(NULL, &err), 0);
    TfEvents *a, *b; /* two within one second do not share a file */
    assert_ok(tfevents_open(in_dir(dir, "two"), 0, &a, &err), err);
    assert_ok(tfevents_open(in_dir(dir, "two"), 0, &b, &err), err);
    assert_ok(tfevents_close(a, &err), err);
    assert_ok(tfevents_close(b, &err), err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_known_answers),
        cmocka_unit_test(records_hold_what_was_written),
        cmocka_unit_test(a_resumed_run_marks_its_first_step),
        cmocka_unit_test(failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
