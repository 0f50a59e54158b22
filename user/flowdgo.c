// SPDX-License-Identifier: GPL-2.0-only
/* flowd-go's configuration, as one of ours: `tidemark run --from flowd-go`. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <yaml.h>

#include "../bpf/mark.h"
#include "flowdgo.h"
#include "log.h"
#include "units.h"

/* What the key is: a mapping of others, a mapping of anything, values; or nothing here, and why. */
enum kind { SECTION, ANY, VALUE, LIST, MOOT };

#define PROGRAM "the programs are part of tidemark"
#define CGROUP "sockets of every cgroup tell of themselves"
#define DEBUG "see `tidemark show counters`"

/* Every key that flowd-go reads, sections before what is in them. */
#define KEYS(X)                                                                                    \
	X(PID, "pidPath", MOOT, "systemd knows the process; see `tidemark show daemon`")           \
	X(WORK, "workDir", MOOT, "--state-dir says where state is kept")                           \
	X(PLUGINS, "plugins", SECTION, NULL)                                                       \
	X(PIPE, "plugins.namedPipe", SECTION, NULL)                                                \
	X(PIPE_READERS, "plugins.namedPipe.maxReaders", MOOT, "one reader keeps up")               \
	X(PIPE_BUFFER, "plugins.namedPipe.buffSize", MOOT, "lines of any number are read whole")   \
	X(PIPE_PATH, "plugins.namedPipe.pipePath", VALUE, NULL)                                    \
	X(API, "plugins.api", SECTION, NULL)                                                       \
	X(API_ADDRESS, "plugins.api.bindAddress", VALUE, NULL)                                     \
	X(API_PORT, "plugins.api.bindPort", VALUE, NULL)                                           \
	X(IN, "plugins.firefly", SECTION, NULL)                                                    \
	X(IN_ADDRESS, "plugins.firefly.bindAddress", VALUE, NULL)                                  \
	X(IN_PORT, "plugins.firefly.bindPort", VALUE, NULL)                                        \
	X(IN_BUFFER, "plugins.firefly.bufferSize", MOOT, "a datagram of any size is read whole")   \
	X(IN_DEADLINE, "plugins.firefly.deadline", MOOT, "nothing waits for a datagram")           \
	X(IN_HEADER, "plugins.firefly.hasSyslogHeader", MOOT, "with and without are understood")   \
	X(IN_RELAY, "plugins.firefly.fireflyReceivers", LIST, NULL)                                \
	X(PERFSONAR, "plugins.perfsonar", SECTION, NULL)                                           \
	X(PERFSONAR_ACTIVITY, "plugins.perfsonar.activityId", VALUE, NULL)                         \
	X(PERFSONAR_EXPERIMENT, "plugins.perfsonar.experimentId", VALUE, NULL)                     \
	X(IPERF, "plugins.iperf3", SECTION, NULL)                                                  \
	X(IPERF_SRC_LOW, "plugins.iperf3.minSourcePort", VALUE, NULL)                              \
	X(IPERF_SRC_HIGH, "plugins.iperf3.maxSourcePort", VALUE, NULL)                             \
	X(IPERF_DST_LOW, "plugins.iperf3.minDestinationPort", VALUE, NULL)                         \
	X(IPERF_DST_HIGH, "plugins.iperf3.maxDestinationPort", VALUE, NULL)                        \
	X(IPERF_CGROUP, "plugins.iperf3.cgroupPath", VALUE, NULL)                                  \
	X(IPERF_PROGRAM, "plugins.iperf3.programPath", MOOT, PROGRAM)                              \
	X(IPERF_DEBUG, "plugins.iperf3.debugMode", MOOT, DEBUG)                                    \
	X(IPERF_RANDOM, "plugins.iperf3.randomIDs", VALUE, NULL)                                   \
	X(IPERF_ACTIVITIES, "plugins.iperf3.activityIDs", LIST, NULL)                              \
	X(IPERF_EXPERIMENTS, "plugins.iperf3.experimentIDs", LIST, NULL)                           \
	X(BACKENDS, "backends", SECTION, NULL)                                                     \
	X(MARKER, "backends.marker", SECTION, NULL)                                                \
	X(MARKER_DEVICES, "backends.marker.targetInterfaces", MOOT,                                \
	  "what the host sends is marked on every interface")                                      \
	X(MARKER_DISCOVER, "backends.marker.discoverInterfaces", MOOT,                             \
	  "interfaces are followed as they come and go")                                           \
	X(MARKER_QDISC, "backends.marker.removeQdisc", MOOT, "only what tidemark made is removed") \
	X(MARKER_PROGRAM, "backends.marker.programPath", MOOT, PROGRAM)                            \
	X(MARKER_HOW, "backends.marker.markingStrategy", VALUE, NULL)                              \
	X(MARKER_ALL, "backends.marker.matchAll", VALUE, NULL)                                     \
	X(MARKER_DEBUG, "backends.marker.debugMode", MOOT, DEBUG)                                  \
	X(OUT, "backends.firefly", SECTION, NULL)                                                  \
	X(OUT_PORT, "backends.firefly.destinationPort", VALUE, NULL)                               \
	X(OUT_HEADER, "backends.firefly.prependSyslog", VALUE, NULL)                               \
	X(OUT_COLLECT, "backends.firefly.sendToCollector", VALUE, NULL)                            \
	X(OUT_COLLECTOR, "backends.firefly.collectorAddress", VALUE, NULL)                         \
	X(OUT_COLLECTOR_PORT, "backends.firefly.collectorPort", VALUE, NULL)                       \
	X(OUT_ENRICH, "backends.firefly.enrich", VALUE, NULL)                                      \
	X(OUT_FORM, "backends.firefly.enrichmentMode", VALUE, NULL)                                \
	X(STUN, "backends.firefly.stun", SECTION, NULL)                                            \
	X(STUN_MAP, "backends.firefly.stun.manualMapping", ANY, NULL)                              \
	X(STUN_SERVERS, "backends.firefly.stun.stunServers", LIST, NULL)                           \
	X(STUN_STUN, "backends.firefly.stun.stunResolution", VALUE, NULL)                          \
	X(STUN_HTTP, "backends.firefly.stun.httpResolution", VALUE, NULL)                          \
	X(METRICS, "backends.prometheus", SECTION, NULL)                                           \
	X(METRICS_LOG, "backends.prometheus.log", MOOT, "who asks is not logged")                  \
	X(METRICS_ADDRESS, "backends.prometheus.bindAddress", VALUE, NULL)                         \
	X(METRICS_NETLINK, "backends.prometheus.netlinkPort", VALUE, NULL)                         \
	X(METRICS_SKOPS, "backends.prometheus.skopsPort", VALUE, NULL)                             \
	X(ENRICH, "enrichers", SECTION, NULL)                                                      \
	X(ENRICH_PERIOD, "enrichers.period", VALUE, NULL)                                          \
	X(NETLINK, "enrichers.netlink", SECTION, NULL)                                             \
	X(NETLINK_PROTOCOL, "enrichers.netlink.protocol", MOOT, "sockets tell of themselves")      \
	X(NETLINK_EXT, "enrichers.netlink.ext", MOOT, "sockets tell of themselves")                \
	X(NETLINK_STATE, "enrichers.netlink.state", MOOT, "sockets tell of themselves")            \
	X(SKOPS, "enrichers.skops", SECTION, NULL)                                                 \
	X(SKOPS_CGROUP, "enrichers.skops.cgroupPath", MOOT, CGROUP)                                \
	X(SKOPS_PROGRAM, "enrichers.skops.programPath", MOOT, PROGRAM)                             \
	X(SKOPS_DEBUG, "enrichers.skops.debugMode", MOOT, DEBUG)                                   \
	X(SKOPS_STRATEGY, "enrichers.skops.strategy", MOOT,                                        \
	  "changes of state are told of at once, and the rest every period")

