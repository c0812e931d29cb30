#!/bin/sh
# Tells systemd of the unit. A server that runs is started again with the new program; none is started that did not run.
set -e
# dpkg gives files away by the names of the system that it runs on, which is not always the one that it installs into.
if [ "$1" = configure ] && [ -z "$2" ]; then
    chown root:kes /etc/kes /etc/kes/config.yml
    chown kes:kes /var/lib/kes
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    systemctl try-restart kes.service || true
fi
