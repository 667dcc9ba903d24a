#!/bin/sh
# Installs, upgrades and removes the InfiniService guest agent. `install-linux.sh --help` says how.
#
# Plain POSIX sh: it has to run under dash and busybox on images that hold little else.

# A trace would print the secret, automatic export hand it to every program.
set +ax
set -eu

# The secret leaves the environment before any other program starts; from here on only the shell's builtin printf handles it. A
# variable that came with the environment stays exported when it is assigned, hence the first unset.
unset secret installed_secret
secret=${INFINISERVICE_SHARED_SECRET-}
unset INFINISERVICE_SHARED_SECRET

# Decides what the patterns below take for a letter.
LC_ALL=C
export LC_ALL
PATH="${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH

root=${INSTALL_ROOT-}
root=${root%/}
unit_name=infiniservice.service
program=/usr/local/bin/infiniservice
unit=/etc/systemd/system/$unit_name
wanted=/etc/systemd/system/multi-user.target.wants/$unit_name
config_dir=/etc/infiniservice
config=$config_dir/config.toml
secret_file=$config_dir/secret
state_dir=/var/lib/infiniservice

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac

staged_program='' staged_unit='' staged_config='' staged_secret=''

usage() {
    cat <<'TEXT'
Installs the InfiniService guest agent, or upgrades it where it is installed.

  install-linux.sh normal VM_ID     install or upgrade, and start the service
  install-linux.sh --uninstall      remove the agent with its configuration, secret and state
  install-linux.sh --help           this text

VM_ID is the machine's identity on the host: letters, digits, '.', '_', '-', 128 at most.

The program `infiniservice` and the file `infiniservice.service` are taken from the script's own folder (in a source tree the program
from target/release). An upgrade keeps the configuration; a VM_ID or secret that differs from the installed one replaces that one, and
the script says so.

Environment:
  INFINISERVICE_SHARED_SECRET   the secret shared with the host; stored in /etc/infiniservice/secret, for root only.
                                Absent: an installed secret is kept; without one the agent sends metrics and refuses every request.
  INSTALL_ROOT                  install into the system under this folder, such as a mounted image, instead of /
TEXT
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install-linux.sh: %s\n' "$*" >&2
    exit 1
}

# Removes what a run that ended early left half done. Names are empty once a file is in its place.
discard_staged() {
    for staged in "$staged_program" "$staged_unit" "$staged_config" "$staged_secret"; do
        if [ -n "$staged" ]; then rm -f "$staged"; fi
    done
}

# An image folder may belong to whoever builds the image.
require_root() {
    if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
        fail "must run as root: it writes $program and $config_dir"
    fi
}

# The service manager runs here, as opposed to a chroot, a container or an image that is being built.
systemd_runs() {
    [ -d "$root/run/systemd/system" ] && command -v systemctl >/dev/null 2>&1
}

check_vm_id() {
    case $vm_id in
    '') fail "the VM_ID is empty. Use: install-linux.sh normal VM_ID" ;;
    [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) fail "the VM_ID may hold letters, digits, '.', '_' and '-', and starts with a letter or digit" ;;
    esac
    [ "${#vm_id}" -le 128 ] || fail "the VM_ID is ${#vm_id} characters long, 128 at most"
}

# The agent uses the secret's bytes as they are, so a line end that came along by mistake would make every signature wrong.
check_secret() {
    case $secret in
    *[[:cntrl:]]*) fail "INFINISERVICE_SHARED_SECRET holds a line end or another control character" ;;
    esac
}

# A secret that the configuration looks for elsewhere would be stored here in vain.
check_secret_file() {
    [ -n "$secret" ] && [ -f "$root$config" ] || return 0
    case $(config_value secret_file "$root$config") in
    '' | "$secret_file") ;;
    *) fail "$root$config names another secret_file: store the secret there, and run this without INFINISERVICE_SHARED_SECRET" ;;
    esac
}

find_sources() {
    source_program=$here/infiniservice
    if [ ! -f "$source_program" ]; then source_program=$here/../../target/release/infiniservice; fi
    [ -f "$source_program" ] || fail "no program: put 'infiniservice' beside this script ($here), or build it with cargo build --release"
    source_unit=$here/$unit_name
    [ -f "$source_unit" ] || fail "no unit: put '$unit_name' beside this script ($here)"
    case $(machine_of "$source_program") in
    '' | "$(machine_of /bin/sh)") ;;
    *) fail "$source_program is built for another kind of machine; this one is $(uname -m)" ;;
    esac
}