enum key {
#define X(name, path, kind, words) name,
	KEYS(X)
#undef X
		KEYS_NR
};

static const struct {
	const char *path;
	enum kind kind;
	const char *words;
} keys[] = {
#define X(name, path, kind, words) { path, kind, words },
	KEYS(X)
#undef X
};

struct translation {
	const char *name, *token;
	yaml_document_t *document;
	const yaml_node_t *at[KEYS_NR]; /* NULL: not given, or null */
	struct text *out;
	int status;
};

/* ---- reading ------------------------------------------------------------------------------ */

static void say(const struct translation *f, const yaml_node_t *node, bool refuse,
		const char *format, va_list args)
{
	yaml_mark_t mark = node ? node->start_mark : (yaml_mark_t){};
	char words[1024];

	vsnprintf(words, sizeof(words), format, args);
	if (refuse)
		log_error("%s:%zu:%zu: %s", f->name, mark.line + 1, mark.column + 1, words);
	else
		log_warn("%s:%zu:%zu: %s", f->name, mark.line + 1, mark.column + 1, words);
}

__attribute__((format(printf, 3, 4))) static void
refuse(struct translation *f, const yaml_node_t *node, const char *format, ...)
{
	va_list args;

	if (f->status)
		return; /* the first is what matters */
	f->status = 2;
	va_start(args, format);
	say(f, node, true, format, args);
	va_end(args);
}

