/* http, https: a server as a reward. Each request is a POST of the JSON that exec: programs get (message.h);
 * connections stay open between requests. A server of https must show a certificate that the system's authorities
 * signed, or those of ?ca=; there is no way to trust anybody.
 *
 * Everything but an answer of status 200 with the right scores within the time is a fault that names the URL. */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "step/reward/message.h"
#include "step/reward/reward_internal.h"

enum { SHOWN_MAX = 160 };

typedef struct Line { /* a connection */
    CURL *curl;
    bool busy;
    char *reply; /* 0-terminated */
    size_t size, room;
    bool too_long;
    char error[CURL_ERROR_SIZE];
} Line;

typedef struct HttpState {
    const char *url; /* behind the lines, in the same block */
    char *ca;        /* file of authorities to trust; NULL: the system's */
    PictureForm form;
    double timeout, connect_timeout;
    struct curl_slist *headers;
    int lines;
    pthread_mutex_t lock; /* of Line.busy */
    Line line[];
} HttpState;

/* ---- one exchange ---- */

static size_t receive(char *data, size_t one, size_t n, void *user) {
    Line *l = user;
    const size_t bytes = one * n;
    l->too_long = l->too_long || l->size + bytes > REPLY_MAX;
    if (l->too_long) return 0;
    if (l->room < l->size + bytes + 1) {
        char *bigger = realloc(l->reply, 2 * (l->size + bytes) + 1);
        if (!bigger) return 0;
        l->reply = bigger;
        l->room = 2 * (l->size + bytes) + 1;
    }
    memcpy(l->reply + l->size, data, bytes);
    l->size += bytes;
    l->reply[l->size] = 0;
    return bytes;
}

static int broken(const Reward *r, Error *err, const char *what) {
    return fail(err, DRPO_E_REWARD, "reward %s: %s", r->label, what);
}

/* A certificate that nobody signed who is trusted, or that of another name. */
static int untrusted(const Reward *r, const char *why, Error *err) {
    const HttpState *s = r->state;
    const char *mend = strstr(why, "target host") ? "ask it by a name that its certificate holds"
                       : s->ca ? "does ?ca= (or SSL_CERT_FILE) hold the certificate of whoever signed its own?"
                               : "name the certificate of whoever signed its own by ?ca=FILE.pem (its own, if it "
                                 "signed itself), or have the system trust it";
    return fail(err, DRPO_E_REWARD, "reward %s: the server is not trusted: %s; %s", r->label, why, mend);
}

static int no_answer(const Reward *r, const Line *l, CURLcode code, Error *err) {
    const HttpState *s = r->state;
    char what[CURL_ERROR_SIZE + 64];
    const char *why = *l->error ? l->error : curl_easy_strerror(code);
    if (code == CURLE_PEER_FAILED_VERIFICATION) return untrusted(r, why, err);
    if (l->too_long) return broken(r, err, "its reply is longer than 1 MiB");
    if (code == CURLE_OPERATION_TIMEDOUT)
        snprintf(what, sizeof what, "no reply within %g s; raise ?timeout= (%s)", s->timeout, l->error);
    else
        snprintf(what, sizeof what, "%s%s", why, code == CURLE_SSL_CONNECT_ERROR ? "; does it speak https?" : "");
    return broken(r, err, what);
}

static int wrong_status(const Reward *r, Line *l, long status, Error *err) {
    char what[SHOWN_MAX + 64];
    for (size_t k = 0; k < l->size; k++)
        if ((unsigned char)l->reply[k] < ' ') l->reply[k] = ' ';
    snprintf(what, sizeof what, "it answers with HTTP status %ld%s%.*s", status, l->size ? ": " : "", SHOWN_MAX,
             l->size ? l->reply : "");
    return broken(r, err, what);
}

