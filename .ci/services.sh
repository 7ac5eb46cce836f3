#!/bin/bash
# Bring up PostgreSQL and MariaDB on loopback, and install what else the tests need. What already serves is left alone.
# For machines that are there for tests only: as root on Debian, it lets everyone on this host into both databases.
set -euo pipefail

postgresql_serves() {
    psql -qw -h 127.0.0.1 -U postgres -c 'SELECT 1'
} &>/dev/null

mariadb_serves() {
    mariadb --protocol=tcp -h 127.0.0.1 -u root -e 'SELECT 1'
} &>/dev/null

mariadb_runs() {
    mariadb-admin --protocol=socket ping
} &>/dev/null

wait_until() { # CONDITION
    local deadline=$((SECONDS + 60))
    until "$1"; do
        if ((SECONDS >= deadline)); then
            echo "not after 60 s: $1" >&2
            exit 1
        fi
        sleep 0.1
    done
}

install_missing() { # COMMAND:PACKAGE...
    local packages=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    compgen -G '/usr/lib/*/qemu/block-curl.so' >/dev/null || packages+=(qemu-block-extra) # qemu-img's way to HTTP
    if ((${#packages[@]})); then
        echo "installing ${packages[*]}"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
    fi
}

start_postgresql() {
    local version config
    version=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
    config=/etc/postgresql/$version/main
    [ -d "$config" ] || pg_createcluster --locale C.UTF-8 "$version" main
    printf '%s\n' 'local all all trust' 'host all all 127.0.0.1/32 trust' >"$config/pg_hba.conf"
    # A test server may lose everything in a crash, and is much faster for it.
    printf '%s\n' "listen_addresses = '127.0.0.1'" 'port = 5432' 'fsync = off' 'max_connections = 200' \
        >"$config/conf.d/pyrimage.conf"
    pg_ctlcluster --skip-systemctl-redirect "$version" main restart
    wait_until postgresql_serves
}

start_mariadb() {
    if ! mariadb_runs; then
        install -d -o mysql -g mysql /run/mysqld
        setsid mariadbd --user=mysql --bind-address=127.0.0.1 --innodb-flush-log-at-trx-commit=0 \
            </dev/null &>>/var/log/mariadb-test.log &
        wait_until mariadb_runs
    fi
    mariadb --protocol=socket <<'SQL'
ALTER USER root@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('');
CREATE USER IF NOT EXISTS root@'127.0.0.1';
ALTER USER root@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('');
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
SQL
    wait_until mariadb_serves
}

install_missing make:make curl:curl wget:wget git:git strace:strace openssl:openssl nginx:nginx-light haproxy:haproxy \
    systemd-analyze:systemd logrotate:logrotate rsync:rsync sqlite3:sqlite3 \
    qemu-img:qemu-utils nbdkit:nbdkit nbdcopy:libnbd-bin pg_ctlcluster:postgresql pgbouncer:pgbouncer \
    mariadbd:mariadb-server
postgresql_serves || start_postgresql
mariadb_serves || start_mariadb
echo "PostgreSQL and MariaDB are up"
