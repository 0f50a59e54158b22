// SPDX-License-Identifier: GPL-2.0-only
/* Compose projects, labels and pods: which containers are meant, and what a namespace is called. */
#define _GNU_SOURCE
#include <jansson.h>
#include <string.h>

#include "../user/container.h"
#include "../user/group.h"
#include "../user/runtime.h"
#include "tap.h"

#define ID "4f2a00000000000000000000000000000000000000000000000000000000beef"
#define DOCKER(labels)                                                                      \
	"{\"ID\":\"" ID "\",\"Name\":\"/shop_web_1\",\"Config\":{\"Labels\":{" labels "}}," \
	"\"HostConfig\":{\"NetworkMode\":\"bridge\"},\"State\":{\"Running\":true,\"Pid\":814}}"
#define COMPOSE                                                                           \
	"\"com.docker.compose.project\":\"shop\",\"com.docker.compose.service\":\"web\"," \
	"\"com.docker.compose.container-number\":\"1\",\"tier\":\"front=end\",\"empty\":\"\""
#define KUBERNETES                                                                       \
	"\"io.kubernetes.pod.name\":\"web-0\",\"io.kubernetes.pod.namespace\":\"shop\"," \
	"\"io.kubernetes.docker.type\":\"podsandbox\""

static const char compose[] = DOCKER(COMPOSE);
static const char kubernetes[] = DOCKER(KUBERNETES);
static const char swarm[] = DOCKER("\"com.docker.stack.namespace\":\"shop\","
				   "\"com.docker.swarm.service.name\":\"shop_db\"");
static const char once[] = DOCKER(COMPOSE ",\"com.docker.compose.oneoff\":\"True\"");
static const char guest[] = "{\"ID\":\"" ID "\",\"HostConfig\":{\"NetworkMode\":\"container:x\"}}";
static const char podman[] =
	"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n[{\"Id\":\"other\"},{\"Id\":\"" ID
	"\",\"Labels\":{\"team\":\"blue\"},\"PodName\":\"kitchen\",\"IsInfra\":true}]";
static const char crio[] = "{\"hostname\":\"kitchen\",\"annotations\":{"
			   "\"io.kubernetes.pod.name\":\"web-0\","
			   "\"io.kubernetes.pod.namespace\":\"shop\","
			   "\"io.kubernetes.container.name\":\"nginx\","
			   "\"io.kubernetes.cri-o.ContainerType\":\"container\","
			   "\"io.kubernetes.cri-o.SandboxID\":\"beef\",\"app\":\"web\"}}";

static void has(enum group_kind kind, const char *what, const struct container *c)
{
	ok(group_has(kind, what, c), "%s is meant by %s", c->name, what);
}

static void lacks(enum group_kind kind, const char *what, const struct container *c)
{
	ok(!group_has(kind, what, c), "%s is not meant by %s", c->name, what);
}

static void test_compose(void)
{
	struct container c;

	container_parse_docker(compose, sizeof(compose) - 1, &c);
	has(GROUP_COMPOSE, "shop", &c);
	has(GROUP_COMPOSE, "shop/web", &c);
	lacks(GROUP_COMPOSE, "sho", &c);
	lacks(GROUP_COMPOSE, "shop2", &c);
	lacks(GROUP_COMPOSE, "shop/we", &c);
	lacks(GROUP_COMPOSE, "shop/db", &c);
	lacks(GROUP_POD, "shop", &c);
	ok(c.number == 1 && !c.guest, "it is the first of its service, with a network of its own");
	has(GROUP_LABEL, "tier", &c);
	has(GROUP_LABEL, "tier=front=end", &c);
	has(GROUP_LABEL, "empty", &c);
	has(GROUP_LABEL, "empty=", &c);
	lacks(GROUP_LABEL, "tier=front", &c);
	lacks(GROUP_LABEL, "tier=", &c);
	lacks(GROUP_LABEL, "tie", &c);
	container_free(&c);
	container_parse_docker(once, sizeof(once) - 1, &c);
	has(GROUP_COMPOSE, "shop/web", &c);
	ok(!c.number, "one of `compose run` is none of the service's own");
	container_free(&c);
	container_parse_docker(swarm, sizeof(swarm) - 1, &c);
	has(GROUP_COMPOSE, "shop/db", &c);
	container_free(&c);
	container_parse_docker(guest, sizeof(guest) - 1, &c);
	ok(c.guest, "network_mode: service:x makes a guest of a container");
	lacks(GROUP_LABEL, "tier", &c);
	container_free(&c);
}

