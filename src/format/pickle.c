/* The pickle machine without its teeth: protocols 2 to 5, the opcodes that data needs, nothing imported or called. */
#include "format/pickle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "format/utf8.h"

enum { SIZE_LIMIT = 1 << 26, VALUES_MAX = 1 << 22, STACK_MAX = 1 << 20, NAME_MAX_LENGTH = 256 };

typedef struct Machine {
    const char *name;
    const uint8_t *data;
    size_t size, at, opcode; /* opcode: where the one being executed is */
    Arena *arena;
    PickleAllowed allowed;
    PickleValue **stack; /* [height]; NULL is a mark */
    size_t height, stack_room;
    PickleValue **memo; /* [memo_room] */
    size_t memo_room, memo_next, values;
    PickleValue *result;
    Error *err;
} Machine;

/* ---- errors, bytes ---- */

static int damaged(const Machine *m, const char *what) {
    return fail(m->err, DRPO_E_INPUT, "%s: the pickle %s at byte %zu; the file is damaged or no PyTorch checkpoint",
                m->name, what, m->opcode);
}

static int no_memory(const Machine *m) { return fail(m->err, DRPO_E_MEMORY, "%s: out of memory", m->name); }

static int take(Machine *m, size_t bytes, const uint8_t **p) {
    if (bytes > m->size - m->at) return damaged(m, "is cut off");
    *p = m->data + m->at;
    m->at += bytes;
    return 0;
}

static int take_number(Machine *m, int bytes, uint64_t *out) {
    const uint8_t *p = NULL;
    TRY(take(m, (size_t)bytes, &p));
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--) *out = *out << 8 | p[i];
    return 0;
}

static const uint64_t TO_LINE_END = UINT64_MAX;

/* A text that is `length` bytes long, or up to the next line feed. */
static int take_text(Machine *m, uint64_t length, const char **out) {
    const uint8_t *p = m->data + m->at;
    if (length == TO_LINE_END) {
        const uint8_t *end = memchr(p, '\n', m->size - m->at);
        if (!end) return damaged(m, "is cut off");
        TRY(take(m, (size_t)(end - p) + 1, &p));
        length = (uint64_t)(end - p);
    } else {
        TRY(take(m, (size_t)length, &p));
    }
    if (memchr(p, 0, (size_t)length) || utf8_valid_prefix((const char *)p, (size_t)length) != length)
        return damaged(m, "has a text that is not UTF-8");
    char *copy = arena_alloc(m->arena, (size_t)length + 1);
    if (!copy) return no_memory(m);
    memcpy(copy, p, (size_t)length);
    *out = copy;
    return 0;
}

/* ---- values, stack, memo ---- */

static int value_new(Machine *m, PickleKind kind, PickleValue **out) {
    if (++m->values > VALUES_MAX) return damaged(m, "has too many values");
    *out = arena_alloc(m->arena, sizeof **out);
    if (!*out) return no_memory(m);
    (*out)->kind = kind;
    return 0;
}

static int push(Machine *m, PickleValue *v) {
    if (m->height >= STACK_MAX) return damaged(m, "is nested too deeply");
    if (m->height == m->stack_room) {
        const size_t room = m->stack_room ? 2 * m->stack_room : 64;
        PickleValue **longer = realloc(m->stack, room * sizeof *longer);
        if (!longer) return no_memory(m);
        m->stack = longer;
        m->stack_room = room;
    }
    m->stack[m->height++] = v;
    return 0;
}

static int push_kind(Machine *m, PickleKind kind, int64_t integer) {
    PickleValue *v = NULL;
    TRY(value_new(m, kind, &v));
    v->integer = integer;
    return push(m, v);
}

static int pop(Machine *m, PickleValue **out) {
    if (m->height == 0 || !m->stack[m->height - 1]) return damaged(m, "takes a value from an empty stack");
    *out = m->stack[--m->height];
    return 0;
}

static int top(Machine *m, PickleValue **out) {
    TRY(pop(m, out));
    m->height++;
    return 0;
}

