# A system for one document: a network of its own, where all ports are free; processes of its own, which end with the first of them;
# and a tree where its folders are empty, nothing that it changes in /etc or /usr/local/bin is changed anywhere else, and everything
# goes away with the last process.
#
# usage: bash room.sh ROOT COMMAND..., in namespaces of its own. ROOT is an empty folder.
set -eu
root=$1
shift
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs "$root"

for entry in /*; do
  here=$root$entry
  case $entry in
    /data | /opt | /tmp) ;;
    # What only root may read is of no use without root.
    /etc) cp -a /etc "$here" 2>/dev/null || true ;;
    *)
      if [ -L "$entry" ]; then
        ln -s "$(readlink "$entry")" "$here"
      elif [ -d "$entry" ]; then
        mkdir "$here"
        mount --rbind "$entry" "$here"
      fi
      ;;
  esac
done
mount -t proc proc "$root/proc"
mkdir -m 755 "$root/data" "$root/opt" "$root/reader" "$root/programs" "$root/local"
mkdir -m 1777 "$root/tmp"

# What is installed stays there, by links.
mount --bind /usr/local/bin "$root/local"
mount --bind "$root/programs" "$root/usr/local/bin"
for program in /usr/local/bin/*; do
  ln -s "/local/${program##*/}" "$root/programs/${program##*/}"
done

# Whom this runs as may do everything here.
rm -f "$root/programs/sudo"
printf '#!/bin/sh\nexec "$@"\n' >"$root/programs/sudo"
chmod 755 "$root/programs/sudo"

# The repository and the peers, where they are below an emptied folder.
for folder in $KES_GUIDES_FOLDERS; do
  if [ ! -d "$root$folder" ]; then
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
  fi
done
cd /
exec chroot "$root" "$@"
