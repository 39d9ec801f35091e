# The package as its users meet it: in a Debian where nothing of ours has ever been, which systemd
# has booted, with a card of its own in a network with two phones. Every namespace is this script's
# and ends with it. Run by `cargo xtask dist --try` as: unshare --mount --net --pid --fork bash
# try.sh ROOT DIRECTORY-OF-PACKAGES NEW OLD.
set -euo pipefail
root=$1 packages=$2 new=$3 old=$4

exec 3>&2
say() { echo "--> $*" >&3; }
die() { echo "try: $*" >&2; exit 1; }
# Waits up to 30 s for a command to succeed.
until_done() {
    for _ in $(seq 300); do
        if "$@" > /tmp/until 2>&1; then return; fi
        sleep 0.1
    done
    cat /tmp/until /tmp/calls /tmp/*/log >&2 2> /dev/null || true
    die "not within 30 s: $*"
}

mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# One LAN: the host, two phones.
for name in lan edge a b; do ip netns add $name; ip -n $name link set lo up; done
ip -n lan link add name lan type bridge
ip -n lan link set lan up
for name in edge a b; do
    ip -n lan link add name $name type veth peer name eth0 netns $name
    ip -n lan link set dev $name up master lan
    ip -n $name link set eth0 up
    # Sums are left to no card, and the card at the other end takes what a program sends.
    ip netns exec $name ethtool -K eth0 tx off > /dev/null
    ip netns exec lan ethtool -K $name gro on > /dev/null
done
ip -n edge address add 10.0.0.3/24 dev eth0
ip -n a address add 10.0.0.21/24 dev eth0
ip -n b address add 10.0.0.22/24 dev eth0

say "boot"
SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes systemd-nspawn --quiet --directory "$root" --volatile=overlay \
    --machine towpath-try --register=no --keep-unit --kill-signal=SIGKILL --console=read-only \
    --network-namespace-path=/run/netns/edge --capability=all --system-call-filter=bpf \
    --bind-ro="$packages":/mnt --boot > /tmp/boot 2>&1 < /dev/null &
nspawn=$!
trap 'kill -KILL $nspawn' EXIT
leader() { leader=$(cat /proc/$nspawn/task/$nspawn/children | cut -d ' ' -f 1); [ -n "$leader" ]; }
inside() { nsenter --target "$leader" --all env -i PATH=$PATH HOME=/root LC_ALL=C.UTF-8 "$@"; }
# What is a child at first makes the machine and ends.
is_up() { leader && inside systemctl is-system-running --wait | grep -qE 'running|degraded'; }
until_done is_up
inside mountpoint -q /sys/fs/bpf || inside mount -t bpf -o mode=0755 bpf /sys/fs/bpf
files() {
    inside find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /mnt \
        -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt \
        -o -path /var/lib/systemd -o -path /var/tmp \) -prune -o -print | LC_ALL=C sort
}
files > /tmp/before

command=0
# What a new user types, counted.
user() {
    command=$((command + 1))
    say "$command: $*"
    inside "$@"
}

user apt-get install -y --no-install-recommends "/mnt/$old" > /tmp/apt
[ "$(inside stat -c '%a %U:%G' /etc/towpath/towpath.toml)" = "640 root:towpath" ] ||
    die "the configuration's owner"
inside systemctl is-enabled towpath > /tmp/enabled || true
grep -q disabled /tmp/enabled || die "it is started unasked: $(cat /tmp/enabled)"
code=0
inside towpath run --config /etc/towpath/towpath.toml 2> /tmp/refused || code=$?
[ $code = 78 ] || die "without a configuration 'run' ends with $code: $(cat /tmp/refused)"
user towpath init --account 1001 --account 1002 2> /tmp/init
word() { sed -n "s/^account $1: password //p" /tmp/init; }
domain=$(inside sed -n 's/^domain = "\(.*\)"/\1/p' /etc/towpath/towpath.toml)
user towpath check
user systemctl enable --now towpath 2> /tmp/enable
user towpath status

say "the rights of the daemon"
pid=$(inside systemctl show --property MainPID --value towpath)
inside cat "/proc/$pid/status" > /tmp/status
[ "$(inside stat -c %U "/proc/$pid")" = towpath ] || die "its user"
grep -q '^CapEff:	000000c000003000$' /tmp/status || die "$(grep Cap /tmp/status)"
grep -q '^NoNewPrivs:	1$' /tmp/status || die "new privileges"
grep -q '^Seccomp:	2$' /tmp/status || die "no filter of system calls"
inside towpath bpf status

phone() {
    mkdir /tmp/$1
    sox -n -r 8000 -c 1 -b 16 /tmp/$1/tone.wav synth 300 sine 440 2> /dev/null
    cat > /tmp/$1/config <<END
sip_listen 0.0.0.0:5060
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
audio_player aufile,/dev/null
audio_source aufile,/tmp/$1/tone.wav
audio_alert aufile,/dev/null
END
    echo "<sip:$2@$domain>;auth_user=$2;auth_pass=$(word $2);outbound=\"sip:10.0.0.3\"$3" \
        > /tmp/$1/accounts
    : > /tmp/$1/contacts
}
phone a 1001 ""
phone b 1002 ";answermode=auto"
say "$((command += 1)): the second phone"
ip netns exec b baresip -f /tmp/b > /tmp/b/log 2>&1 < /dev/zero &
registered() { inside towpath reg list | grep -q "1002@"; }
until_done registered
say "$((command += 1)): the first phone calls"
ip netns exec a baresip -f /tmp/a -e "/dial sip:1002@$domain" > /tmp/a/log 2>&1 < /dev/zero &
# Packets each way, by the kernel.
speaks() {
    inside towpath call list -o json > /tmp/calls
    grep -q '"state": *"established"' /tmp/calls
}
until_done speaks
user towpath call list
flows() {
    id=$(sed -n 's/.*"id": *\([0-9]*\).*/\1/p' /tmp/calls | head -n 1)
    inside towpath call show "$id" -o json > /tmp/call
    [ "$(grep -c '"path": *"xdp"' /tmp/call)" -ge 2 ]
}
until_done flows
say "a call with media through the kernel, $command commands after nothing"
[ $command -le 10 ] || die "$command commands"

