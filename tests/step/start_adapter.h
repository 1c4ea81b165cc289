/* The adapter that a golden update starts from, read from its file into `targets` of the pipeline's UNet. */
#ifndef DRPO_TESTS_START_ADAPTER_H
#define DRPO_TESTS_START_ADAPTER_H

#include "check.h"
#include "step/step.h"

static inline Adapter *start_adapter(Pipeline *p, int rank, const char *targets, const char *path) {
    Error err = {0};
    Adapter *known = lora_new(rank, (float)rank, "all-linear", &err), *start;
    Adapter *adapter = lora_new(rank, (float)rank, targets, &err);
    assert_non_null(known);
    assert_non_null(adapter);
    assert_ok(pipeline_register(p, adapter, known, &err), err);
    assert_ok(lora_allocate(adapter, &err), err);
    assert_ok(lora_read(path, 1, known, &start, &err), err);
    assert_ok(lora_copy(adapter, start, &err), err);
    lora_free(start);
    lora_free(known);
    return adapter;
}

#endif
