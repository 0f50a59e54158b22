// SPDX-License-Identifier: GPL-2.0-only
/* The tree that libelf 0.192's static archive calls but leaves out; linked only where it is missing. */

#define _GNU_SOURCE
#include <search.h>
#include <stddef.h>

/*
 * Debian 13's libelf.a needs these four from elfutils' internal libeu.a, which no package ships.
 * libelf keeps a tree of raw chunks per file with them, which libbpf never fills. Their first
 * member is the root; we need no lock, because an Elf handle stays with the thread that opened it.
 * Delete this file when no supported distribution has that archive.
 */
struct search_tree {
	void *root;
};

typedef int (*compare_fn)(const void *a, const void *b);

void eu_search_tree_init(struct search_tree *tree);
void eu_search_tree_fini(struct search_tree *tree, void (*free_node)(void *node));
void *eu_tsearch(const void *key, struct search_tree *tree, compare_fn compare);
void *eu_tfind(const void *key, struct search_tree *tree, compare_fn compare);
void *eu_tdelete(const void *key, struct search_tree *tree, compare_fn compare);

void eu_search_tree_init(struct search_tree *tree)
{
	tree->root = NULL;
}

void eu_search_tree_fini(struct search_tree *tree, void (*free_node)(void *node))
{
	tdestroy(tree->root, free_node);
	tree->root = NULL;
}

void *eu_tsearch(const void *key, struct search_tree *tree, compare_fn compare)
{
	return tsearch(key, &tree->root, compare);
}

void *eu_tfind(const void *key, struct search_tree *tree, compare_fn compare)
{
	return tfind(key, &tree->root, compare);
}

void *eu_tdelete(const void *key, struct search_tree *tree, compare_fn compare)
{
	return tdelete(key, &tree->root, compare);
}
