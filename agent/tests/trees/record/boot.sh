#!/bin/bash
# For the scripts of the machines: a small first root, a guest with a monitor and a line back, and the trees from what it sends.

# initramfs FILE MODULES_ROOT KERNEL MODULE...: loads the modules in this order and goes on with the root disk that `disk=` names.
initramfs() {
    local file=$1 modules_root=$2 kernel=$3 tree name path
    shift 3
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,dev,proc,sys,root,modules}
    cp /bin/busybox "$tree/bin/"
    depmod -b "$modules_root" "$kernel"
    # Each module with those that it needs before it; what is built in needs no loading.
    for name in "$@"; do
        modprobe -d "$modules_root" -S "$kernel" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        cp "$path" "$tree/modules/"
        echo "/modules/${path##*/}" >>"$tree/modules/list"
    done
    cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
while read -r module; do busybox insmod "$module"; done </modules/list
until [ -b "$disk" ]; do busybox usleep 100000; done
busybox mount "$disk" /root
for folder in proc sys dev; do busybox mount --move "/$folder" "/root/$folder"; done
exec busybox switch_root /root /sbin/init
INIT
    chmod +x "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$file"
    rm -r "$tree"
}

# start OPTION...: a guest whose monitor reads what is written to descriptor 3, whose console goes to console.log and whose second
# serial port to trees.tar.gz.
start() {
    rm -f monitor
    mkfifo monitor
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -nodefaults -no-user-config -display none -no-reboot \
        -serial file:console.log -serial file:trees.tar.gz -monitor stdio "$@" <monitor >monitor.log 2>&1 &
    guest=$!
    exec 3>monitor
}

# wait_for TEXT: until the console says it, or the guest ends.
wait_for() {
    until grep -aq "$1" console.log; do
        kill -0 "$guest" 2>/dev/null || { echo "the guest ended before '$1'; see $PWD/console.log" >&2; exit 1; }
        sleep 0.2
    done
}

# finish TREE: waits for the guest's end and unpacks what it sent. The second snapshot keeps only what changed.
finish() {
    wait "$guest"
    exec 3>&-
    rm -rf "${1:?}/t0" "$1/t1"
    mkdir -p "$1"
    tar -xzf trees.tar.gz --no-same-owner -C "$1"
    (cd "$1/t0" && find . -type f) | while read -r file; do
        [ -e "$1/t1/$file" ] || { echo "$1: a t1 without $file cannot be told from one where it did not change" >&2; exit 1; }
        ! cmp -s "$1/t0/$file" "$1/t1/$file" || rm "$1/t1/$file"
    done
    find "$1" -type d -empty -delete
}
