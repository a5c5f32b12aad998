#!/bin/sh
# Makes a virtual environment. In: the folder to make. Out: the folder, or one line that says what to install.
# Looks first, so that nobody meets a half-made environment: a Python of 3.11 or newer, with ensurepip.
set -eu
folder=$1

found=
for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$name
        break
    fi
done
if [ -z "$found" ]; then
    echo "Volant needs Python 3.11 or newer. Install it with:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y python3 python3-venv" >&2
    exit 1
fi
if ! "$found" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package=python3-venv
    case $(command -v "$found") in /usr/bin/python3 | /bin/python3) true ;; *) false ;; esac || package="python$version-venv"
    echo "This Python ($found $version) cannot make a virtual environment. Install the missing part with:" >&2
    echo "    sudo apt-get install -y $package" >&2
    exit 1
fi
echo "Making $folder with $("$found" --version)"
"$found" -m venv "$folder"