__attribute__((format(printf, 3, 4))) static void
warn(const struct translation *f, const yaml_node_t *node, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(f, node, false, format, args);
	va_end(args);
}

static const yaml_node_t *node_of(const struct translation *f, int index)
{
	return yaml_document_get_node(f->document, index);
}

static const char *word_of(const yaml_node_t *node)
{
	return node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "";
}

static bool is_null(const yaml_node_t *node)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };

	if (!node || node->type != YAML_SCALAR_NODE ||
	    node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return !node;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(word_of(node), words[i]))
			return true;
	return false;
}

static int key_find(const char *path)
{
	for (int k = 0; k < KEYS_NR; k++)
		if (!strcmp(keys[k].path, path))
			return k;
	return -1;
}

static void key_take(struct translation *f, const yaml_node_t *key, const yaml_node_t *value,
		     const char *path)
{
	static const yaml_node_type_t types[] = {
		[SECTION] = YAML_MAPPING_NODE,
		[ANY] = YAML_MAPPING_NODE,
		[VALUE] = YAML_SCALAR_NODE,
		[LIST] = YAML_SEQUENCE_NODE,
	};
	int k = key_find(path);

	if (k < 0) {
		warn(f, key, "%s: no key that flowd-go reads; passed over, as it does", path);
	} else if (keys[k].kind == MOOT) {
		warn(f, key, "%s: means nothing here: %s", path, keys[k].words);
	} else if (is_null(value)) {
		if (keys[k].kind == SECTION)
			warn(f, key, "%s: empty, and so off; write {} to have it", path);
	} else if (value->type != types[keys[k].kind]) {
		refuse(f, value, "%s: not %s", path,
		       keys[k].kind == LIST    ? "a list"
		       : keys[k].kind == VALUE ? "a single value"
					       : "a section of keys");
	} else if (f->at[k]) {
		refuse(f, key, "%s: this key was there already", path);
	} else {
		f->at[k] = value;
	}
}

/* As deep as flowd-go's keys are, whatever the file holds. */
static void section_read(struct translation *f, const yaml_node_t *node, const char *above)
{
	char path[128];

	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top && !f->status; pair++) {
		const yaml_node_t *key = node_of(f, pair->key);
		const char *word = word_of(key);
		int k;

		if (!*word || strlen(word) > 64) {
			warn(f, key, "%s: no key that flowd-go reads; passed over, as it does",
			     *above ? above : "the file");
			continue;
		}
		snprintf(path, sizeof(path), "%s%s%s", above, *above ? "." : "", word);
		key_take(f, key, node_of(f, pair->value), path);
		k = key_find(path);
		if (k >= 0 && keys[k].kind == SECTION && f->at[k] && !f->status)
			section_read(f, f->at[k], path);
	}
}

/* ---- values ------------------------------------------------------------------------------- */

