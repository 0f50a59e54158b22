// SPDX-License-Identifier: GPL-2.0-only
/* Containers that conmon looks after: those of podman and CRI-O. */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "container.h"
#include "foreign.h"
#include "podman.h"

#define PODMAN_SOCKET "/run/podman/podman.sock"
/* Some 5 KiB a container: more than a host can run. */
#define ANSWER_MAX (16 << 20)
#define ANSWER_SECONDS 2

static int socket_open(void)
{
	const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = PODMAN_SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* HTTP/1.0: the answer ends where the connection does, in one piece. */
static char *socket_ask(int fd, size_t *len)
{
	static const char question[] = "GET /v4.0.0/libpod/containers/json HTTP/1.0\r\n"
				       "Host: podman\r\n\r\n";
	size_t size = 1 << 16;
	char *text = NULL, *more;
	ssize_t got;

	*len = 0;
	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) != sizeof(question) - 1)
		return NULL;
	do {
		if (!text || *len == size) {
			size = text ? 2 * size : size;
			more = size > ANSWER_MAX ? NULL : realloc(text, size);
			if (!more)
				break;
			text = more;
		}
		got = recv(fd, text + *len, size - *len, 0);
		if (got > 0)
			*len += got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (!text || size > ANSWER_MAX || got) {
		free(text);
		return NULL;
	}
	return text;
}

/* Its labels are in a database of its own; what it says of itself is the stable interface. */
static void podman_ask(struct podman *podman)
{
	char *text = NULL;
	size_t len;
	int fd;

	podman->asked = true;
	fd = socket_open();
	if (fd < 0)
		return;
	text = socket_ask(fd, &len);
	close(fd);
	if (text)
		podman->list = container_parse_podman(text, len);
	free(text);
}

static int config_parse(const char *dir, const char *id, struct container *out)
{
	char path[CONTAINER_PATH_MAX + CONTAINER_ID_MAX + 32], *text;
	size_t len;
	int err;

	if (id)
		snprintf(path, sizeof(path), "%s/../../%s/userdata/config.json", dir, id);
	else
		snprintf(path, sizeof(path), "%s/config.json", dir);
	text = foreign_load(path, CONTAINER_FILE_MAX, &len);
	if (!text)
		return -errno;
	err = container_parse_oci(text, len, out);
	free(text);
	return err;
}

/*
 * podman writes the name of a pod nowhere but in its database. But the container that holds the
 * pod's namespaces bears it as host name, unless told otherwise, and the others name that container.
 */
static void pod_find(struct container *found, const char *bundle)
{
	struct container sandbox;

	if (found->pod[0])
		return;
	if (found->sandbox[0]) {
		if (strchr(found->sandbox, '/') || config_parse(bundle, found->sandbox, &sandbox))
			return;
		strcpy(found->pod, sandbox.host);
		container_free(&sandbox);
	} else if (strspn(found->name, "0123456789abcdef") == 12 &&
		   !strcmp(found->name + 12, "-infra")) {
		found->pause = true;
		strcpy(found->pod, found->host);
	}
}

int podman_read(struct podman *podman, const char *cmdline, size_t len, container_fn fn, void *ctx)
{
	char pidfile[CONTAINER_PATH_MAX], bundle[CONTAINER_PATH_MAX];
	struct container told, found = {};
	int err;

	if (container_parse_conmon(cmdline, len, &told, pidfile, bundle))
		return 0;
	if (!*bundle || config_parse(bundle, NULL, &found))
		found = (struct container){};
	strcpy(found.id, told.id);
	if (!found.name[0])
		strcpy(found.name, told.name);
	if (foreign_pid(pidfile, &found.pid))
		found.pid = 0;
	if (podman->ask && !podman->asked)
		podman_ask(podman);
	container_take_podman(&found, podman->list);
	pod_find(&found, bundle);
	err = fn(&found, ctx);
	container_free(&found);
	return err;
}

void podman_forget(struct podman *podman)
{
	json_decref(podman->list);
	podman->list = NULL;
}
