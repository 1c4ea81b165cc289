/* Machine: how much memory there is, in containers of either version of control groups as well. */
#include "check.h"

#include "train/machine.h"

static void put(const char *root, const char *name, const char *text) {
    Error err = {0};
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/%s", root, name);
    *strrchr(folder, '/') = 0;
    assert_ok(dir_make(folder, &err), err);
    put_text(in_dir(root, name), text);
}

static const char *machine_of(const char *name, char root[512]) {
    fresh_dir(name, root);
    put(root, "proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n");
    return root;
}

enum { MIB = 1 << 20 };

static void check_memory(const char *root, size_t memory, size_t available) {
    Machine m = {0};
    machine_memory(root, &m);
    assert_int_equal(m.memory / MIB, memory);
    assert_int_equal(m.available / MIB, available);
}

static void without_groups_the_machine_decides(void **state) {
    (void)state;
    char root[512];
    machine_of("machine_plain", root);
    check_memory(root, 8192, 4096);
    put(root, "proc/self/cgroup", "0::/user.slice\n");
    put(root, "sys/fs/cgroup/user.slice/memory.max", "max\n");
    check_memory(root, 8192, 4096);
}

static void a_container_of_version_2_sees_its_limit(void **state) {
    (void)state;
    char root[512];
    machine_of("machine_v2", root);
    put(root, "proc/self/cgroup", "0::/\n");
    put(root, "sys/fs/cgroup/memory.max", "2147483648\n");
    put(root, "sys/fs/cgroup/memory.current", "1073741824\n");
    check_memory(root, 2048, 1024);
    /* files in memory can go: 512 MiB of what is used */
    put(root, "sys/fs/cgroup/memory.stat",
        "anon 536870912\nfile 536870912\nactive_file 134217728\ninactive_file 402653184\n");
    check_memory(root, 2048, 1536);
}

static void every_group_above_limits_too(void **state) {
    (void)state;
    char root[512];
    machine_of("machine_nested", root);
    put(root, "proc/self/cgroup", "0::/batch/job/step\n");
    put(root, "sys/fs/cgroup/batch/memory.max", "1073741824\n");
    put(root, "sys/fs/cgroup/batch/memory.current", "268435456\n");
    put(root, "sys/fs/cgroup/batch/job/step/memory.max", "3221225472\n");
    put(root, "sys/fs/cgroup/batch/job/step/memory.current", "104857600\n");
    check_memory(root, 1024, 768);
}

static void version_1_is_read_as_well(void **state) {
    (void)state;
    char root[512];
    machine_of("machine_v1", root);
    put(root, "proc/self/cgroup", "12:cpu,cpuacct:/x\n7:memory:/docker/abc\n0::/\n");
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "1610612736\n"); /* what the container shows as its root */
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "536870912\n");
    put(root, "sys/fs/cgroup/memory/memory.stat", "cache 9\ntotal_inactive_file 104857600\ntotal_active_file 0\n");
    check_memory(root, 1536, 1124);
}

static void more_than_the_limit_leaves_nothing(void **state) {
    (void)state;
    char root[512];
    machine_of("machine_full", root);
    put(root, "proc/self/cgroup", "0::/\n");
    put(root, "sys/fs/cgroup/memory.max", "1048576\n");
    put(root, "sys/fs/cgroup/memory.current", "2097152\n");
    check_memory(root, 1, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups_the_machine_decides), cmocka_unit_test(a_container_of_version_2_sees_its_limit),
        cmocka_unit_test(every_group_above_limits_too),       cmocka_unit_test(version_1_is_read_as_well),
        cmocka_unit_test(more_than_the_limit_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