static const char *text_of(const struct translation *f, enum key k, const char *usual)
{
	return f->at[k] ? word_of(f->at[k]) : usual;
}

static unsigned number_of(struct translation *f, enum key k, unsigned usual, unsigned most)
{
	__u64 value = usual;

	if (f->at[k] && number_parse(word_of(f->at[k]), most, &value))
		refuse(f, f->at[k], "%s: not a number from 0 to %u", keys[k].path, most);
	return value;
}

static bool yes(struct translation *f, enum key k, bool usual)
{
	const char *word = text_of(f, k, usual ? "true" : "false");

	if (!strcasecmp(word, "true"))
		return true;
	if (strcasecmp(word, "false"))
		refuse(f, f->at[k], "%s: neither true nor false", keys[k].path);
	return false;
}

/* ADDRESS:PORT, with brackets where they belong; names stay names, but for this host's. */
static void end_of(struct translation *f, enum key k, const char *address, unsigned port,
		   char end[512])
{
	struct in6_addr any;

	if (!strcmp(address, "localhost"))
		address = "127.0.0.1";
	if (strlen(address) > 255) {
		refuse(f, f->at[k], "%s: too long", keys[k].path);
		*end = 0;
		return;
	}
	snprintf(end, 512, inet_pton(AF_INET6, address, &any) == 1 ? "[%s]:%u" : "%s:%u", address,
		 port);
}

static void put(struct translation *f, const char *words)
{
	text_add_str(f->out, words);
}

/* In quotes, which YAML reads as JSON does. */
static void put_text(struct translation *f, const char *words)
{
	text_add_json(f->out, words, strlen(words));
}

/* ---- plugins ------------------------------------------------------------------------------ */

static void pipe_put(struct translation *f)
{
	const char *path = text_of(f, PIPE_PATH, "np");
	char whole[2 * PATH_MAX], here[PATH_MAX] = "";

	if (*path != '/' && !getcwd(here, sizeof(here)))
		refuse(f, f->at[PIPE_PATH], "%s: not an absolute path", path);
	if (strlen(path) >= PATH_MAX)
		refuse(f, f->at[PIPE_PATH], "too long for a path");
	snprintf(whole, sizeof(whole), "%s%s%.*s", here, *here ? "/" : "", PATH_MAX, path);
	put(f, "  pipes: [{path: ");
	put_text(f, whole);
	put(f, ", anybody: true}]\n");
}

/* A list of sections, each an `address` and a `port`. */
static void relay_put(struct translation *f)
{
	const yaml_node_t *list = f->at[IN_RELAY], *to;
	const char *comma = "", *key, *address;
	char end[512];
	__u64 port;

	put(f, "  relay: [");
	for (yaml_node_item_t *at = list->data.sequence.items.start;
	     at < list->data.sequence.items.top && !f->status; at++, comma = ", ") {
		to = node_of(f, *at);
		address = "";
		port = 0;
		for (yaml_node_pair_t *pair =
			     to->type == YAML_MAPPING_NODE ? to->data.mapping.pairs.start : NULL;
		     pair && pair < to->data.mapping.pairs.top; pair++) {
			key = word_of(node_of(f, pair->key));
			if (!strcmp(key, "address"))
				address = word_of(node_of(f, pair->value));
			else if (!strcmp(key, "port") &&
				 number_parse(word_of(node_of(f, pair->value)), 65535, &port))
				port = 0;
		}
		if (!*address || !port)
			refuse(f, to, "%s: not an address and a port", keys[IN_RELAY].path);
		end_of(f, IN_RELAY, address, port, end);
		put(f, comma);
		put_text(f, end);
	}
	put(f, "]\n");
}

static void receive_put(struct translation *f)
{
	char end[512];

	end_of(f, IN_ADDRESS, text_of(f, IN_ADDRESS, "127.0.0.1"),
	       number_of(f, IN_PORT, 10514, 65535), end);
	put(f, "  receive: [");
	put_text(f, end);
	put(f, "]\n");
	if (f->at[IN_RELAY])
		relay_put(f);
}

