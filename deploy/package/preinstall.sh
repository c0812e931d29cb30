#!/bin/sh
# Makes the user of the service, before files appear that belong to it.
set -e
if id -u kes >/dev/null 2>&1; then
    exit 0
fi
if command -v systemd-sysusers >/dev/null 2>&1; then
    echo 'u kes - "KES key encryption service" /var/lib/kes' | systemd-sysusers -
else
    useradd --system --user-group --no-create-home --home-dir /var/lib/kes --shell /usr/sbin/nologin kes
fi