static int exchange(const Reward *r, Line *l, const char *request, int count, float *scores, Error *err) {
    char what[400] = "its reply has no \"scores\"";
    long status = 0;
    l->size = 0;
    l->too_long = false;
    *l->error = 0;
    curl_easy_setopt(l->curl, CURLOPT_POSTFIELDS, request);
    curl_easy_setopt(l->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request));
    const CURLcode code = curl_easy_perform(l->curl);
    if (code != CURLE_OK) return no_answer(r, l, code, err);
    curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) return wrong_status(r, l, status, err);
    if (l->size == 0) return broken(r, err, "its reply is empty");
    return message_reply(l->reply, count, scores, what, sizeof what) == REPLY_SCORES ? 0 : broken(r, err, what);
}

/* ---- the reward ---- */

/* There are as many connections as lanes, so one is always free. */
static Line *take_line(HttpState *s) {
    Line *l = s->line;
    pthread_mutex_lock(&s->lock);
    while (l->busy) l++;
    l->busy = true;
    pthread_mutex_unlock(&s->lock);
    return l;
}

static void return_line(HttpState *s, Line *l) {
    pthread_mutex_lock(&s->lock);
    l->busy = false;
    pthread_mutex_unlock(&s->lock);
}

static int http_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    HttpState *s = r->state;
    char *request = NULL;
    TRY(message_request(prompt, pictures, s->form, NULL, &request, err));
    Line *l = take_line(s);
    const int code = exchange(r, l, request, pictures->count, scores, err);
    return_line(s, l);
    free(request);
    return code;
}

static void http_destroy(Reward *r) {
    HttpState *s = r->state;
    for (int k = 0; k < s->lines; k++) {
        if (s->line[k].curl) curl_easy_cleanup(s->line[k].curl);
        free(s->line[k].reply);
    }
    curl_slist_free_all(s->headers);
    free(s->ca);
    pthread_mutex_destroy(&s->lock);
    free(s);
    curl_global_cleanup();
}

static bool add_header(HttpState *s, const char *text) {
    struct curl_slist *longer = curl_slist_append(s->headers, text);
    if (longer) s->headers = longer;
    return longer;
}

