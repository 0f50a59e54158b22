/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps of a datapath, made before its programs are loaded. */
#ifndef TIDEMARK_MAPS_H
#define TIDEMARK_MAPS_H

#include "tidemark.h"

struct bpf_object;

/*
 * Makes the datapath's maps as an object that is not loaded yet has them, and gives them to it.
 * libbpf would do so too, but one after the other, and then load one program after the other:
 * so two objects can be loaded at once, and the largest map is made beside the others. A map
 * that the object has already keeps its descriptor in `map`, the others get theirs: what is
 * there is the caller's to close. -errno, and what was made stays in `map`.
 */
int maps_make(struct bpf_object *object, int map[MAPS_NR]);

/* Gives an object that is not loaded yet the maps of a datapath. -errno. */
int maps_give(struct bpf_object *object, const int map[MAPS_NR]);

#endif
