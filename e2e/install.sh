#!/usr/bin/env bash
# Installs what the end-to-end tests need and the machine lacks: Chromium from Debian, the SDKs from npm. Node and Go must be there.
set -euo pipefail
cd "$(dirname "$0")"

for tool in node npm go; do
	command -v "$tool" >/dev/null || { echo "the end-to-end tests need $tool: please install it" >&2; exit 1; }
done

need=()
command -v chromium >/dev/null || need+=(chromium)
command -v promtool >/dev/null || need+=(prometheus)
if [ ${#need[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || { echo "the end-to-end tests need ${need[*]}, and there is no apt-get: please install them" >&2; exit 1; }
	as_root=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1) # the Prometheus server comes along with promtool and is not to be started
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || { echo "the end-to-end tests need ${need[*]}: please install them, or run this as root" >&2; exit 1; }
		as_root=(sudo -n "${as_root[@]}") # sudo drops the environment; -n: CI has nobody to type a password
	fi
	echo "installing ${need[*]}"
	"${as_root[@]}" apt-get update -qq
	"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null </dev/null
fi

# Together, as they wait for the registry.
modules() {
	if [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
		npm ci --prefix "$1" --no-audit --no-fund --loglevel=error
		touch "$1/node_modules/.package-lock.json"
	fi
}
installs=()
for project in sdk hubspot-client openapi; do
	modules "$project" &
	installs+=($!)
done
for install in "${installs[@]}"; do
	wait "$install"
done