# Prints word size, byte order and machine from an ELF file's header, nothing for another file. Asked before the program is tried,
# because a shell that cannot execute a file runs it as a script.
machine_of() {
    [ "$(od -An -tx1 -N4 "$1" | tr -d ' ')" = 7f454c46 ] || return 0
    od -An -tx1 -j4 -N2 "$1"
    od -An -tx1 -j18 -N2 "$1"
}

# Copied before it is tried: the script's own folder may be mounted noexec.
stage_program() {
    mkdir -p "$root${program%/*}"
    staged_program=$(mktemp "$root${program%/*}/.infiniservice.XXXXXX")
    cat "$source_program" >"$staged_program"
    chmod 0755 "$staged_program"
    version=$("$staged_program" --version) ||
        fail "$source_program does not run on this machine ($(uname -m)): is it built for another C library?"
}

stage_unit() {
    mkdir -p "$root${unit%/*}"
    staged_unit=$(mktemp "$root${unit%/*}/.infiniservice.XXXXXX")
    cat "$source_unit" >"$staged_unit"
    chmod 0644 "$staged_unit"
}

new_config() {
    cat <<TEXT
# InfiniService, the guest agent. \`infiniservice --print-config\` shows every value and where it comes from.
# After a change: systemctl reload infiniservice

vm_id = "$vm_id"

# Requests from the host must be signed with the secret in $secret_file.
auth = "secret"

# What the host may have done here. An action that is not named is denied.
[permissions]
reads = "all"
changes = [
    "ServiceControl",
    "PackageInstall",
    "PackageRemove",
    "PackageUpdate",
    "ProcessKill",
    "DiskCleanup",
    "CleanTemporaryFiles",
    "UpdateSystemSoftware",
    "RestartServices",
    "RebootSystem",
    "AutoOptimizeDisk",
    "RunMaintenanceTask",
    "PrepareGoldenImage",
    "JoinDomain",
]
# Shell commands and scripts, which can do anything.
raw = "none"
TEXT
}

# Prints the value of a key that stands before the first table of a configuration: config_value KEY FILE
config_value() {
    sed -n -e '/^[[:space:]]*\[/q' -e "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" "$2"
}

# Prints the configuration with the new VM_ID and all else as it was.
config_with_vm_id() {
    if [ -n "$old_vm_id" ]; then
        sed -e "1,/^[[:space:]]*\\[/s/^[[:space:]]*vm_id[[:space:]]*=.*/vm_id = \"$vm_id\"/" "$root$config"
    else
        printf 'vm_id = "%s"\n' "$vm_id"
        cat "$root$config"
    fi
}

# A configuration that needs no change is not touched.
stage_config() {
    if [ ! -f "$root$config" ]; then
        config_note=new
        staged_config=$(mktemp "$root$config_dir/.config.XXXXXX")
        new_config >"$staged_config"
        chmod 0644 "$staged_config"
        return
    fi
    config_note=kept
    old_vm_id=$(config_value vm_id "$root$config")
    [ "$old_vm_id" != "$vm_id" ] || return 0
    config_note="kept, but vm_id is now \"$vm_id\" (was ${old_vm_id:-not set})"
    staged_config=$(mktemp "$root$config_dir/.config.XXXXXX")
    # For the owner and the mode, which somebody may have narrowed.
    cp -p "$root$config" "$staged_config"
    config_with_vm_id >"$staged_config"
}

check_config() {
    complaint=$("$staged_program" --check-config --config "${staged_config:-$root$config}" 2>&1) && return
    printf '%s\n' "$complaint" >&2
    fail "the program refuses the configuration; nothing was changed. Correct $root$config and run this again"
}

stage_secret() {
    if [ -z "$secret" ]; then
        secret_note=kept
        if [ ! -s "$root$secret_file" ]; then
            secret_note="none: the agent sends metrics and refuses every request until INFINISERVICE_SHARED_SECRET is given"
        fi
        return
    fi
    # mktemp makes it 0600, before there is anything in it.
    staged_secret=$(mktemp "$root$config_dir/.secret.XXXXXX")
    printf '%s' "$secret" >"$staged_secret"
    secret_note=new
    if [ -f "$root$secret_file" ]; then
        secret_note=replaced
        # Fails at the end of the file, which a secret without a line end reaches.
        IFS= read -r installed_secret <"$root$secret_file" || true
        if [ "$installed_secret" = "$secret" ]; then secret_note=kept; fi
    fi
    unset secret installed_secret
}

