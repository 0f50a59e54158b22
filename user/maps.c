// SPDX-License-Identifier: GPL-2.0-only
/* The maps of a datapath, made before its programs are loaded. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "aside.h"
#include "maps.h"
#include "rings.h"

struct maker {
	const struct bpf_map *map;
	int btf;
	int fd;
};

/* Key and value are described where the kernel takes a description: no map of maps does. */
static int map_make(void *arg)
{
	struct maker *m = arg;
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = bpf_map__map_flags(m->map),
		    .map_extra = bpf_map__map_extra(m->map), .btf_fd = m->btf,
		    .btf_key_type_id = bpf_map__btf_key_type_id(m->map),
		    .btf_value_type_id = bpf_map__btf_value_type_id(m->map));

	if (bpf_map__type(m->map) == BPF_MAP_TYPE_ARRAY_OF_MAPS) {
		m->fd = rings_holder(bpf_map__name(m->map), bpf_map__max_entries(m->map));
		return m->fd < 0 ? m->fd : 0;
	}
	m->fd = bpf_map_create(bpf_map__type(m->map), bpf_map__name(m->map),
			       bpf_map__key_size(m->map), bpf_map__value_size(m->map),
			       bpf_map__max_entries(m->map), &opts);
	return m->fd < 0 ? -errno : 0;
}

/* What has to be allocated and linked into lists before anybody asks. */
static size_t map_weight(const struct bpf_map *map)
{
	if (bpf_map__map_flags(map) & BPF_F_NO_PREALLOC)
		return 0;
	return (size_t)bpf_map__max_entries(map) *
	       (bpf_map__key_size(map) + bpf_map__value_size(map));
}

static int maps_make_all(struct bpf_object *object, int btf, int map[MAPS_NR])
{
	struct maker makers[MAPS_NR] = {};
	struct aside aside;
	int err = 0, err2, heaviest = -1;

	for (int i = 0; i < MAPS_NR; i++) {
		makers[i] = (struct maker){ bpf_object__find_map_by_name(object, map_names[i]), btf,
					    map[i] };
		if (!makers[i].map)
			return -ENOENT;
		if (map[i] < 0 &&
		    (heaviest < 0 || map_weight(makers[i].map) > map_weight(makers[heaviest].map)))
			heaviest = i;
	}
	if (heaviest < 0)
		return 0;
	aside_start(&aside, map_make, &makers[heaviest]);
	for (int i = 0; i < MAPS_NR && !err; i++)
		if (map[i] < 0 && i != heaviest)
			err = map_make(&makers[i]);
	err2 = aside_join(&aside);
	for (int i = 0; i < MAPS_NR; i++)
		map[i] = makers[i].fd;
	return err ? err : err2;
}

int maps_make(struct bpf_object *object, int map[MAPS_NR])
{
	__u32 size;
	const void *types = btf__raw_data(bpf_object__btf(object), &size);
	int btf = types ? bpf_btf_load(types, size, NULL) : -ENOENT, err;

	if (btf < 0)
		return btf;
	err = maps_make_all(object, btf, map);
	close(btf);
	return err ? err : maps_give(object, map);
}

int maps_give(struct bpf_object *object, const int map[MAPS_NR])
{
	struct bpf_map *each;
	int err = 0;

	bpf_object__for_each_map(each, object)
		for (int i = 0; i < MAPS_NR && !err; i++)
			if (!strcmp(bpf_map__name(each), map_names[i]))
				err = bpf_map__reuse_fd(each, map[i]);
	return err;
}