static void ports_put(struct translation *f, const char *key, enum key low_key, enum key high_key)
{
	unsigned low = number_of(f, low_key, 0, 65535), high = number_of(f, high_key, 0, 65535);
	char words[64];

	if (!low && !high)
		return;
	if (high && low > high)
		refuse(f, f->at[low_key], "%s: %u is above %s", keys[low_key].path, low,
		       keys[high_key].path);
	snprintf(words, sizeof(words), ", %s: ':%u-%u'", key, low ? low : 1, high ? high : 65535);
	put(f, words);
}

static unsigned ids_read(struct translation *f, enum key k, unsigned most,
			 unsigned ids[RULE_IDS_MAX])
{
	static const unsigned usual[] = { 0, 1, 2 };
	const yaml_node_t *list = f->at[k], *item;
	unsigned n = 0;
	__u64 id;

	if (!list) {
		memcpy(ids, usual, sizeof(usual));
		return 3;
	}
	for (yaml_node_item_t *at = list->data.sequence.items.start;
	     at < list->data.sequence.items.top && !f->status; at++) {
		item = node_of(f, *at);
		if (n == RULE_IDS_MAX)
			refuse(f, item, "%s: more than %u", keys[k].path, RULE_IDS_MAX);
		else if (number_parse(word_of(item), most, &id))
			refuse(f, item, "%s: %.20s: not a number from 0 to %u", keys[k].path,
			       word_of(item), most);
		else
			ids[n++] = id;
	}
	if (!n)
		refuse(f, list, "%s: none in it", keys[k].path);
	return n;
}

static void iperf_put(struct translation *f)
{
	const char *cgroup = text_of(f, IPERF_CGROUP, "/sys/fs/cgroup");
	unsigned experiments[RULE_IDS_MAX], activities[RULE_IDS_MAX], n, m;
	char words[64];

	n = ids_read(f, IPERF_EXPERIMENTS, MARK_EXPERIMENT_MAX, experiments);
	m = ids_read(f, IPERF_ACTIVITIES, MARK_ACTIVITY_MAX, activities);
	if (n != m)
		refuse(f, f->at[IPERF_ACTIVITIES] ? f->at[IPERF_ACTIVITIES] : f->at[IPERF],
		       "plugins.iperf3: %u experiments and %u activities; as many of each are "
		       "needed",
		       n, m);
	put(f, "    - {proto: tcp");
	ports_put(f, "src", IPERF_SRC_LOW, IPERF_SRC_HIGH);
	ports_put(f, "dst", IPERF_DST_LOW, IPERF_DST_HIGH);
	if (strcmp(cgroup, "/sys/fs/cgroup")) {
		put(f, ", cgroup: ");
		put_text(f, cgroup);
	}
	put(f, yes(f, IPERF_RANDOM, false) ? ", pick: random" : "");
	for (unsigned i = 0; i < n && !f->status; i++) {
		snprintf(words, sizeof(words), "%s%u/%u", i ? ", " : ", ids: [", experiments[i],
			 activities[i]);
		put(f, words);
	}
	put(f, "]}\n");
}

static void perfsonar_put(struct translation *f)
{
	char words[96];

	snprintf(words, sizeof(words), "    - {experiment: %u, activity: %u}\n",
		 number_of(f, PERFSONAR_EXPERIMENT, 0, MARK_EXPERIMENT_MAX),
		 number_of(f, PERFSONAR_ACTIVITY, 0, MARK_ACTIVITY_MAX));
	put(f, words);
}

/* ---- backends ----------------------------------------------------------------------------- */

static void marker_put(struct translation *f)
{
	static const char *const names[] = { "label", "hopByHop", "destination",
					     "hopByHopDestination" };
	static const char *const ours[] = { "label", "hop-by-hop", "destination",
					    "hop-by-hop+destination" };
	const char *how = text_of(f, MARKER_HOW, "label");
	size_t i = 0;

	if (yes(f, MARKER_ALL, false) && !f->at[PERFSONAR])
		warn(f, f->at[MARKER_ALL],
		     "backends.marker.matchAll: with what? plugins.perfsonar says that, and is off");
	while (i < 4 && strcasecmp(how, names[i]))
		i++;
	if (i == 4) {
		refuse(f, f->at[MARKER_HOW],
		       "%.40s: not a strategy; label, hopByHop, destination or "
		       "hopByHopDestination",
		       how);
		return;
	}
	put(f, "  how: ");
	put(f, ours[i]);
	put(f, "\n");
}

