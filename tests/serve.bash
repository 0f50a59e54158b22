# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs of the query service: certificates, and questions to a daemon that records.

# Variables of lab.bash and of the labs:
# shellcheck disable=SC2034,SC2154

# An authority and what it signs, in $DIR: ca, server (for ADDRESS), client.
certificates_make() { # ADDRESS
	authority_make ca
	certificate_make ca server serverAuth "IP:$1,DNS:recorder.test"
	certificate_make ca client clientAuth DNS:analyst.test
}

authority_make() { # NAME
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
		-subj "/CN=$1" -keyout "$DIR/$1.key" -out "$DIR/$1.crt" \
		-addext basicConstraints=critical,CA:TRUE 2>/dev/null
}

certificate_make() { # AUTHORITY NAME USAGE ALTERNATIVE
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
		-keyout "$DIR/$2.key" -out "$DIR/$2.csr" 2>/dev/null
	openssl x509 -req -in "$DIR/$2.csr" -CA "$DIR/$1.crt" -CAkey "$DIR/$1.key" -days 2 \
		-CAcreateserial -out "$DIR/$2.crt" 2>/dev/null \
		-extfile <(printf 'extendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4")
	chmod 600 "$DIR/$2.key"
}

query_at() { # ARGS...
	"$TIDEMARK" query --at "unix:$DIR/query" "$@"
}

# As whoever has the certificate of this name.
query_tls() { # NAME ARGS...
	local who=$1

	shift
	"$TIDEMARK" query --at "$TLS" --cert "$DIR/$who.crt" --key "$DIR/$who.key" \
		--ca "$DIR/ca.crt" "$@"
}

# A query in the background, its answer in $DIR/asking.N and words in $DIR/asked.N. Sets ASKING.
asking_start() { # N ARGS...
	"$TIDEMARK" query --at "unix:$DIR/query" "${@:2}" >"$DIR/asking.$1" 2>"$DIR/asked.$1" 3>&- &
	ASKING=$!
	PIDS+=("$ASKING")
}

answers() { # COUNT EXPRESSION
	[ "$(query_at --count "$2")" -ge "$1" ]
}

queries_are() { # COUNT
	[ "$(query_at --list --json | wc -l)" = "$1" ]
}

# Processes that answer for the daemon.
guests() {
	pgrep -P "$RUN" -f 'query --guest' || :
}

guests_are() { # COUNT
	[ "$(guests | wc -l)" = "$1" ]
}
