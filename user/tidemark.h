/* SPDX-License-Identifier: GPL-2.0-only */
/* One datapath: its pinned maps and programs, made new or found again. */
#ifndef TIDEMARK_TIDEMARK_H
#define TIDEMARK_TIDEMARK_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/clock.h"
#include "../bpf/node.h"

#define PIN_DIR "/sys/fs/bpf/tidemark"
#define STATE_DIR "/var/lib/tidemark"

/* The exit status when this kernel cannot (automake's "skip", so scripts can tell). */
#define EXIT_CANNOT 77

/* Every map of the datapath; each is pinned under its own name. */
#define MAPS(X)        \
	X(nodes)       \
	X(attachments) \
	X(settings)    \
	X(clocks)      \
	X(flows)       \
	X(embryonic)   \
	X(sends)       \
	X(fragments)   \
	X(events)      \
	X(counters)    \
	X(owners)      \
	X(namespaces)  \
	X(newcomers)   \
	X(pipelines)   \
	X(reports)     \
	X(marks)       \
	X(rules)       \
	X(rules_spare) \
	X(paths)       \
	X(heirs)       \
	X(peers)       \
	X(wires)       \
	X(skews)       \
	X(packets)     \
	X(classes)     \
	X(precedences) \
	X(assignments) \
	X(tallies)     \
	X(losses)      \
	X(retentions)  \
	X(bursts)

enum map {
#define X(name) MAP_##name,
	MAPS(X)
#undef X
		MAPS_NR
};

/* Sizes a user chooses; 0: the default. */
struct sizes {
	unsigned flows; /* entries */
	unsigned nodes;
	size_t ring_bytes; /* of events, per CPU */
	unsigned parts;	   /* not chosen, but known to be wanted: of the pipeline, see pipeline.h */
};

struct rings;
struct tidemark_bpf;

/*
 * An open datapath. Everything in it is owned by it and closed by tidemark_close(), which
 * takes nothing down: what is pinned goes on.
 */
struct tidemark {
	const char *pin_dir;
	const char *state_dir;
	int dir;    /* the pin directory */
	int lock;   /* held by who changes the datapath */
	bool reads; /* we hold the lock on it that makes us the reader of events */
	int map[MAPS_NR];
	int event_end, event_node, flow_tick; /* programs */
	int mark_touch;
	int bursts_end;
	unsigned cpus;	      /* with a ring of events each */
	struct rings *rings;  /* if we made the datapath */
	struct clock *clocks; /* mapped */
	unsigned clocks_n;
	struct settings *settings; /* mapped */
};

extern const char *const map_names[MAPS_NR];

/* All commands begin by saying where the datapath is. */
void tidemark_init(struct tidemark *t, const char *pin_dir, const char *state_dir);
void tidemark_close(struct tidemark *t);

/* Those that change it also keep others from doing so meanwhile; -errno, and said why. */
int tidemark_lock(struct tidemark *t);
void tidemark_unlock(struct tidemark *t);

/* -ENOENT if there is none; other errors have been said. */
int tidemark_open(struct tidemark *t);

/* Something that can be done while the kernel looks through programs, and needs no datapath. */
struct meanwhile {
	void (*fn)(void *ctx);
	void *ctx;
};

/* Load and pin a new one, without any node. Errors have been said; -EOPNOTSUPP: cannot here. */
int tidemark_create(struct tidemark *t, const struct sizes *sizes,
		    const struct meanwhile *meanwhile);

/*
 * Load one that nobody else sees: not pinned, attached to nothing, gone with the process.
 * For packets of files, `batch` at a time: *program runs them, *heads and *replayed are
 * the maps of record.h. Its clocks stand still. Errors have been said.
 */
int tidemark_private(struct tidemark *t, const struct sizes *sizes, unsigned batch, int *program,
		     int *heads, int *replayed);

/*
 * The programs that watch processes: newcomers, and owners of accepted sockets. Apart
 * from the packet programs because they read the kernel's own types, and reading the
 * kernel's type information takes longer than all the rest of the start. Without it (no
 * BTF) this returns an error, and Tidemark runs with less.
 */
int tidemark_watch_processes(struct tidemark *t);

/* The packet programs, not loaded yet; struct tidemark_bpf is the skeleton's. NULL: errno. */
struct tidemark_bpf *tidemark_object(void);

/* Undo tidemark_create(): unpin everything, close, wait until the kernel has let go. Nodes must
 * have been removed.
 */
int tidemark_destroy(struct tidemark *t);

/*
 * Become the reader of events, of which there is one. -EBUSY if there is another, and then
 * t->settings->reader is its pid.
 */
int tidemark_read_events(struct tidemark *t);

/*
 * An entry of a per-CPU map whose value is `size` bytes of 64-bit counts and nothing else,
 * all CPUs added up. -errno, and `sum` is zero.
 */
int tidemark_sum(const struct tidemark *t, enum map map, __u32 key, __u64 *sum, size_t size);

/* The kernel's tick, in which struct flow.last is. */
__u32 tidemark_tick(const struct tidemark *t);

/* What went wrong while something was made in the kernel, as an exit status. */
int exit_of(int err);

#endif
