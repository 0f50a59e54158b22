// SPDX-License-Identifier: GPL-2.0-only
/* What mbedTLS would test itself with, 55 kB of it, if anybody called its self-test. */
#include <stddef.h>

extern const char mbedtls_test_ca_crt[], mbedtls_test_cli_crt[];
extern const size_t mbedtls_test_ca_crt_len, mbedtls_test_cli_crt_len;

const char mbedtls_test_ca_crt[] = "";
const size_t mbedtls_test_ca_crt_len = sizeof(mbedtls_test_ca_crt);
const char mbedtls_test_cli_crt[] = "";
const size_t mbedtls_test_cli_crt_len = sizeof(mbedtls_test_cli_crt);