say "upgrade: configuration and registrations stay"
inside sha256sum /etc/towpath/towpath.toml > /tmp/config-before
inside apt-get install -y --no-install-recommends "/mnt/$new" > /tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }
inside sha256sum /etc/towpath/towpath.toml | cmp - /tmp/config-before || die "configuration"
well() { inside towpath status > /tmp/well; }
until_done well
registered || die "who was registered is not"
[ "$(inside systemctl show --property MainPID --value towpath)" != "$pid" ] || die "the old daemon"
inside systemctl reload towpath
inside journalctl -u towpath --no-pager | tail -n 5 >&2

say "manual pages, completions, parameters"
inside towpath completions bash | bash -n
inside test -s /usr/share/man/man1/towpath-doctor.1.gz ||
    inside test -e /etc/dpkg/dpkg.cfg.d/excludes || die "manual pages"
# A file that is named and missing is no error of ours.
inside sh -c '/usr/lib/systemd/systemd-sysctl --cat-config 2> /dev/null || true' > /tmp/sysctl
grep -q '^net.core.rmem_max = 8388608' /tmp/sysctl || die "sysctl.d"
inside sh -c 'systemd-tmpfiles --cat-config 2> /dev/null || true' > /tmp/tmpfiles
grep -q '^d /sys/fs/bpf/towpath' /tmp/tmpfiles || die "tmpfiles.d"
inside dpkg-query -W -f '${Conffiles}' towpath | grep -q /etc/towpath/towpath.toml || die conffiles
inside systemd-analyze verify --man=no /usr/lib/systemd/system/towpath.service
inside systemd-analyze security towpath --no-pager | tail -n 1

say "removed: the configuration stays; purged: nothing does"
inside apt-get remove -y towpath > /tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }
inside test -e /etc/towpath/towpath.toml || die "removed, and the configuration is gone"
inside systemctl is-active towpath > /tmp/active || true
grep -qE 'inactive|unknown' /tmp/active || die "it still runs"
inside test ! -e /sys/fs/bpf/towpath || die "still pinned: $(inside ls /sys/fs/bpf/towpath)"
inside apt-get purge -y towpath > /tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }
files > /tmp/after
left=$(LC_ALL=C comm -13 /tmp/before /tmp/after | grep -vE '^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$' || true)
[ -z "$left" ] || die "purged, and still there: $left"
! inside getent passwd towpath || die "its user is still there"
say "installed, called, upgraded, removed; nothing is left"