/* ?token_env=NAME keeps a secret out of the command line and config.yaml. */
static int add_headers(HttpState *s, const RewardSpec *spec, Error *err) {
    const char *name = reward_text(spec, "token_env"), *token = *name ? getenv(name) : NULL;
    char *bearer = NULL;
    if (*name && !token)
        return fail(err, DRPO_E_USAGE, "reward '%s': the environment variable %s of ?token_env= is not set", spec->name,
                    name);
    bool good = add_header(s, "Content-Type: application/json") && add_header(s, "Accept: application/json") &&
                add_header(s, "Expect:"); /* curl would wait a second for "100 Continue" */
    if (good && token) good = asprintf(&bearer, "Authorization: Bearer %s", token) >= 0 && add_header(s, bearer);
    free(bearer);
    return good ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* ?ca=, else what other programs know as SSL_CERT_FILE, else the system's. */
static int find_authorities(HttpState *s, const RewardSpec *spec, Error *err) {
    if (strcmp(spec->name, "https") != 0) return 0;
    const char *given = reward_text(spec, "ca"), *known = getenv("SSL_CERT_FILE");
    const char *file = *given ? given : known && *known ? known : NULL;
    if (!file) return 0;
    if (access(file, R_OK) != 0)
        return fail_errno(err, DRPO_E_USAGE, "reward '%s': cannot read %s, which %s names", spec->name, file,
                          *given ? "?ca=" : "SSL_CERT_FILE");
    s->ca = strdup(file);
    return s->ca ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

static int open_line(const HttpState *s, Line *l, Error *err) {
    l->curl = curl_easy_init();
    if (!l->curl) return fail(err, DRPO_E_MEMORY, "cannot make a connection: libcurl gives none");
    curl_easy_setopt(l->curl, CURLOPT_URL, s->url);
    curl_easy_setopt(l->curl, CURLOPT_HTTPHEADER, s->headers);
    curl_easy_setopt(l->curl, CURLOPT_USERAGENT, "drpo/" DRPO_VERSION);
    curl_easy_setopt(l->curl, CURLOPT_NOSIGNAL, 1L);
    if (s->ca) curl_easy_setopt(l->curl, CURLOPT_CAINFO, s->ca);
    curl_easy_setopt(l->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(l->curl, CURLOPT_TIMEOUT_MS, (long)(1000 * s->timeout));
    curl_easy_setopt(l->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(1000 * s->connect_timeout));
    curl_easy_setopt(l->curl, CURLOPT_ERRORBUFFER, l->error);
    curl_easy_setopt(l->curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(l->curl, CURLOPT_WRITEDATA, l);
    return 0;
}

/* "http_localhost" for "//me:secret@localhost:8000/score"; the label leaves out what stands before '@'. */
static void name_it(const RewardSpec *spec, Reward *r, char *name, size_t size) {
    const char *rest = spec->argument + 2, *end = rest + strcspn(rest, "/?");
    const char *at = memrchr(rest, '@', (size_t)(end - rest)), *host = at ? at + 1 : rest;
    if (name) snprintf(name, size, "http_%.*s", (int)strcspn(host, ":/?"), host);
    if (r) snprintf(r->label, sizeof r->label, "%s://%.200s", spec->name, host);
}

static HttpState *new_state(const RewardSpec *spec) {
    const int lines = (int)reward_number(spec, "workers");
    const size_t size = sizeof(HttpState) + (size_t)lines * sizeof(Line);
    const size_t length = strlen(spec->name) + strlen(spec->argument) + 2;
    HttpState *s = calloc(1, size + length);
    if (!s) return NULL;
    char *url = (char *)s + size;
    snprintf(url, length, "%s:%s", spec->name, spec->argument);
    if (url[strlen(url) - 1] == '?') url[strlen(url) - 1] = 0; /* it ended a query of the URL's own */
    s->url = url;
    s->form = (PictureForm)reward_choice(spec, "images");
    s->timeout = reward_number(spec, "timeout");
    s->connect_timeout = reward_number(spec, "connect_timeout");
    s->lines = lines;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static int http_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    char name[64];
    if (strncmp(spec->argument, "//", 2) != 0 || strcspn(spec->argument + 2, "/?") == 0)
        return fail(err, DRPO_E_USAGE, "reward '%s:%s' is not a URL; write %s://HOST[:PORT]/PATH", spec->name,
                    spec->argument, spec->name);
    name_it(spec, NULL, name, sizeof name);
    Reward *r = reward_new(spec, name);
    HttpState *s = new_state(spec);
    if (!r || !s || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        free(r);
        free(s);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward %s", name);
    }
    name_it(spec, r, NULL, 0);
    r->state = s;
    r->lanes = s->lines;
    r->score = http_score;
    r->destroy = http_destroy;
    int code = find_authorities(s, spec, err);
    if (code == 0) code = add_headers(s, spec, err);
    for (int k = 0; k < s->lines && code == 0; k++) code = open_line(s, &s->line[k], err);
    if (code == 0)
        *out = r;
    else
        reward_close(r);
    return code;
}

static const RewardOption options[] = {
    {"ca", REWARD_TEXT, "", "", "PEM file of the authorities to trust; without it SSL_CERT_FILE, or the system's"},
    {"images", REWARD_CHOICE, "png", "png|rgb", "form of the pictures"}, /* from here on those of http too */
    {"timeout", REWARD_SECONDS, "120", "", "seconds for an answer"},
    {"connect_timeout", REWARD_SECONDS, "10", "", "of them, seconds to reach the server"},
    {"workers", REWARD_COUNT, "1", "1..64", "connections that share a prompt's pictures"},
    {"token_env", REWARD_TEXT, "", "", "environment variable with a bearer token"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

#define SERVER_KIND(scheme, its_options)                                                                               \
    {                                                                                                                  \
        .name = scheme, .argument = "//HOST[:PORT]/PATH", .scores = "whatever the server answers",                     \
        .needs = "a server that answers a POST of JSON with JSON (docs/rewards.md)", .range = "any finite number",     \
        .licence = "the server's own", .weights = "the server's own", .options = its_options, .retries = 2,            \
        .open = http_open                                                                                              \
    }

const RewardKind http_kind = SERVER_KIND("http", options + 1);
const RewardKind https_kind = SERVER_KIND("https", options);