/* The values above the newest mark; both leave the stack (they stay readable until the next push). */
static int pop_mark(Machine *m, PickleValue ***first, size_t *n) {
    size_t i = m->height;
    while (i > 0 && m->stack[i - 1]) i--;
    if (i == 0) return damaged(m, "lacks a mark");
    *n = m->height - i;
    *first = m->stack + i;
    m->height = i - 1;
    return 0;
}

static int append(Machine *m, PickleValue *v, PickleValue **item, size_t n) {
    if (n > VALUES_MAX - v->n) return damaged(m, "has too many values");
    if (v->n + n > v->room) {
        const size_t room = 2 * (v->n + n);
        PickleValue **longer = arena_alloc(m->arena, room * sizeof *longer);
        if (!longer) return no_memory(m);
        if (v->n) memcpy(longer, v->item, v->n * sizeof *longer);
        v->item = longer;
        v->room = (uint32_t)room;
    }
    if (n) memcpy(v->item + v->n, item, n * sizeof *item);
    v->n += (uint32_t)n;
    return 0;
}

static int memo_put(Machine *m, uint64_t i) {
    PickleValue *v = NULL;
    TRY(top(m, &v));
    if (i >= VALUES_MAX) return damaged(m, "remembers too many values");
    if (i >= m->memo_room) {
        const size_t room = 2 * (size_t)i + 64;
        PickleValue **longer = realloc(m->memo, room * sizeof *longer);
        if (!longer) return no_memory(m);
        memset(longer + m->memo_room, 0, (room - m->memo_room) * sizeof *longer);
        m->memo = longer;
        m->memo_room = room;
    }
    m->memo[i] = v;
    m->memo_next++;
    return 0;
}

static int memo_get(Machine *m, uint64_t i) {
    if (i >= m->memo_room || !m->memo[i]) return damaged(m, "recalls a value that it never had");
    return push(m, m->memo[i]);
}

/* ---- opcodes, group by group; each returns 1 when the opcode is not its own ---- */

/* A text with a zero in it is numpy's way to store bytes. */
static int push_text(Machine *m, PickleKind kind, int length_bytes) {
    uint64_t length = 0;
    PickleValue *v = NULL;
    const uint8_t *skipped = NULL;
    TRY(take_number(m, length_bytes, &length));
    if (length > m->size - m->at) return damaged(m, "is cut off");
    if (memchr(m->data + m->at, 0, (size_t)length)) kind = PICKLE_BYTES;
    TRY(value_new(m, kind, &v));
    TRY(kind == PICKLE_TEXT ? take_text(m, length, &v->text) : take(m, (size_t)length, &skipped));
    return push(m, v);
}

static int push_float(Machine *m) {
    const uint8_t *p = NULL;
    PickleValue *v = NULL;
    uint64_t bits = 0;
    TRY(take(m, 8, &p));
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
    TRY(value_new(m, PICKLE_FLOAT, &v));
    memcpy(&v->number, &bits, sizeof bits);
    return push(m, v);
}