static void address_put(struct translation *f)
{
	static const char *const usual[] = {
		"stun.l.google.com:3478",  "stun1.l.google.com:3478", "stun2.l.google.com:3478",
		"stun3.l.google.com:3478", "stun4.l.google.com:3478",
	};
	const yaml_node_t *map = f->at[STUN_MAP], *list = f->at[STUN_SERVERS];
	const char *comma = "";
	char pair[256];

	put(f, "    address:\n      map: [");
	for (yaml_node_pair_t *at = map ? map->data.mapping.pairs.start : NULL;
	     map && at < map->data.mapping.pairs.top; at++, comma = ", ") {
		snprintf(pair, sizeof(pair), "%s=%s", word_of(node_of(f, at->key)),
			 word_of(node_of(f, at->value)));
		put(f, comma);
		put_text(f, pair);
	}
	put(f, "]\n");
	if (yes(f, STUN_STUN, true)) {
		put(f, "      stun: [");
		comma = "";
		for (size_t i = 0; !list && i < sizeof(usual) / sizeof(usual[0]); i++) {
			put(f, i ? ", " : "");
			put_text(f, usual[i]);
		}
		for (yaml_node_item_t *at = list ? list->data.sequence.items.start : NULL;
		     list && at < list->data.sequence.items.top; at++, comma = ", ") {
			put(f, comma);
			put_text(f, word_of(node_of(f, *at)));
		}
		put(f, "]\n");
	}
	if (yes(f, STUN_HTTP, false))
		put(f, "      http: [\"http://api64.ipify.org/\", \"http://ipconfig.io/ip\"]\n");
}

static void fireflies_put(struct translation *f)
{
	const char *form = text_of(f, OUT_FORM, "lean");
	bool enriched = f->at[NETLINK] || f->at[SKOPS], ongoing = yes(f, OUT_ENRICH, false);
	char words[64], end[512];

	put(f, "  fireflies:\n");
	snprintf(words, sizeof(words), "    port: %u\n", number_of(f, OUT_PORT, 10514, 65535));
	put(f, words);
	put(f, yes(f, OUT_HEADER, true) ? "" : "    header: false\n");
	if (yes(f, OUT_COLLECT, false)) {
		end_of(f, OUT_COLLECTOR, text_of(f, OUT_COLLECTOR, "127.0.0.1"),
		       number_of(f, OUT_COLLECTOR_PORT, 10514, 65535), end);
		put(f, "    collectors: [");
		put_text(f, end);
		put(f, "]\n");
	}
	if (ongoing && !enriched)
		warn(f, f->at[OUT_ENRICH],
		     "backends.firefly.enrich: there are no enrichers, so "
		     "that flowd-go sends none while a flow lives");
	put(f, ongoing && enriched ? "    ongoing: true\n" : "    ongoing: false\n");
	if (strcmp(form, "lean") && strcmp(form, "compatible") && *form)
		refuse(f, f->at[OUT_FORM], "%.40s: not a mode; lean, compatible or \"\"", form);
	put(f, !*form		       ? "    form: full\n"
	       : !strcmp(form, "lean") ? "    form: lean\n"
				       : "    form: compatible\n");
	if (f->at[STUN])
		address_put(f);
}

/* ---- where to answer ---------------------------------------------------------------------- */

