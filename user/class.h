/* SPDX-License-Identifier: GPL-2.0-only */
/* Classes of recording as a user gives them, and as the kernel has them. */
#ifndef TIDEMARK_CLASS_H
#define TIDEMARK_CLASS_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/record.h"
#include "tidemark.h"

#define CLASS_MEM_DEFAULT (64ULL << 20)

struct class_spec {
	char name[CLASS_NAME_MAX];
	char *filter;	   /* an expression, NULL: everything */
	__u64 cutoff;	   /* CLASS_WHOLE: none */
	__u64 mem_bytes;   /* most that waits for the disk */
	__u64 disk_bytes;  /* 0: no limit */
	__u64 file_bytes;  /* 0: the default */
	__u64 age_ns;	   /* 0: for ever */
	__u64 flow_bytes;  /* of flow records; 0: the default */
	__u32 snap;	   /* UINT32_MAX: whole packets */
	__u32 sample;	   /* 0: none */
	bool sample_flows; /* rather than packets */
	bool cutoff_given; /* or else --cutoff's */
	__u64 precedence;  /* the highest is asked first; of two, the one given first */
	struct filter_op ops[FILTER_OPS_MAX];
	__u32 ops_n;
};

/* Starts as {}. */
struct class_list {
	struct class_spec at[CLASSES];
	size_t n;
	__u32 *only; /* ids of nodes; the classes are theirs alone. NULL: everybody's. Borrowed */
	size_t only_n;
	bool wait; /* for nodes that a filter names and that are not there yet */
};

/* `NAME:key=value,...`, or one key and value of it. -EINVAL, and `words` says why. */
int class_parse(struct class_list *list, const char *text, char *words, size_t size);
int class_set(struct class_spec *spec, const char *key, const char *value, char *words,
	      size_t size);

/* What is true of a class that nothing was said of; the name must be set. */
void class_defaults(struct class_spec *spec);

/*
 * When all have been given: cutoffs that were left out, the class `all` if there is none,
 * order by precedence, filters compiled. Names of nodes are those of `t`, which may be
 * NULL. Can be called again when nodes have come. -EINVAL, said.
 */
int class_finish(struct class_list *list, __u64 cutoff, const struct tidemark *t);

/* Again, for nodes may have come: 1 if a filter is another now. */
int class_compile(struct class_list *list, const struct tidemark *t);

void class_free(struct class_list *list);

/*
 * Tell the kernel: each class keeps the slot it has there by name, or gets a free one,
 * `slots` says which; flows are asked again. `wake` is the fill level at which a reader is
 * woken. -errno.
 */
int class_publish(const struct tidemark *t, const struct class_list *list, __u32 wake,
		  __u32 slots[CLASSES]);

/* The name of a slot, or -ENOENT. */
int class_name(const struct tidemark *t, __u32 slot, char name[CLASS_NAME_MAX]);
int class_slot(const struct tidemark *t, const char *name, __u32 *slot);

/* Another generation of classes: every flow is asked again. Also begins to record. */
void class_generation(const struct tidemark *t);

#endif
