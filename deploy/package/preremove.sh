#!/bin/sh
# Stops the server, but not for an upgrade: deb says "remove" then, rpm that no version stays.
set -e
case "$1" in
    remove | 0)
        if [ -d /run/systemd/system ]; then
            systemctl disable --now kes.service || true
        fi
        ;;
esac