/* A little-endian integer in two's complement, 0 to 8 bytes. */
static int push_long(Machine *m, uint64_t bytes) {
    const uint8_t *p = NULL;
    uint64_t v = 0;
    if (bytes > 8) return damaged(m, "has an integer of more than 64 bits");
    TRY(take(m, (size_t)bytes, &p));
    for (uint64_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    if (bytes > 0 && bytes < 8 && p[bytes - 1] & 0x80) v |= UINT64_MAX << (8 * bytes);
    return push_kind(m, PICKLE_INT, (int64_t)v);
}

static int run_scalar(Machine *m, uint8_t op) {
    uint64_t v = 0;
    switch (op) {
    case 'N': return push_kind(m, PICKLE_NONE, 0);
    case 0x88: return push_kind(m, PICKLE_BOOL, 1);
    case 0x89: return push_kind(m, PICKLE_BOOL, 0);
    case 'K': TRY(take_number(m, 1, &v)); return push_kind(m, PICKLE_INT, (int64_t)v);
    case 'M': TRY(take_number(m, 2, &v)); return push_kind(m, PICKLE_INT, (int64_t)v);
    case 'J': return push_long(m, 4);
    case 0x8a: TRY(take_number(m, 1, &v)); return push_long(m, v);
    case 0x8b: TRY(take_number(m, 4, &v)); return push_long(m, v);
    case 'G': return push_float(m);
    case 'X': return push_text(m, PICKLE_TEXT, 4);
    case 0x8c: return push_text(m, PICKLE_TEXT, 1);
    case 0x8d: return push_text(m, PICKLE_TEXT, 8);
    case 'T': return push_text(m, PICKLE_BYTES, 4); /* strings of Python 2 and bytes: of no interest here */
    case 'U': return push_text(m, PICKLE_BYTES, 1);
    case 'B': return push_text(m, PICKLE_BYTES, 4);
    case 'C': return push_text(m, PICKLE_BYTES, 1);
    case 0x8e: return push_text(m, PICKLE_BYTES, 8);
    default: return 1;
    }
}

static int push_tuple(Machine *m, size_t n) {
    PickleValue *v = NULL, *item[3] = {0};
    for (size_t i = n; i-- > 0;) TRY(pop(m, &item[i]));
    TRY(value_new(m, PICKLE_TUPLE, &v));
    TRY(append(m, v, item, n));
    return push(m, v);
}

static int push_marked(Machine *m, PickleKind kind) {
    PickleValue *v = NULL, **item = NULL;
    size_t n = 0;
    TRY(pop_mark(m, &item, &n));
    if (kind == PICKLE_DICT && n % 2) return damaged(m, "has a key without a value");
    TRY(value_new(m, kind, &v));
    TRY(append(m, v, item, n));
    return push(m, v);
}

/* Elements into a list, pairs into a dictionary; either into what a call would have returned. */
static int extend(Machine *m, PickleKind kind, bool marked) {
    PickleValue *v = NULL, **item = NULL, *pair[2] = {0};
    size_t n = kind == PICKLE_DICT ? 2 : 1;
    if (marked) {
        TRY(pop_mark(m, &item, &n));
    } else {
        for (size_t i = n; i-- > 0;) TRY(pop(m, &pair[i]));
        item = pair;
    }
    TRY(top(m, &v));
    if (v->kind != kind && v->kind != PICKLE_CALL) return damaged(m, "fills a value that is no container");
    if (kind == PICKLE_DICT && n % 2) return damaged(m, "has a key without a value");
    return append(m, v, item, n);
}

static int run_container(Machine *m, uint8_t op) {
    switch (op) {
    case '(': return push(m, NULL);
    case ')': return push_tuple(m, 0);
    case 0x85: return push_tuple(m, 1);
    case 0x86: return push_tuple(m, 2);
    case 0x87: return push_tuple(m, 3);
    case 't': return push_marked(m, PICKLE_TUPLE);
    case 'l': return push_marked(m, PICKLE_LIST);
    case 'd': return push_marked(m, PICKLE_DICT);
    case 0x91: return push_marked(m, PICKLE_LIST); /* frozenset */
    case ']': return push_kind(m, PICKLE_LIST, 0);
    case 0x8f: return push_kind(m, PICKLE_LIST, 0); /* set */
    case '}': return push_kind(m, PICKLE_DICT, 0);
    case 'a': return extend(m, PICKLE_LIST, false);
    case 'e': return extend(m, PICKLE_LIST, true);
    case 0x90: return extend(m, PICKLE_LIST, true);
    case 's': return extend(m, PICKLE_DICT, false);
    case 'u': return extend(m, PICKLE_DICT, true);
    default: return 1;
    }
}

static int run_memo(Machine *m, uint8_t op) {
    PickleValue *v = NULL, **item = NULL;
    uint64_t i = 0;
    size_t n = 0;
    switch (op) {
    case 'q': TRY(take_number(m, 1, &i)); return memo_put(m, i);
    case 'r': TRY(take_number(m, 4, &i)); return memo_put(m, i);
    case 0x94: return memo_put(m, m->memo_next);
    case 'h': TRY(take_number(m, 1, &i)); return memo_get(m, i);
    case 'j': TRY(take_number(m, 4, &i)); return memo_get(m, i);
    case '0': return pop(m, &v);
    case '1': return pop_mark(m, &item, &n);
    case '2': TRY(top(m, &v)); return push(m, v);
    case 0x80: return take_number(m, 1, &i); /* protocol */
    case 0x95: return take_number(m, 8, &i); /* frame */
    default: return 1;
    }
}

static int push_global(Machine *m, const char *module, const char *name) {
    PickleValue *v = NULL;
    if (strlen(module) > NAME_MAX_LENGTH || strlen(name) > NAME_MAX_LENGTH || !m->allowed(module, name))
        return fail(
            m->err, DRPO_E_INPUT,
            "%s: its pickle asks for '%.100s.%.100s', which weights do not need; only tensors are read, nothing "
            "is executed. If you trust the file, save its state_dict() alone",
            m->name, module, name);
    TRY(value_new(m, PICKLE_GLOBAL, &v));
    v->module = module;
    v->text = name;
    return push(m, v);
}

static int push_stack_global(Machine *m) {
    PickleValue *module = NULL, *name = NULL;
    TRY(pop(m, &name));
    TRY(pop(m, &module));
    if (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT) return damaged(m, "imports what is no name");
    return push_global(m, module->text, name->text);
}

static int push_call(Machine *m) {
    PickleValue *v = NULL, *called = NULL, *arguments = NULL;
    TRY(pop(m, &arguments));
    TRY(pop(m, &called));
    if (called->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE) return damaged(m, "calls what is no name");
    TRY(value_new(m, PICKLE_CALL, &v));
    v->called = called;
    v->arguments = arguments;
    return push(m, v);
}

static int push_persistent(Machine *m) {
    PickleValue *v = NULL, *arguments = NULL;
    TRY(pop(m, &arguments));
    TRY(value_new(m, PICKLE_PERSISTENT, &v));
    v->arguments = arguments;
    return push(m, v);
}

static int run_object(Machine *m, uint8_t op) {
    const char *module = NULL, *name = NULL;
    PickleValue *v = NULL;
    switch (op) {
    case 'c':
        TRY(take_text(m, TO_LINE_END, &module));
        TRY(take_text(m, TO_LINE_END, &name));
        return push_global(m, module, name);
    case 0x93: return push_stack_global(m);
    case 'R': return push_call(m);
    case 0x81: return push_call(m); /* cls.__new__ */
    case 'Q': return push_persistent(m);
    case 'b': TRY(pop(m, &v)); return top(m, &v); /* an object's attributes: not needed */
    case '.': return pop(m, &m->result);
    default: return 1;
    }
}

static int run_opcode(Machine *m) {
    static int (*const group[])(Machine *, uint8_t) = {run_scalar, run_container, run_memo, run_object};
    uint64_t op = 0;
    m->opcode = m->at;
    TRY(take_number(m, 1, &op));
    for (size_t i = 0; i < sizeof group / sizeof *group; i++) {
        const int code = group[i](m, (uint8_t)op);
        if (code <= 0) return code;
    }
    return fail(m->err, DRPO_E_INPUT, "%s: opcode 0x%02x at byte %zu of the pickle is not read", m->name, (unsigned)op,
                m->opcode);
}

int pickle_read(const char *name, const uint8_t *data, size_t size, PickleAllowed allowed, Arena *a, PickleValue **out,
                Error *err) {
    *out = NULL;
    if (size > SIZE_LIMIT)
        return fail(err, DRPO_E_INPUT, "%s: a pickle of %zu bytes is no list of tensors", name, size);
    Machine m = {.name = name, .data = data, .size = size, .arena = a, .allowed = allowed, .err = err};
    int code = 0;
    while (code == 0 && !m.result) code = run_opcode(&m);
    free(m.stack);
    free(m.memo);
    if (code == 0) *out = m.result;
    return code;
}

bool pickle_is_call(const PickleValue *v, const char *module, const char *name) {
    return v->kind == PICKLE_CALL && strcmp(v->called->module, module) == 0 && strcmp(v->called->text, name) == 0;
}