static bool is_local(const char *address)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (!strcmp(address, "localhost"))
		return true;
	if (inet_pton(AF_INET6, address, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return inet_pton(AF_INET, address, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Which sockets flowd-go would have: the plugin's, and one for each enricher's metrics. */
static void listen_put(struct translation *f)
{
	static const struct {
		enum key section, address, port;
		unsigned usual;
	} all[] = {
		{ API, API_ADDRESS, API_PORT, 7777 },
		{ METRICS, METRICS_ADDRESS, METRICS_NETLINK, 8080 },
		{ METRICS, METRICS_ADDRESS, METRICS_SKOPS, 8081 },
	};
	char ends[3][512] = { "" };
	unsigned n = 0;

	for (unsigned i = 0; i < 3; i++) {
		const char *address = text_of(f, all[i].address, "127.0.0.1");
		unsigned port = number_of(f, all[i].port, all[i].usual, 65535);

		if (!f->at[all[i].section] || !port)
			continue;
		if (!f->token && !is_local(*address ? address : "0.0.0.0"))
			refuse(f, f->at[all[i].address],
			       "%s: %.60s: anybody could ask; give --token FILE, and its first "
			       "line to who may, or bind to 127.0.0.1",
			       keys[all[i].address].path, address);
		end_of(f, all[i].address, *address ? address : "0.0.0.0", port, ends[n]);
		for (unsigned k = 0; k < n; k++)
			if (!strcmp(ends[k], ends[n]))
				*ends[n] = 0;
		n += *ends[n] != 0;
	}
	for (unsigned i = 0; i < n; i++) {
		put(f, i ? ", " : "api:\n  listen: [");
		put_text(f, ends[i]);
	}
	put(f, n ? "]\n" : "");
	if (n && f->token) {
		put(f, "  token: ");
		put_text(f, f->token);
		put(f, "\n");
	}
	put(f, f->at[METRICS] ? "" : "metrics: {off: true}\n");
}

static void period_put(struct translation *f)
{
	unsigned ms = number_of(f, ENRICH_PERIOD, 1000, 86400000);
	char words[64];

	if (ms < 100) {
		warn(f, f->at[ENRICH_PERIOD], "enrichers.period: %u ms: taken for 100", ms);
		ms = 100;
	}
	snprintf(words, sizeof(words), "  period: %ums\n", ms);
	put(f, words);
}

static void translate(struct translation *f)
{
	put(f, "# What a configuration of flowd-go comes to.\nnodes: [host]\n");
	listen_put(f);
	if (!f->at[PLUGINS] && !f->at[BACKENDS]) {
		warn(f, node_of(f, 1), "neither plugins nor backends: no flow will be marked");
		return;
	}
	put(f, "mark:\n  flows: marked\n");
	if (f->at[ENRICH])
		period_put(f);
	if (f->at[MARKER])
		marker_put(f);
	else
		put(f, "  packets: false\n");
	if (f->at[OUT])
		fireflies_put(f);
	if (f->at[PIPE])
		pipe_put(f);
	if (f->at[IN])
		receive_put(f);
	put(f, f->at[IPERF] || f->at[PERFSONAR] ? "  rules:\n" : "");
	if (f->at[IPERF])
		iperf_put(f);
	if (f->at[PERFSONAR])
		perfsonar_put(f);
}

int flowdgo_translate(const char *name, const char *yaml, size_t len, const char *token,
		      struct text *out)
{
	struct translation f = { .name = name, .token = token, .out = out };
	const yaml_node_t *root;
	yaml_document_t document;
	yaml_parser_t parser;

	if (!yaml_parser_initialize(&parser)) {
		log_error("%s: out of memory", name);
		return 1;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, len);
	if (!yaml_parser_load(&parser, &document)) {
		log_error("%s:%zu:%zu: %s", name, parser.problem_mark.line + 1,
			  parser.problem_mark.column + 1,
			  parser.problem ? parser.problem : "not YAML");
		yaml_parser_delete(&parser);
		return 2;
	}
	yaml_parser_delete(&parser);
	f.document = &document;
	root = node_of(&f, 1);
	if (root && root->type == YAML_MAPPING_NODE)
		section_read(&f, root, "");
	else if (!is_null(root))
		refuse(&f, root, "not a configuration of flowd-go: no keys");
	if (!f.status)
		translate(&f);
	yaml_document_delete(&document);
	return f.status ? f.status : out->err ? 1 : 0;
}
