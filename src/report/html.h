/* Html: escaping, embedding and the page around a report. */
#ifndef DRPO_REPORT_HTML_H
#define DRPO_REPORT_HTML_H

#include <stdio.h>

#include "base/error.h"

void html_text(FILE *out, const char *text);  /* escaped */
void html_open(FILE *out, const char *title); /* doctype, style, <main> */
void html_close(FILE *out);
/* A PNG file inside the page; nothing when it does not exist. */
int html_picture(FILE *out, const char *path, const char *caption, Error *err);

#endif
