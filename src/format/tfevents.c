/* TensorBoard event files.
 *
 * A file is a row of records: length (u64), masked CRC of it (u32), data, masked CRC of that; the data is a protocol
 * buffer "Event": 1 wall_time (double), 2 step (varint), 3 file_version, 5 summary, 7 session_log. A summary holds
 * values: 1 tag, 2 simple_value (float), 4 image {1 height, 2 width, 3 colorspace, 4 encoded}. All little endian. */
#include "format/tfevents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

struct TfEvents {
    FILE *stream;
    char path[1024];
};

/* One message under construction; `failed` stands for memory that ran out. */
typedef struct Message {
    uint8_t *bytes;
    size_t size, room;
    bool failed;
} Message;

uint32_t crc32c(const void *data, size_t size) {
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static uint32_t masked_crc(const void *data, size_t size) {
    uint32_t crc = crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put(Message *m, const void *data, size_t size) {
    if (!m->failed && m->room - m->size < size) {
        size_t room = (m->size + size) * 2 + 64;
        uint8_t *more = realloc(m->bytes, room);
        if (more)
            m->bytes = more, m->room = room;
        else
            m->failed = true;
    }
    if (m->failed || size == 0) return;
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void put_little_endian(Message *m, uint64_t value, int bytes) {
    uint8_t out[8];
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
    put(m, out, (size_t)bytes);
}

static void put_varint(Message *m, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put(m, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
    put(m, &(uint8_t){(uint8_t)value}, 1);
}

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(Message *m, int field, int wire) { put_varint(m, (uint64_t)field << 3 | (uint64_t)wire); }

static void put_number(Message *m, int field, uint64_t value) {
    put_key(m, field, VARINT);
    put_varint(m, value);
}

static void put_bytes(Message *m, int field, const void *data, size_t size) {
    put_key(m, field, BYTES);
    put_varint(m, size);
    put(m, data, size);
}

/* Nests `inner` and releases it. */
static void put_message(Message *m, int field, Message *inner) {
    if (inner->failed) m->failed = true;
    put_bytes(m, field, inner->bytes, inner->size);
    free(inner->bytes);
    *inner = (Message){0};
}

static void event_begin(Message *event, int64_t step) {
    double now = clock_wall();
    uint64_t bits;
    memcpy(&bits, &now, sizeof bits);
    put_key(event, 1, FIXED64);
    put_little_endian(event, bits, 8);
    put_number(event, 2, (uint64_t)step);
}

/* Writes the event as one record and releases it. */
static int event_end(TfEvents *e, Message *event, Error *err) {
    Message head = {0}, tail = {0};
    put_little_endian(&head, event->size, 8);
    if (!head.failed) put_little_endian(&head, masked_crc(head.bytes, 8), 4);
    put_little_endian(&tail, masked_crc(event->bytes, event->size), 4);
    int code = 0;
    if (event->failed || head.failed || tail.failed)
        code = fail(err, DRPO_E_MEMORY, "%s: not enough memory for a record", e->path);
    else if (fwrite(head.bytes, 1, 12, e->stream) != 12 ||
             fwrite(event->bytes, 1, event->size, e->stream) != event->size || fwrite(tail.bytes, 1, 4, e->stream) != 4)
        code = fail_errno(err, DRPO_E_IO, "%s: cannot write", e->path);
    free(head.bytes);
    free(tail.bytes);
    free(event->bytes);
    return code;
}

static int write_start(TfEvents *e, int64_t resume_step, Error *err) {
    Message event = {0};
    event_begin(&event, 0);
    put_bytes(&event, 3, "brain.Event:2", 13);
    TRY(event_end(e, &event, err));
    if (resume_step > 0) {
        Message restart = {0}, session = {0};
        event_begin(&restart, resume_step);
        put_number(&session, 1, 1); /* SessionLog.START */
        put_message(&restart, 7, &session);
        TRY(event_end(e, &restart, err));
    }
    return tfevents_flush(e, err);
}

static int open_new(TfEvents *e, const char *folder, Error *err) {
    char host[256] = "localhost";
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "localhost");
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '_';
    for (int n = 0; n < 10000; n++) {
        int length = snprintf(e->path, sizeof e->path, "%s/events.out.tfevents.%lld.%s.%ld.%d", folder,
                              (long long)clock_wall(), host, (long)getpid(), n);
        if ((size_t)length >= sizeof e->path) return fail(err, DRPO_E_INPUT, "%.80s...: the path is too long", folder);
        if (access(e->path, F_OK) == 0) continue; /* a second file within one second */
        e->stream = fopen(e->path, "wbxe");
        return e->stream ? 0 : fail_errno(err, DRPO_E_IO, "%s: cannot create", e->path);
    }
    return fail(err, DRPO_E_IO, "%s: too many event files", folder);
}

int tfevents_open(const char *folder, int64_t resume_step, TfEvents **out, Error *err) {
    *out = NULL;
    TRY(dir_make(folder, err));
    TfEvents *e = calloc(1, sizeof *e);
    if (!e) return fail(err, DRPO_E_MEMORY, "%s: not enough memory", folder);
    int code = open_new(e, folder, err);
    if (code == 0) code = write_start(e, resume_step, err);
    if (code < 0)
        tfevents_close(e, NULL);
    else
        *out = e;
    return code;
}

static int write_summary(TfEvents *e, const char *tag, int64_t step, int field, int wire, Message *content,
                         Error *err) {
    Message value = {0}, summary = {0}, event = {0};
    put_bytes(&value, 1, tag, strlen(tag));
    if (wire == BYTES) {
        put_message(&value, field, content);
    } else {
        if (content->failed) value.failed = true;
        put_key(&value, field, wire);
        put(&value, content->bytes, content->size);
        free(content->bytes);
    }
    put_message(&summary, 1, &value);
    event_begin(&event, step);
    put_message(&event, 5, &summary);
    return event_end(e, &event, err);
}

int tfevents_scalar(TfEvents *e, const char *tag, int64_t step, double value, Error *err) {
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    Message content = {0};
    put_little_endian(&content, bits, 4);
    return write_summary(e, tag, step, 2, FIXED32, &content, err);
}

int tfevents_image(TfEvents *e, const char *tag, int64_t step, const void *png, size_t size, int width, int height,
                   Error *err) {
    Message image = {0};
    put_number(&image, 1, (uint64_t)height);
    put_number(&image, 2, (uint64_t)width);
    put_number(&image, 3, 3); /* RGB */
    put_bytes(&image, 4, png, size);
    return write_summary(e, tag, step, 4, BYTES, &image, err);
}

int tfevents_flush(TfEvents *e, Error *err) {
    return fflush(e->stream) == 0 ? 0 : fail_errno(err, DRPO_E_IO, "%s: cannot write", e->path);
}

int tfevents_close(TfEvents *e, Error *err) {
    if (!e) return 0;
    int code = 0;
    if (e->stream && fclose(e->stream) != 0) code = fail_errno(err, DRPO_E_IO, "%s: cannot write", e->path);
    free(e);
    return code;
}