static void test_pod(void)
{
	struct container c;
	json_t *list;

	container_parse_docker(kubernetes, sizeof(kubernetes) - 1, &c);
	has(GROUP_POD, "web-0", &c);
	has(GROUP_POD, "shop/web-0", &c);
	lacks(GROUP_POD, "web", &c);
	lacks(GROUP_POD, "other/web-0", &c);
	lacks(GROUP_POD, "op/web-0", &c);
	ok(c.pause, "docker's container that holds a pod's namespaces is known for it");
	container_free(&c);
	container_parse_oci(crio, sizeof(crio) - 1, &c);
	ok(!strcmp(c.pod, "shop/web-0") && !strcmp(c.name, "nginx") && !c.pause &&
		   !strcmp(c.sandbox, "beef") && !strcmp(c.host, "kitchen"),
	   "CRI-O's container is known by its pod, its name and its sandbox");
	has(GROUP_LABEL, "app=web", &c);
	has(GROUP_LABEL, "io.kubernetes.container.name=nginx", &c);
	container_free(&c);
	c = (struct container){ .id = ID, .name = "podman" };
	list = container_parse_podman(podman, sizeof(podman) - 1);
	ok(list != NULL, "what podman's service answers is read");
	container_take_podman(&c, list);
	has(GROUP_LABEL, "team=blue", &c);
	ok(!strcmp(c.pod, "kitchen") && c.pause, "it names the pod, and what holds it");
	container_free(&c);
	json_decref(list);
	ok(!container_parse_podman("HTTP/1.0 500 no\r\n\r\n[]", 21), "an error is no list");
	ok(!container_parse_podman("HTTP/1.0 200 OK\r\n[]", 19), "nor is half a head");
	ok(!container_parse_podman("HTTP/1.0 200 OK\r\n\r\n{}", 21), "nor an object");
}

static void test_names(void)
{
	const struct container pod = { .pod = "shop/web", .name = "nginx", .pid = 30 };
	const struct container first = { .name = "web", .pid = 10 };
	const struct container second = { .name = "sidecar", .pid = 20 };
	const struct container joined = { .name = "joined", .guest = true, .pid = 5 };
	const struct container nameless = { .id = ID, .pid = 1 };
	char label[64];

	ok(container_speaks_before(&pod, &first), "a pod's namespace is called by the pod");
	ok(container_speaks_before(&first, &second), "of equals, by whose was there first");
	ok(!container_speaks_before(&second, &first), "and not by the other");
	ok(container_speaks_before(&second, &joined), "by its owner rather than by a guest");
	ok(container_speaks_before(&joined, &nameless), "by a guest rather than by a number");
	container_label(&pod, label, sizeof(label));
	ok(!strcmp(label, "shop/web"), "the name is that of the pod: %s", label);
}

static void refused(enum group_kind kind, const char *what, const char *remedy)
{
	const char *words = group_refuse(kind, what);

	ok(words && strstr(words, remedy), "refused: %s: %s", what, words ? words : "nothing");
}

static void test_refusals(void)
{
	refused(GROUP_COMPOSE, "shop/", "PROJECT/SERVICE");
	refused(GROUP_COMPOSE, "/web", "PROJECT/SERVICE");
	refused(GROUP_COMPOSE, "a/b/c", "PROJECT/SERVICE");
	refused(GROUP_LABEL, "=x", "KEY=VALUE");
	refused(GROUP_POD, "shop/", "NAMESPACE/NAME");
	refused(GROUP_POD, "a/b/c", "NAMESPACE/NAME");
	ok(!group_refuse(GROUP_LABEL, "example.org/team=a/b"), "a label may have a path for a key");
}

int main(void)
{
	test_compose();
	test_pod();
	test_names();
	test_refusals();
	return done();
}
