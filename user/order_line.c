// SPDX-License-Identifier: GPL-2.0-only
/* An event's line as it stands in the merged log: what merging found out is added to it. */
#include <errno.h>

#include "jsonedit.h"
#include "order.h"

static void moved_add(struct jsonedit *edit, const char *key, const char *raw_key, uint64_t stamp,
		      uint64_t raw)
{
	jsonedit_stamp(edit, key, stamp, false);
	if (stamp != raw)
		jsonedit_stamp(edit, raw_key, raw, true);
}

int order_line_merged(struct order *order, const struct order_event *event, struct text *text)
{
	const char *line = order_line(order, event);
	struct jsonedit edit = {};

	if (!line)
		return errno ? -errno : -EIO;
	if (event->effect)
		jsonedit_str(&edit, "edge", pairs_labels[event->label]);
	if (event->repaired) {
		moved_add(&edit, "hlc", "hlc_raw", event->hlc, event->hlc_raw);
		if (event->has_last || event->hlc_last != event->hlc)
			moved_add(&edit, "hlc_last", "hlc_last_raw", event->hlc_last,
				  event->hlc_last_raw);
	}
	if (event->has_cause && !event->carried) {
		jsonedit_stamp(&edit, "cause", event->cause, false);
		jsonedit_stamp(&edit, "cause_last", event->cause_last, false);
	} else if (event->carried && (event->cause != event->cause_raw ||
				      event->cause_last != event->cause_last_raw)) {
		moved_add(&edit, "cause", "cause_raw", event->cause, event->cause_raw);
		moved_add(&edit, "cause_last", "cause_last_raw", event->cause_last,
			  event->cause_last_raw);
	}
	if (!edit.n) {
		text_add(text, line, event->text_len);
		return text->err;
	}
	return jsonedit_write(&edit, line, event->text_len, text);
}