# Each rename is atomic: who starts the program meanwhile gets the old one or the new one, whole.
commit_staged() {
    if [ -n "$staged_secret" ]; then mv -f "$staged_secret" "$root$secret_file"; fi
    staged_secret=''
    if [ -n "$staged_config" ]; then mv -f "$staged_config" "$root$config"; fi
    staged_config=''
    mv -f "$staged_unit" "$root$unit"
    staged_unit=''
    mv -f "$staged_program" "$root$program"
    staged_program=''
}

report_files() {
    say "$version"
    say "  program        $root$program"
    say "  unit           $root$unit"
    say "  configuration  $root$config ($config_note)"
    say "  secret         $root$secret_file ($secret_note)"
    permissions=$(awk '/^[ \t]*\[/ { inside = /^[ \t]*\[permissions[].]/ } inside' "$root$config")
    if [ -n "$permissions" ]; then
        say "  permissions, from the configuration:"
        printf '%s\n' "$permissions" | sed -e 's/^/    /'
    else
        say "  permissions: the configuration has no [permissions] section, so the host may read, but change nothing"
    fi
}

# `restart` waits for READY=1, and at an upgrade replaces the running agent.
start_service() {
    if systemd_runs; then
        systemctl daemon-reload
        systemctl enable --quiet "$unit_name"
        if ! systemctl restart "$unit_name"; then
            explain_failed_start
            fail "installed, but the service did not start; see above"
        fi
        say "The service runs. Does it reach its host? See: journalctl -u infiniservice"
        return
    fi
    # Offline, this is all that enabling does.
    mkdir -p "$root${wanted%/*}"
    ln -sf "$unit" "$root$wanted"
    say "systemd does not run here: the service is enabled and starts when this system boots with systemd."
    say "Without systemd, start it from your init as root: $program"
}

explain_failed_start() {
    {
        say "--- systemctl status"
        systemctl status --no-pager --lines=20 "$unit_name" || true
        say "--- infiniservice --diagnose"
        "$root$program" --diagnose || true
    } >&2
}

install() {
    require_root
    check_vm_id
    check_secret
    check_secret_file
    find_sources
    umask 022
    mkdir -p "$root$config_dir"
    stage_program
    stage_unit
    stage_config
    check_config
    stage_secret
    commit_staged
    report_files
    start_service
}

# Files that the configuration put elsewhere are named, not removed. Nobody but the administrator put the secret there, and a wrong line
# must not cost what is somebody else's: with state_dir = "/var/log" the agent's auth.log is the system's.
name_files_elsewhere() {
    [ -f "$root$config" ] || return 0
    for key in state_dir secret_file; do
        elsewhere=$(config_value "$key" "$root$config")
        case $elsewhere in
        '' | "$state_dir" | "$secret_file") ;;
        *) say "Left in place, for the configuration named it ($key): $elsewhere" ;;
        esac
    done
}

uninstall() {
    require_root
    name_files_elsewhere
    if systemd_runs; then
        # Both fail where there is no such unit; what counts is that nothing runs.
        systemctl disable --quiet "$unit_name" 2>/dev/null || true
        systemctl stop "$unit_name" 2>/dev/null || true
        if systemctl is-active --quiet "$unit_name"; then fail "the service could not be stopped; nothing was removed"; fi
    fi
    rm -f "$root$wanted" "$root$unit" "$root$program"
    rm -rf "$root$unit.d" "$root/run/systemd/system/$unit_name.d" "$root$config_dir" "$root$state_dir"
    if systemd_runs; then
        systemctl daemon-reload
        systemctl reset-failed --quiet "$unit_name" 2>/dev/null || true
    fi
    say "InfiniService is removed. The journal keeps what it logged."
}

# A signal becomes an exit, and every exit passes here.
trap discard_staged EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

case ${1-} in
normal)
    [ "$#" -eq 2 ] || fail "use: install-linux.sh normal VM_ID"
    vm_id=$2
    install
    ;;
--uninstall)
    [ "$#" -eq 1 ] || fail "--uninstall takes no argument"
    uninstall
    ;;
-h | --help) usage ;;
'')
    usage >&2
    exit 2
    ;;
*) fail "unknown mode '$1'. The modes are: normal" ;;
esac
