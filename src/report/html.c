/* Html: one page without any outside reference, readable on a phone, light and dark. */
#include "report/html.h"

#include <stdlib.h>

#include "base/file.h"
#include "format/base64.h"

static const char style[] =
    ":root{--ink:#1d2330;--soft:#5c6575;--line:#dfe3ea;--paper:#fff;--card:#f6f7f9;--c0:#2f6fde;--c1:#d9622b;--c2:#"
    "2a9d6f;"
    "--c3:#a24bc4;--c4:#b58900;--c5:#6b7280}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#9aa4b5;--line:#343b48;--paper:#14171d;--card:#"
    "1d222b;--c0:#6ea0ff;"
    "--c1:#ff9a66;--c2:#58d3a3;--c3:#d08df0;--c4:#e0bd4f;--c5:#9aa4b5}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 "
    "system-ui,sans-serif}"
    "main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}h1{font-size:1.7rem;margin:.2em 0}h2{margin:2em 0 "
    ".6em;font-size:1.25rem}"
    "h3{font-size:.95rem;margin:0 0 .4em}p.soft,.soft{color:var(--soft)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:18px 0}"
    ".tile{background:var(--card);border-radius:10px;padding:12px 14px}.tile b{display:block;font-size:1.35rem}"
    ".curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:18px}"
    "figure{margin:0;background:var(--card);border-radius:10px;padding:12px}figure "
    "svg{width:100%;height:auto;display:block}"
    "figcaption{color:var(--soft);font-size:.85rem;margin-top:.4em}figure "
    "img{width:100%;height:auto;border-radius:6px;display:block}.pictures{max-height:85vh;overflow-y:auto}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:18px}"
    ".grid{stroke:var(--line);stroke-width:1}.tick{fill:var(--soft);font-size:12px}"
    ".line{fill:none;stroke-width:2.2}.faint{fill:none;stroke-width:1;opacity:.35}"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}.s5{"
    "stroke:var(--c5)}"
    ".key::before{content:\"\";display:inline-block;width:14px;height:3px;margin:0 6px 3px 0;background:currentColor}"
    ".k0{color:var(--c0)}.k1{color:var(--c1)}.k2{color:var(--c2)}.k3{color:var(--c3)}.k4{color:var(--c4)}.k5{color:var("
    "--c5)}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}"
    "td,th{padding:6px 12px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}tr.total "
    "td{font-weight:600}.up{color:var(--c2)}.down{color:var(--c1)}"
    ".stop{border-left:4px solid var(--c1);background:var(--card);border-radius:0 10px 10px 0;padding:12px "
    "16px;margin:18px 0}code{font-size:.92em;overflow-wrap:anywhere}"
    "pre{background:var(--card);border-radius:10px;padding:12px 14px;overflow-x:auto;font-size:.85rem}"
    "details{margin:.6em 0}summary{cursor:pointer;color:var(--soft)}";

void html_text(FILE *out, const char *text) {
    for (const char *c = text; *c; c++) switch (*c) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*c, out);
        }
}

void html_open(FILE *out, const char *title) {
    fprintf(out, "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport "
                 "content=\"width=device-width,initial-scale=1\">\n");
    fprintf(out, "<meta name=color-scheme content=\"light dark\">\n<title>");
    html_text(out, title);
    fprintf(out, "</title>\n<style>%s</style>\n<main>\n", style);
}

void html_close(FILE *out) { fprintf(out, "</main>\n</html>\n"); }

int html_picture(FILE *out, const char *path, const char *caption, Error *err) {
    if (!file_exists(path)) return 0;
    MappedFile file;
    TRY(file_map(path, &file, err));
    char *text = malloc(base64_length(file.size) + 1);
    if (!text) {
        file_unmap(&file);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    }
    base64_encode(file.data, file.size, text);
    fprintf(out, "<figure><div class=pictures><img alt=\"");
    html_text(out, caption);
    fprintf(out, "\" src=\"data:image/png;base64,%s\"></div><figcaption>", text);
    html_text(out, caption);
    fprintf(out, "</figcaption></figure>\n");
    free(text);
    file_unmap(&file);
    return 0;
}
