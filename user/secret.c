// SPDX-License-Identifier: GPL-2.0-only
/* Files that only who has the key can read: keys, and bytes sealed block by block. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "bytes.h"
#include "log.h"
#include "secret.h"

#define KEYS_MOST 64

/* In memory that is not swapped, not dumped, and has guards around it. */
static struct {
	unsigned char (*at)[SECRET_KEY];
	char *files[KEYS_MOST]; /* what they were read from, as it was named */
	unsigned n;
	int writing; /* number + 1 */
} keys;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void hash(unsigned char *to, size_t size, const char *what, const void *salt,
		 size_t salt_bytes, const unsigned char *key)
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, key, SECRET_KEY, size);
	crypto_generichash_update(&state, (const unsigned char *)what, strlen(what));
	crypto_generichash_update(&state, salt, salt_bytes);
	crypto_generichash_final(&state, to, size);
	sodium_memzero(&state, sizeof(state));
}

static void key_name(unsigned char name[SECRET_NAME], const unsigned char *key)
{
	hash(name, SECRET_NAME, "tidemark: name of a key", NULL, 0, key);
}

/* ---- key files -------------------------------------------------------------------------------- */

/* Raw, or in hexadecimal with a newline or without: either kind of one. */
static int key_parse(const unsigned char *text, size_t size, unsigned char key[SECRET_KEY])
{
	const char *end;
	size_t bytes;

	if (size == SECRET_KEY) {
		memcpy(key, text, SECRET_KEY);
		return 0;
	}
	if (size > 2 * SECRET_KEY && text[size - 1] == '\n')
		size--;
	if (size > 2 * SECRET_KEY && text[size - 1] == '\r')
		size--;
	if (size != 2 * SECRET_KEY ||
	    sodium_hex2bin(key, SECRET_KEY, (const char *)text, size, NULL, &bytes, &end) ||
	    bytes != SECRET_KEY || end != (const char *)text + size)
		return -EINVAL;
	return 0;
}

