// SPDX-License-Identifier: GPL-2.0-only
/* Stands in for libc's resolver, which a static binary cannot carry: libevent merely names it. */
#include <netdb.h>
#include <stddef.h>

/*
 * glibc loads its name services at run time, from a system of its own version; a static
 * binary runs elsewhere. Whatever is to be connected to goes through libevent's own evdns,
 * which reads numbers and asks for names, so that nothing below is ever called; but
 * libevent refers to it, and would link it in.
 */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **found)
{
	(void)node, (void)service, (void)hints;
	*found = NULL;
	return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *found)
{
	(void)found;
}

struct servent *getservbyname(const char *name, const char *protocol)
{
	(void)name, (void)protocol;
	return NULL;
}

struct protoent *getprotobynumber(int number)
{
	(void)number;
	return NULL;
}