static int key_read(const char *file, unsigned char key[SECRET_KEY])
{
	unsigned char text[2 * SECRET_KEY + 3]; /* so that more is seen */
	size_t size = 0;
	ssize_t got = 1;
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0 || fstat(fd, &st)) {
		err = -errno;
		log_error("%s: %s", file, strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	if (st.st_mode & (S_IRWXG | S_IRWXO)) {
		log_error("%s: others than its owner can get at this key; chmod 600 %s", file,
			  file);
		close(fd);
		return -EPERM;
	}
	while (size < sizeof(text) && got > 0) {
		got = read(fd, text + size, sizeof(text) - size);
		size += got > 0 ? (size_t)got : 0;
	}
	err = got < 0 ? -errno : key_parse(text, size, key);
	close(fd);
	sodium_memzero(text, sizeof(text));
	if (err == -EINVAL)
		log_error("%s: a key is %d bytes or %d hexadecimal digits, and nothing else; "
			  "head -c %d /dev/urandom makes one",
			  file, SECRET_KEY, 2 * SECRET_KEY, SECRET_KEY);
	else if (err)
		log_error("%s: %s", file, strerror(-err));
	return err;
}

/* A file is read once: it may be a pipe. */
static int key_known(const char *file)
{
	for (unsigned n = 0; n < keys.n; n++)
		if (keys.files[n] && !strcmp(keys.files[n], file))
			return (int)n;
	return -ENOENT;
}

/* Its number. */
static int key_add(const char *file, unsigned char key[SECRET_KEY])
{
	unsigned n = 0;

	if (!keys.at) {
		keys.at = sodium_malloc(KEYS_MOST * sizeof(*keys.at));
		if (!keys.at) {
			log_error("%s: %s", file, strerror(ENOMEM));
			return -ENOMEM;
		}
	}
	while (n < keys.n && sodium_memcmp(keys.at[n], key, SECRET_KEY))
		n++;
	if (n == KEYS_MOST) {
		log_error("%s: %d keys are the most; start anew with those still needed", file,
			  KEYS_MOST);
		return -E2BIG;
	}
	if (n < keys.n)
		return (int)n;
	memcpy(keys.at[n], key, SECRET_KEY);
	keys.files[n] = strdup(file);
	__atomic_store_n(&keys.n, n + 1, __ATOMIC_RELEASE);
	return (int)n;
}

static int key_take(const char *file)
{
	unsigned char key[SECRET_KEY];
	int number;

	if (sodium_init() < 0) {
		log_error("%s: no random numbers from this system", file);
		return -EIO;
	}
	pthread_mutex_lock(&mutex);
	number = key_known(file);
	if (number < 0) {
		number = key_read(file, key);
		if (!number)
			number = key_add(file, key);
		sodium_memzero(key, sizeof(key));
	}
	pthread_mutex_unlock(&mutex);
	return number;
}

int secret_read_with(const char *file)
{
	int number = key_take(file);

	return number < 0 ? number : 0;
}

int secret_write_with(const char *file)
{
	int number = file ? key_take(file) : -1;

	if (file && number < 0)
		return number;
	__atomic_store_n(&keys.writing, number + 1, __ATOMIC_RELEASE);
	return 0;
}

bool secret_writing(void)
{
	return __atomic_load_n(&keys.writing, __ATOMIC_ACQUIRE);
}

const char *secret_error(int err)
{
	if (err == -ENOKEY)
		return "encrypted; --key-file FILE with its key reads it";
	if (err == -EKEYREJECTED)
		return "not with this key; --key-file may be given more than once";
	if (err == -EPROTONOSUPPORT)
		return "encrypted by another version of tidemark";
	return strerror(-err);
}

/* ---- one file --------------------------------------------------------------------------------- */

/* Each file has a key of its own, so that the numbers of its blocks are nonces never used twice. */
static void file_key(struct secret *s, const unsigned char *key)
{
	hash(s->key, SECRET_KEY, "tidemark: key of a file", s->head + 8, SECRET_SALT, key);
}

int secret_make(struct secret *s)
{
	int writing = __atomic_load_n(&keys.writing, __ATOMIC_ACQUIRE);

	if (!writing)
		return -EIO;
	memcpy(s->head, SECRET_MAGIC, 8);
	randombytes_buf(s->head + 8, SECRET_SALT);
	key_name(s->head + 8 + SECRET_SALT, keys.at[writing - 1]);
	file_key(s, keys.at[writing - 1]);
	return 0;
}

bool secret_is(const void *head, size_t size)
{
	return size >= SECRET_HEAD && !memcmp(head, SECRET_MAGIC, 7);
}

int secret_find(struct secret *s, const void *head, size_t size)
{
	unsigned n = __atomic_load_n(&keys.n, __ATOMIC_ACQUIRE);
	unsigned char name[SECRET_NAME];

	if (!secret_is(head, size))
		return -EBADMSG;
	memcpy(s->head, head, SECRET_HEAD);
	if (s->head[7] != SECRET_MAGIC[7])
		return -EPROTONOSUPPORT;
	for (unsigned i = 0; i < n; i++) {
		key_name(name, keys.at[i]);
		if (memcmp(name, s->head + 8 + SECRET_SALT, SECRET_NAME))
			continue;
		file_key(s, keys.at[i]);
		return 0;
	}
	return n ? -EKEYREJECTED : -ENOKEY;
}

/* The table has nonces of its own: a file that is cut and ended again has another number of blocks. */
static void nonce_make(unsigned char nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES],
		       __u64 number, __u32 length)
{
	memset(nonce, 0, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
	put_u64(nonce, number);
	nonce[8] = !!(length & SECRET_TABLE);
}

/* What is not secret of it and must not be changed either: whose it is, and how long. */
static void about_make(unsigned char about[SECRET_HEAD + SECRET_LENGTH], const struct secret *s,
		       __u32 length)
{
	memcpy(about, s->head, SECRET_HEAD);
	put_u32(about + SECRET_HEAD, length);
}

void secret_seal(const struct secret *s, __u64 number, __u32 length, const void *plain,
		 unsigned char *to)
{
	unsigned char nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
	unsigned char about[SECRET_HEAD + SECRET_LENGTH];

	nonce_make(nonce, number, length);
	about_make(about, s, length);
	put_u32(to, length);
	crypto_aead_xchacha20poly1305_ietf_encrypt(to + SECRET_LENGTH, NULL, plain,
						   length & ~SECRET_TABLE, about, sizeof(about),
						   NULL, nonce, s->key);
}

int secret_unseal(const struct secret *s, __u64 number, const unsigned char *from, void *plain)
{
	unsigned char nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
	unsigned char about[SECRET_HEAD + SECRET_LENGTH];
	__u32 length = get_u32(from);

	nonce_make(nonce, number, length);
	about_make(about, s, length);
	return crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, from + SECRET_LENGTH,
							  (length & ~SECRET_TABLE) + SECRET_MORE -
								  SECRET_LENGTH,
							  about, sizeof(about), nonce, s->key)
		       ? -EBADMSG
		       : 0;
}

void secret_wipe(struct secret *s)
{
	sodium_memzero(s, sizeof(*s));
}
